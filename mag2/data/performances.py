"""One split of a dataset, and the batches that are drawn from it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mag2.data.features import ClipFeatures, Crops, concatenated_digest, spread, whole_numbers
from mag2.data.labels import Example

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

MODALITIES = ("visual", "audio", "flow")
# Clips in the space of a text encoder: no model scores them. They give the similarity of clips and action texts.
VISION_LANGUAGE = "vision_language"
# What becomes of modalities of different length.
CROPS = ("shortest", "released")


@dataclass(repr=False)
class Batch:
    """A batch of cropped performances.

    Shapes:
        visual (B, T, D); audio (B, T, D) or None; flow (B, T, D) or None; label (B,) in [0, 1]; vision_language
        (B, T, D), of the same clips in the space of a text encoder, or None.
    """

    visual: Tensor
    audio: Tensor | None
    flow: Tensor | None
    label: Tensor
    vision_language: Tensor | None = None

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        shapes = [f"{name} {tuple(part.shape)}" for name, part in vars(self).items() if part is not None]
        dtype = str(self.visual.dtype).removeprefix("torch.")
        return f"Batch({', '.join(shapes)}; {dtype}, {self.visual.device})"

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Batch":
        """The batch on a device; `dtype` is for the features, the label always keeps float32 or more.

        In half precision two skaters a tenth of a point apart would have one label.
        """
        label_dtype = None if dtype is None else torch.promote_types(dtype, torch.float32)
        return Batch(
            self.visual.to(device, dtype),
            None if self.audio is None else self.audio.to(device, dtype),
            None if self.flow is None else self.flow.to(device, dtype),
            self.label.to(device, label_dtype),
            None if self.vision_language is None else self.vision_language.to(device, dtype),
        )


class Performances:
    """One split of one dataset for one target.

    Shapes:
        label (n,) float32 in [0, 1]; label * scale is in the target's units (for FS1000's PCS: points after
        division by the program factor).

    Args:
        names: the videos' names, in the order of the label file.
        label: their labels.
        scale: what the scores were divided by.
        features: "visual" and, where they exist, "audio", "flow" and "vision_language". Where the lengths of a video
            differ, it ends with the shortest.
        clips: T, the length of every crop.
        crops: "shortest": as above. "released", as MLAVL's loader crops where its modalities differ in length: a video
            is as long as its visual part, crops begin by that length, a modality that ends earlier is padded with
            zeros, and in a crop that is longer than the video one that ends later goes on. Random crops never take the
            last possible start there.

    Raises:
        ValueError: the parts do not have one entry per video, or there is no visual part.
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
        self.names = list(names)
        self.label = label
        self.scale = scale
        self.clips = clips
        self.crops = crops
        self.lengths = features["visual"].lengths if crops == "released" else common_lengths(features)
        whole = crops == "released"
        self._features = {key: part if whole else part.shortened(self.lengths) for key, part in features.items()}

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
        videos = whole_numbers(index)
        if ((videos < 0) | (videos >= len(self))).any():
            raise ValueError(f"there are videos 0 to {len(self) - 1} in this split, got {videos.tolist()}")
        starts = crop_starts(self.lengths[videos], clips, generator, last=self.crops != "released").numpy()
        if self.crops == "released":  # every modality has lengths of its own
            taken = {k: part.take(Crops(part.lengths, videos, clips, starts)) for k, part in self._features.items()}
        else:
            crops = Crops(self.lengths, videos, clips, starts)
            taken = {key: part.take(crops) for key, part in self._features.items()}
        audio, flow, vision_language = (taken.get(key) for key in ("audio", "flow", VISION_LANGUAGE))
        return Batch(taken["visual"], audio, flow, self.label[torch.from_numpy(videos)], vision_language)


@dataclass(frozen=True, repr=False)
class Dataset:
    """The two splits of a dataset for one target.

    `simulated` marks drawn numbers; every result shows it.
    `fingerprints` are hashes: "videos" of names, labels, lengths, target and crop length, and one of each modality's
    features. Two datasets with the same fingerprints give the same batches, so a resumed training knows whether it has
    the data that it began with. A modality that is added later changes no other fingerprint, unless it cuts videos
    short.
    """

    name: str
    target: str
    train: Performances
    test: Performances
    simulated: bool
    fingerprints: Mapping[str, str]

    def __repr__(self) -> str:
        kind = ", simulated" if self.simulated else ""
        return f"Dataset({self.name}, {self.target}{kind}\n  train: {self.train!r}\n  test:  {self.test!r})"

    @property
    def fingerprint(self) -> str:
        """One hash of all `fingerprints`."""
        return concatenated_digest([f"{part} {hash_}" for part, hash_ in sorted(self.fingerprints.items())])


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
            torch.tensor([example.label for example in examples], dtype=torch.float32),
            scale=scale,
            features={key: part.part(begin, end) for key, part in features.items()},
            clips=clips,
            crops=crops,
        )

    hashed = [name, target, repr(float(scale)), str(clips), str(border)]
    if crops != "shortest":
        hashed.append(f"crops {crops}")
    for example, length in zip((*train, *test), common_lengths(features).tolist(), strict=True):
        hashed.append(f"{example.name} {example.label!r} {length}")
    fingerprints = {"videos": concatenated_digest(hashed)} | {key: part.digest for key, part in features.items()}
    return Dataset(name, target, split(train, 0, border), split(test, border, end), simulated, fingerprints)


def crop_starts(
    lengths: NDArray[np.int64], clips: int, generator: torch.Generator | None = None, *, last: bool = True
) -> Tensor:
    """Where a crop of `clips` begins in videos of `lengths` (B,): random with a generator, else centred.

    `last` says whether the last possible start may come.
    """
    slack = torch.from_numpy(np.maximum(lengths - clips, 0))
    if generator is None:
        return slack // 2
    if not last:
        slack = (slack - 1).clamp(min=0)
    share = torch.rand(len(slack), generator=generator, device=generator.device, dtype=torch.float64).cpu()
    return (share * (slack + 1)).long()


def common_lengths(features: Mapping[str, ClipFeatures]) -> NDArray[np.int64]:
    """How many clips of each video all its modalities have."""
    return np.min([part.lengths for part in features.values()], axis=0)


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
