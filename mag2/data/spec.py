"""The description of a dataset for the loaders: its scores, its files, and how its labels are read."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.finding import FilesOf, find_files, find_labels
from mag2.data.labels import Example, require_labels, require_unique_names
from mag2.data.layouts import Layouts
from mag2.data.performances import MODALITIES, VISION_LANGUAGE, Dataset, assemble
from mag2.data.reading import OPTIONAL, Locations, is_simulated, listed, read_features, require_folder
from mag2.published import recipes

__all__ = ["DatasetSpec", "published_scales"]


class DatasetSpec(ABC):
    """One dataset: its targets, the places of its files, and how its labels are read.

    A dataset is one subclass in a file of its own; `mag2.data.register(TheSubclass())` registers it. Two specs of one
    class with equal attributes are equal.

    Attributes:
        name: name of the dataset in tables and commands.
        sport: the sport of its actions, a key of `mag2.vocabulary.ACTIONS` or `OTHER_ACTIONS`.
        scales: for each target the number that a score is divided by; the label is then in [0, 1].
        clips: T, the default length of a crop.
        label_files: the label files by argument name, relative to the dataset's folder.
        features: for each modality ("visual", "audio", "flow", "vision_language") the place of its features, relative
            to the folder: a folder of `<name>.npy`, a file of a pickled dict, or several, of which the first that
            exists is read.
        layouts: other layouts of its files, as they are downloaded.
        shipped: for a dataset that ships with the library: what of it is real and what its features are, in a few
            words; None for others.
        shipped_note: a further remark for pages with results.
    """

    name: ClassVar[str]
    sport: ClassVar[str]
    scales: ClassVar[Mapping[str, float]]
    clips: ClassVar[int]
    label_files: ClassVar[Mapping[str, str]]
    features: ClassVar[Mapping[str, Locations]]
    layouts: ClassVar[Layouts] = Layouts()
    shipped: ClassVar[str | None] = None
    shipped_note: ClassVar[str] = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the scores of the dataset."""
        return tuple(self.scales)

    @abstractmethod
    def read_labels(self, files: Mapping[str, Path], target: str) -> tuple[list[Example], list[Example]]:
        """Return the labelled videos of train and of test.

        Args:
            files: paths of the label files, by the keys of `label_files`.
            target: one of `targets`.

        Raises:
            DataError: one sentence that names the file and line.
        """

    def require_own(self, files: Mapping[str, Path], target: str) -> None:
        """Raise DataError unless label files are those of this dataset; called for files that a search found."""
        self.read_labels(files, target)

    def crop_length(self, features: Mapping[str, ClipFeatures]) -> int:
        """Return the length of every crop if none is requested: `clips` by default."""
        return self.clips

    def path_of(self, pattern: str | Path, target: str) -> str | Path:
        """Return the path for one target of a label file or of features, from its pattern; the pattern by default."""
        return pattern

    def store_name(self, target: str) -> str:
        """Return the prefix of the names of the feature stores; targets with different videos need different ones."""
        return "".join(letter for letter in self.name.lower() if letter.isalnum())

    def read(
        self,
        folder: str | Path,
        target: str,
        *,
        clips: int | None = None,
        label_files: Mapping[str, str | Path] | None = None,
        features: Mapping[str, Locations | None] | None = None,
        cache: str | Path | None = None,
        progress: Callable[[int, int], None] | None = None,
        label_folder: str | Path | None = None,
        feature_folder: str | Path | None = None,
        needs: Collection[str] | None = None,
        crops: str = "shortest",
    ) -> Dataset:
        """Read the dataset for one target.

        Files that are not at their usual places are searched for in the folder and below it (`mag2.data.layouts`).
        Labels are checked before any feature is read. Features are read once, into a store that later calls map into
        memory; the store is rebuilt when a file changes.

        Args:
            folder: contains the label files and the features, unless other places are given.
            target: one of `targets`.
            clips: T, the length of every crop; the dataset's own by default.
            label_files: paths instead of those in `self.label_files`, by the same keys, relative to `folder` or
                absolute.
            features: paths instead of those in `self.features`, likewise; None leaves a modality out. Flow and
                vision_language that do not exist are left out as well.
            cache: folder of the store; by default `<folder>/.mag2-cache` or, where that cannot be written, a
                folder of the user's cache (`$XDG_CACHE_HOME` or `~/.cache`).
            progress: called with the number of videos that are ready, counted once for each modality, and their total.
            label_folder, feature_folder: separate folders of labels and of features; both are searched in the same way.
            needs: the modalities that must exist; others that are not found are left out, and a line is logged. By
                default all modalities of the dataset except flow and vision_language.
            crops: for videos whose modalities differ in length: "shortest" or "released", as in `Performances`.

        Returns:
            The `Dataset`.

        Raises:
            DataError: one sentence that names the file and, if there is one, the line.
            ValueError: `clips` below 1, or unknown `crops`.
        """
        folder = Path(folder)
        self.require_target(target)
        _require_known(f"label file of {self.name}", label_files or {}, self.label_files)
        _require_known("modality", features or {}, (*MODALITIES, VISION_LANGUAGE))
        named = {**self.label_files, **(label_files or {})}
        require_folder(folder, self.name, *(self.path_of(pattern, target) for pattern in named.values()))
        own = FilesOf(
            name=self.name,
            folder=folder,
            label_files={key: self.path_of(pattern, target) for key, pattern in named.items()},
            features={
                key: self._for_target(value, target) for key, value in {**self.features, **(features or {})}.items()
            },
            chosen=_differing(label_files or {}, self.label_files) | _differing(features or {}, self.features),
            layouts=self.layouts.of_target(lambda pattern: str(self.path_of(pattern, target))),
            label_folder=None if label_folder is None else Path(label_folder),
            feature_folder=None if feature_folder is None else Path(feature_folder),
        )
        files = find_labels(own, lambda found: self.require_own(found, target))
        train, test = self.read_labels(files, target)
        for split, examples in (("train", train), ("test", test)):
            require_labels(examples, f"the {split} split of {self.name} for {target}")
        require_unique_names(train, test)
        needs = [key for key in self.features if key not in OPTIONAL] if needs is None else needs
        found = find_files(own, files, [*train, *test], needs)
        read = read_features(
            folder, found.features, [*train, *test], store_name=self.store_name(target), cache=cache, progress=progress
        )
        return assemble(
            self.name,
            target,
            scale=self.scales[target],
            clips=self.crop_length(read) if clips is None else clips,
            train=train,
            test=test,
            features=read,
            simulated=is_simulated(folder, found.every),
            crops=crops,
        )

    def read_shipped(self, target: str, *, clips: int | None = None) -> Dataset:
        """Return the dataset that ships with the library; only a spec with `shipped` has one.

        Args:
            target: one of `targets`.
            clips: T, the length of every crop; the dataset's own by default.

        Raises:
            DataError: no such target, or nothing is shipped.
        """
        raise DataError(f"no features of {self.name} ship with the library: read them from a folder")

    def feature_paths(self) -> list[str | Path]:
        """Return every path that may contain features, of any target, relative to the dataset's folder."""
        patterns = [path for locations in self.features.values() for path in listed(locations)]
        return list(dict.fromkeys(self.path_of(path, target) for path in patterns for target in self.targets))

    def require_target(self, target: str) -> None:
        """Raise DataError unless the dataset is scored on that target."""
        if target not in self.targets:
            raise DataError(f"{self.name} has no target {target!r}: choose one of {', '.join(self.targets)}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}, {self.sport}, targets {', '.join(self.targets)}>"

    def _for_target(self, locations: Locations | None, target: str) -> Locations | None:
        return locations and [self.path_of(path, target) for path in listed(locations)]


def _differing(given: Mapping[str, Any], usual: Mapping[str, Any]) -> frozenset[str]:
    """What is given and is not at its usual place."""
    return frozenset(key for key, place in given.items() if key not in usual or place != usual[key])


def _require_known(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise DataError(f"there is no {kind} {unknown[0]!r}: there are {', '.join(known)}")


def published_scales(name: str) -> dict[str, float]:
    """Return the scales of a dataset's targets in the paper (`mag2/published/recipes.csv`)."""
    return {target: known.score_scale for (dataset, target), known in recipes().items() if dataset == name}
