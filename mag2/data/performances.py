"""One split of a dataset, the batches that are drawn from it, and the dataset."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mag2.data.arrays import own_data
from mag2.data.batch import Batch, common_lengths, crop_starts
from mag2.data.errors import DataError
from mag2.data.features import (
    MODALITIES,
    VISION_LANGUAGE,
    ClipFeatures,
    Crops,
    concatenated_digest,
    spread,
    whole_numbers,
)
from mag2.data.fingerprints import COMPUTED, Fingerprints
from mag2.data.labels import Example
from mag2.data.scores import checked_label, checked_name

__all__ = [
    "CROPS",
    "MODALITIES",
    "VISION_LANGUAGE",
    "Batch",
    "Dataset",
    "Performances",
    "assemble",
    "common_lengths",
    "crop_starts",
]

# What becomes of modalities of different length.
CROPS = ("shortest", "released")


class Performances:
    """One split of one dataset for one target.

    Shapes:
        label (n,) float32 in [0, 1]; minimum + label * scale is in the target's units (for FS1000's PCS: points after
        division by the program factor).

    Args:
        names: the videos' names, in the order of the label file.
        label: their labels.
        scale: what the scores, less the minimum, were divided by.
        features: "visual" and, where they exist, "audio", "flow" and "vision_language". Where the lengths of a video
            differ, it ends with the shortest.
        clips: T, the length of every crop.
        crops: "shortest": as above. "released", as MLAVL's loader crops where its modalities differ in length: a video
            is as long as its visual part, crops begin by that length, a modality that ends earlier is padded with
            zeros, and in a crop that is longer than the video one that ends later goes on. Random crops never take the
            last possible start there.
        minimum: the score of a label of 0.
        groups: for each video what it belongs to (an athlete, a surgeon), None where nothing is known.

    Raises:
        ValueError: the parts do not have one entry per video, a label lies outside [0, 1], or there is no visual part.
    """

    def __init__(
        self,
        names: Sequence[str],
        label: Tensor,
        *,
        scale: float,
        features: Mapping[str, ClipFeatures],
        clips: int,
        crops: str = "shortest",
        minimum: float = 0.0,
        groups: Sequence[Any] | None = None,
    ):
        if crops not in CROPS:
            raise ValueError(f"unknown crops {crops!r}; there are {', '.join(CROPS)}")
        if "visual" not in features or not set(features) <= {*MODALITIES, VISION_LANGUAGE}:
            raise ValueError(
                f"features are visual, audio, flow and vision_language, visual always; got {sorted(features)}"
            )
        if {len(label), *(len(part) for part in features.values())} != {len(names)}:
            raise ValueError(f"labels and features want one entry for each of the {len(names)} names")
        if clips < 1:
            raise ValueError(f"clips is the length of a crop, 1 or more, got {clips}")
        if not (math.isfinite(scale) and scale > 0 and math.isfinite(minimum)):
            raise ValueError(f"scale is a number above 0 and minimum a number, got {scale} and {minimum}")
        if groups is not None and len(groups) != len(names):
            raise ValueError(f"groups has {len(groups)} entries for {len(names)} videos: give one of each")
        self.names = list(names)
        self._exact = checked_label(label, self.names)
        self._label = self._exact.float()
        self.scale = scale
        self.minimum = minimum
        self.clips = clips
        self.crops = crops
        self.groups = None if groups is None else list(groups)
        self.lengths = features["visual"].lengths if crops == "released" else common_lengths(features)
        self._whole_features = dict(features)
        whole = crops == "released"
        self._features = {key: part if whole else part.shortened(self.lengths) for key, part in features.items()}
        # Of a subset: what it was taken from, and which of its videos.
        self._origin: tuple[Performances, NDArray[np.int64]] | None = None

    @property
    def label(self) -> Tensor:
        """The labels (n,) float32 in [0, 1]."""
        return self._label

    def subset(self, index: Sequence[int] | Tensor | NDArray[np.int64]) -> "Performances":
        """The performances `index` (m,), in this order; their features are not copied.

        Raises:
            ValueError: an index that is no video of the split.
        """
        videos = self._videos(index)
        part = Performances(
            [self.names[video] for video in videos.tolist()],
            self._exact[torch.from_numpy(videos)],
            scale=self.scale,
            features={key: part.subset(videos) for key, part in self._whole_features.items()},
            clips=self.clips,
            minimum=self.minimum,
            groups=self.groups and [self.groups[video] for video in videos.tolist()],
            crops=self.crops,
        )
        whole, taken = self._origin or (self, np.arange(len(self)))
        part._origin = (whole, taken[videos])
        return part

    def in_units(self, label: Tensor) -> Tensor:
        """Labels or predictions in [0, 1] as scores in the target's units."""
        return self.minimum + self.scale * label

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        widths = ", ".join(f"{modality} {width}" for modality, width in self.widths.items())
        lengths = f"of {spread(self.lengths)} clips, cropped to {self.clips}"
        return f"Performances({len(self)} videos {lengths}; {widths}; scale {self.scale:g})"

    @property
    def widths(self) -> dict[str, int]:
        """The width of each modality that the split has."""
        return {key: part.width for key, part in self._features.items()}

    def batch(
        self, index: Sequence[int] | Tensor, generator: torch.Generator | None = None, *, clips: int | None = None
    ) -> Batch:
        """The performances `index` (B,), cropped to `clips` and padded with zeros at the end.

        With a generator (training) every crop starts at a random clip, any start that fills the crop being
        as likely as any other; without (evaluation) it is the middle of the video. All modalities of a video have one
        start. `clips` is the length that the split was made with, unless given.

        Raises:
            ValueError: an index that is no video of the split, or `clips` below 1.
        """
        clips = self.clips if clips is None else clips
        videos = self._videos(index)
        starts = crop_starts(self.lengths[videos], clips, generator, last=self.crops != "released").numpy()
        if self.crops == "released":  # every modality has lengths of its own
            taken = {k: part.take(Crops(part.lengths, videos, clips, starts)) for k, part in self._features.items()}
        else:
            crops = Crops(self.lengths, videos, clips, starts)
            taken = {key: part.take(crops) for key, part in self._features.items()}
        audio, flow, vision_language = (taken.get(key) for key in ("audio", "flow", VISION_LANGUAGE))
        return Batch(taken["visual"], audio, flow, self._label[torch.from_numpy(videos)], vision_language)

    def _videos(self, index: Sequence[int] | Tensor | NDArray[np.int64]) -> NDArray[np.int64]:
        videos = whole_numbers(index)
        if ((videos < 0) | (videos >= len(self))).any():
            raise ValueError(f"there are videos 0 to {len(self) - 1} in this split, got {videos.tolist()}")
        return videos

    def _described(self) -> list[str]:
        """A line for each video, with everything but its features that batches depend on."""
        # Labels are described as precisely as they were given, unless somebody has changed them since.
        exact = torch.where(self._exact.float() == self._label, self._exact, self._label.double())
        lengths = common_lengths(self._whole_features)
        rows = zip(self.names, exact.tolist(), lengths.tolist(), strict=True)
        return [f"{name} {label!r} {length}" for name, label, length in rows]


