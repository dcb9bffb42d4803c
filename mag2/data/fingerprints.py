"""Hashes of the data of a dataset, by which a resumed training checks that they are the same."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, overload

from mag2.data.features import ClipFeatures, concatenated_digest

if TYPE_CHECKING:
    from mag2.data.performances import Dataset

__all__ = ["COMPUTED", "Fingerprints"]


class Fingerprints:
    """The field `Dataset.fingerprints`: computed from the splits as they are; what is given beside them is kept."""

    @overload
    def __get__(self, dataset: None, owner: type) -> None: ...
    @overload
    def __get__(self, dataset: "Dataset", owner: type) -> Mapping[str, str]: ...
    def __get__(self, dataset: "Dataset | None", owner: type) -> Mapping[str, str] | None:
        return None if dataset is None else vars(dataset)["_given"] | _computed(dataset)

    def __set__(self, dataset: "Dataset", given: Mapping[str, str] | None) -> None:
        vars(dataset)["_given"] = dict(given or {})


COMPUTED = Fingerprints()  # the one descriptor; it keeps nothing itself


def _computed(dataset: "Dataset") -> dict[str, str]:
    train, test = dataset.train, dataset.test
    clips = str(train.clips) if train.clips == test.clips else f"{train.clips} {test.clips}"
    hashed = [dataset.name, dataset.target, repr(float(train.scale)), clips, str(len(train))]
    hashed += [f"minimum {float(train.minimum)!r}"] if train.minimum else []
    hashed += [f"crops {train.crops}"] if train.crops != "shortest" else []
    known = vars(dataset).setdefault("_digests", {})  # features cannot be changed, all else can
    for key, part in train._whole_features.items():
        if key not in known:
            known[key] = ClipFeatures.joined_digest(part, test._whole_features[key])
    return {"videos": concatenated_digest([*hashed, *train._described(), *test._described()]), **known}
