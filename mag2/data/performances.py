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
from mag2.saving.sentences import check_name

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
        label: (n,) their labels: (score - minimum) / scale.
        scale: the range of the scores, above 0.
        features: the features of each modality: "visual" and, where they exist, "audio", "flow" and "vision_language".
        clips: T, the length of every crop.
        crops: for videos whose modalities differ in length. "shortest": the video ends with its shortest modality.
            "released", as MLAVL's loader crops: the crop is placed by the length of the visual features; a shorter
            modality is padded with zeros; in a crop that is longer than the visual features, a longer modality is kept.
            A random crop then never begins at the last possible start.
        minimum: the score of a label of 0.
        groups: (n,) the group of each video (an athlete, a surgeon), for splits and folds; None where it is not known.

    Raises:
        ValueError: an unknown modality or value of `crops`, no visual features, not one entry per video, a label
            outside [0, 1], `clips` below 1, or a scale that is not above 0.
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
        check_name("crops", crops, CROPS)
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
        """Return the performances `index` (m,), in this order; their features are not copied.

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
        """Convert labels or predictions in [0, 1] to scores in the target's units: minimum + scale * label."""
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
        """Return the performances `index` (B,) as a `Batch`, cropped and padded with zeros at the end.

        All modalities of a video are cropped at the same start.

        Args:
            index: numbers of the videos.
            generator: for training: every crop begins at a random clip, and all starts that fill the crop are equally
                likely. Without it (evaluation) the crop is the middle of the video.
            clips: T, the length of the crops; by default the one that the split was made with.

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

    Attributes:
        name: of the dataset.
        target: the score that the labels are of.
        train, test: the two splits.
        simulated: whether features or scores were drawn; every result shows it.
        fingerprints: hashes of the data: "videos" of names, labels, lengths, target and crop length, and one of the
            features of each modality. Two datasets with the same fingerprints give the same batches; a resumed training
            compares them. A modality that is added later changes no other fingerprint, unless it makes videos shorter.
            They are always computed; hashes that you give under other names are added.
        validation: videos apart from both splits, for your own use; `mag2.training.fit` does not use it.

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
        """Build a dataset of N videos from arrays, tensors or `.npy` files.

        Arrays are copied once, into float32, integers too; truth values, complex numbers and objects are refused.
        Files are read once into a store that is mapped into memory; one file of float32 (N, T, D), or a memory map of
        it, is mapped without a copy.

        Args:
            features: a dict from modality ("visual" always; "audio", "flow", "vision_language") to the videos, or the
                videos of "visual" alone. Videos are a list of N arrays, tensors or paths of `.npy` files, each (T, D),
                or (T, K, D) with K views that are averaged; or one array, tensor or path for all, (N, T, D) or
                (N, T, K, D).
            scores: (N,) in the target's units.
            scale: the range of the scores; a label is (score - minimum) / scale, in [0, 1]. By default it is computed
                from the best score of the training split, and a warning is given.
            minimum: the lowest possible score.
            split: which videos are for testing: their share, drawn with `seed`; or a mask (N,) that is True for them;
                or two lists of indices, (train, test). Three lists (train, validation, test), three shares of sum 1, or
                a dict by these names make a validation split too. The default is a share of 0.25 (our choice).
            groups: (N,) the group of each video (an athlete, a surgeon). All videos of a group are in one split: shares
                are met as nearly as this allows, and a mask or lists that divide a group are refused.
            seed: seed of a split that is drawn.
            names: (N,) different names; by default those of the files, else "video-0", "video-1", ...
            clips: T, the length of every crop; by default that of the longest video, so that nothing is cut, and
                shorter videos are padded with zeros.
            name: name of the dataset.
            target: name of the score.
            simulated: whether features or scores were drawn; every result shows it.
            cache: folder of the store; by default `.mag2-cache` beside the first file or, where that cannot be written,
                a folder of the user's cache.

        Raises:
            DataError: one sentence with the argument that does not fit and what to give.
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
    """Build a dataset from labelled videos and their features.

    It gives one warning where modalities of a video differ in length, with the number of such videos.

    Args:
        name: of the dataset.
        target: the score that the labels are of.
        scale: the number that the scores were divided by.
        clips: T, the length of every crop.
        train, test: the labelled videos of the two splits.
        features: of each modality, the videos of train followed by those of test.
        simulated: whether the features were drawn.
        crops: "shortest" or "released", as in `Performances`.
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