@dataclass(frozen=True, repr=False)
class Dataset:
    """The splits of a dataset for one target.

    `simulated` marks drawn numbers; every result shows it.
    `fingerprints` are hashes: "videos" of names, labels, lengths, target and crop length, and one of each modality's
    features. Two datasets with the same fingerprints give the same batches, so a resumed training knows whether it has
    the data that it began with. A modality that is added later changes no other fingerprint, unless it cuts videos
    short. They are always computed; hashes of your own under other names are kept beside them.
    `validation` is kept apart from both splits, for choices of yours; `fit` does not read it.

    Raises:
        ValueError: a split without videos, or splits that differ in scale, minimum or features.
    """

    name: str
    target: str
    train: Performances
    test: Performances
    simulated: bool = False
    fingerprints: Fingerprints = COMPUTED
    validation: Performances | None = None

    def __post_init__(self) -> None:
        """Refuse splits that do not belong together."""
        for which, split in self._splits().items():
            if not len(split):
                raise DataError(f"the {which} split of {self.name} has no videos: put one or more there")
            for what in ("scale", "minimum", "widths"):
                if getattr(split, what) != getattr(self.train, what):
                    raise DataError(
                        f"the splits of {self.name} differ in {what}, {getattr(self.train, what)} in train and "
                        f"{getattr(split, what)} in {which}: make them alike"
                    )

    @classmethod
    def from_arrays(
        cls,
        features: Any,
        scores: Any,
        *,
        scale: float | None = None,
        minimum: float = 0.0,
        split: Any = 0.25,
        groups: Any = None,
        seed: int = 0,
        names: Sequence[str] | None = None,
        clips: int | None = None,
        name: str = "own",
        target: str = "score",
        simulated: bool = False,
        cache: str | Path | None = None,
    ) -> "Dataset":
        """A dataset of N videos whose features are arrays, tensors or `.npy` files.

        Arrays are copied once, into float32, integers too; truth values, complex numbers and objects are refused.
        Files are read once into a store that is mapped into memory; one file of float32 (N, T, D), or a memory map of
        it, is mapped as it is.

        Args:
            features: by modality ("visual" always, "audio", "flow", "vision_language") the videos, or those of
                "visual" alone. They are a list of N arrays or tensors (T, D), or (T, K, D) whose K views are averaged,
                or paths of `.npy` files that hold such an array; or one array, tensor or path for all, (N, T, D) or
                (N, T, K, D).
            scores: (N,) in the target's units.
            scale: the range of the scores; a label is (score - minimum) / scale and lies in [0, 1]. By default it is
                taken from the best score of the training split, with a warning that says so.
            minimum: the lowest score there can be.
            split: which videos are for testing: their share, drawn with `seed`; or a mask (N,) that is true for them;
                or two lists of indices, (train, test). Three lists (train, validation, test), three shares that add up
                to 1, or a dict by these names make a validation split too.
            groups: (N,) for each video what it belongs to (an athlete, a surgeon). No group is torn apart: shares are
                met as nearly as whole groups allow, and a mask or lists that tear one are refused.
            seed: of a split that is drawn.
            names: (N,) different texts; by default those of the files, else "video-0", "video-1", ...
            clips: T, the length of every crop; by default that of the longest video, so that nothing is cut and shorter
                videos end with zeros.
            name: the dataset's. target: what it is scored on.
            simulated: whether features or scores were drawn; every result will say so.
            cache: folder of the store; by default `.mag2-cache` beside the first file or, where that cannot be written,
                a folder of the user's cache.

        Raises:
            DataError: one sentence that says what does not fit and what to give.
        """
        own = own_data(
            features,
            scores,
            scale=scale,
            minimum=minimum,
            split=split,
            groups=groups,
            seed=seed,
            names=names,
            clips=clips,
            cache=cache,
        )
        _warn_of_lengths(name, own.features, "shortest")
        everything = Performances(
            own.names,
            torch.from_numpy(own.label),
            scale=own.scale,
            features=own.features,
            clips=own.clips,
            minimum=own.minimum,
            groups=own.groups,
        )
        splits = {part: everything.subset(index) for part, index in own.split.parts.items()}
        return cls(
            checked_name(name, "name"),
            checked_name(target, "target"),
            splits["train"],
            splits["test"],
            bool(simulated),
            validation=splits.get("validation"),
        )

    def __repr__(self) -> str:
        kind = ", simulated" if self.simulated else ""
        splits = self._splits()
        pad = max(map(len, splits)) + 2
        rows = [f"\n  {f'{name}:':{pad}}{split!r}" for name, split in splits.items()]
        return f"Dataset({self.name}, {self.target}{kind}{''.join(rows)})"

    @property
    def fingerprint(self) -> str:
        """One hash of all `fingerprints`."""
        return concatenated_digest([f"{part} {hash_}" for part, hash_ in sorted(self.fingerprints.items())])

    def _splits(self) -> dict[str, Performances]:
        between = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, **between, "test": self.test}


def assemble(
    name: str,
    target: str,
    *,
    scale: float,
    clips: int,
    train: Sequence[Example],
    test: Sequence[Example],
    features: Mapping[str, ClipFeatures],
    simulated: bool = False,
    crops: str = "shortest",
) -> Dataset:
    """Build a dataset from what every loader has.

    Args:
        name: the dataset's. target: what it is scored on. scale: what the scores were divided by.
        clips: the length of every crop.
        train: the labelled videos of the training split; `test` likewise.
        features: of each modality, the videos of train followed by those of test.
        simulated: whether the features were drawn.
        crops: "shortest" or "released", as `Performances` has them.

    Warns once where the modalities of a video differ in length, with the number of such videos.
    """
    _warn_of_lengths(name, features, crops)
    border, end = len(train), len(train) + len(test)

    def split(examples: Sequence[Example], begin: int, end: int) -> Performances:
        return Performances(
            [example.name for example in examples],
            torch.tensor([example.label for example in examples], dtype=torch.float64),
            scale=scale,
            features={key: part.part(begin, end) for key, part in features.items()},
            clips=clips,
            crops=crops,
        )

    return Dataset(name, target, split(train, 0, border), split(test, border, end), simulated)


def _warn_of_lengths(name: str, features: Mapping[str, ClipFeatures], crops: str) -> None:
    longest = np.max([part.lengths for part in features.values()], axis=0)
    excess = longest - common_lengths(features)
    if excess.any():
        warnings.warn(
            f"{int((excess > 0).sum())} of {len(excess)} videos of {name} have {', '.join(features)} "
            f"features of different length (by {excess.max()} clips at most); "
            + ("each ends with its shortest." if crops == "shortest" else "the shorter ones are padded with zeros."),
            stacklevel=5,  # the caller of a loader: this, assemble, DatasetSpec.read, the loader, its caller
        )
