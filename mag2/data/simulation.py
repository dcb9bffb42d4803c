"""A simulation: performances, everything that was planted in them, and the dataset that they make."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures, spread
from mag2.data.labels import Example
from mag2.data.performances import VISION_LANGUAGE, Dataset, assemble, crop_starts
from mag2.data.simulatable import ScoreSheet, SimulatableSpec, on_grid
from mag2.data.writing import start_folder

__all__ = ["Simulation"]


@dataclass(frozen=True, eq=False, repr=False)
class Simulation:
    """Simulated performances and everything that was planted in them; lists hold train first, then test.

    Attributes:
        spec: the dataset that they are simulated as.
        seed: the seed of all random numbers.
        n_train: number of videos for training, the first ones of all n.
        sheet: the videos' names and scores.
        features: ClipFeatures of each modality.
        technical: (n,) the technical quality.
        component: (n,) the component quality.
        action: for each video (T,) integers, the action of each clip, -1 in transitions.
        fit: for each video (T,) integers, 1 where the music fits, 0 where not, -1 in transitions.
        q: for each video (T,) floats, the execution in [0, 1], NaN in transitions.
        texts: (M, Dt) float32, the centred unit vectors e_k.
        visual_map: (D, Dt) float32 with orthonormal columns if the simulation is aligned, else None:
            `clips @ visual_map` is in the space of `texts`, as CLIP's image features are in that of its texts.
        top1: share of the planted actions in the test split's crops that the vision_language features name, if noise
            was added to them; else None.
    """

    spec: SimulatableSpec
    seed: int
    n_train: int
    sheet: ScoreSheet
    features: dict[str, ClipFeatures]
    technical: NDArray[np.float64]
    component: NDArray[np.float64]
    action: list[NDArray[np.int64]]
    fit: list[NDArray[np.int64]]
    q: list[NDArray[np.float64]]
    texts: Tensor
    visual_map: Tensor | None
    top1: float | None = None

    def __repr__(self) -> str:
        features = ", ".join(f"{modality} {part.width}" for modality, part in self.features.items())
        videos = f"{self.n_train} train and {len(self.names) - self.n_train} test videos"
        lengths = spread(self.features["visual"].lengths)
        return f"Simulation({self.spec.name}, {videos} of {lengths} clips; {features}; seed {self.seed})"

    @property
    def sport(self) -> str:
        """The sport of the actions of the performances."""
        return self.spec.sport

    @property
    def names(self) -> list[str]:
        """The n videos' names."""
        return self.sheet.names

    @property
    def scores(self) -> dict[str, list[float]]:
        """The n scores of each column of the label files, as in the files: FS1000's PCS includes the factor."""
        return self.sheet.scores

    @property
    def factor(self) -> list[float]:
        """The n program factors; 1 where the dataset has none."""
        return self.scores.get("factor", [1.0] * len(self.names))

    def dataset(self, target: str, clips: int | None = None) -> Dataset:
        """Return the dataset that its loader would read from the written files, marked as simulated.

        Args:
            target: a target of the dataset.
            clips: T, the length of every crop; that of the loader by default.
        """
        self.spec.require_target(target)
        videos = self.spec.videos(self.sheet, target)
        examples = []
        for video in videos:
            where = f"simulated {self.names[video]}"
            examples.append(Example(self.names[video], self.spec.label(self.sheet, target, video, where), where))
        border = sum(video < self.n_train for video in videos)
        return assemble(
            self.spec.name,
            target,
            scale=self.spec.scales[target],
            clips=self.spec.clips if clips is None else clips,
            train=examples[:border],
            test=examples[border:],
            features={key: self._chosen(part, videos) for key, part in self.features.items()},
            simulated=True,
        )

    def planted_actions(self, split: str, clips: int | None = None, *, target: str | None = None) -> Tensor:
        """Return the planted actions in the centre crops of a split, (n, clips), -1 in transitions and padding.

        Args:
            split: "train" or "test".
            clips: length of the crops; that of the loader by default.
            target: the rows are those of `dataset(target)`. Give it where every target has its own videos, as in RG;
                by default the rows are all videos of the split.

        Raises:
            ValueError: another split, or no such target.
        """
        splits = {"train": range(self.n_train), "test": range(self.n_train, len(self.names))}
        if split not in splits:
            raise ValueError(f"planted_actions wants 'train' or 'test', got {split!r}")
        if target is not None:
            self.spec.require_target(target)
        clips = self.spec.clips if clips is None else clips
        chosen = range(len(self.names)) if target is None else self.spec.videos(self.sheet, target)
        videos = [self.action[video] for video in chosen if video in splits[split]]
        starts = crop_starts(np.asarray([len(video) for video in videos], dtype=np.int64), clips)
        planted = torch.full((len(videos), clips), -1)
        for row, video, start in zip(planted, videos, starts.tolist(), strict=True):
            crop = video[start : start + clips]
            row[: len(crop)] = torch.from_numpy(crop)
        return planted

    def spoilt_map(self, top1: float, clips: int | None = None) -> tuple[Tensor, float]:
        """Return a noisy map to the space of the texts, by which a given share of the planted actions is named.

        It is the `visual_map` plus noise. The direction of the noise is the same for every share; its amount is found
        by bisection. The named action of a clip is the text with the highest cosine with the mapped clip.

        Args:
            top1: share of the planted actions in the test split's centre crops that are named correctly.
            clips: length of these crops; that of the loader by default.

        Returns:
            The map (D, Dt), and the share that it reaches.

        Raises:
            ValueError: the simulation is not aligned, or `top1` is not above chance or above the share without noise.
        """
        if self.visual_map is None:
            raise ValueError("only aligned simulations have a map to spoil: simulate with aligned=True")
        planted = self.planted_actions("test", clips)
        known = planted[planted >= 0]
        clean = self.visual_map
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(self.seed))
        # Products (n, M) of the n planted clips with the M texts, through the map and through the noise.
        planted_clips = self._centre_crops("test", planted.shape[1])[planted >= 0]
        by_map, by_noise = planted_clips @ clean @ self.texts.T, planted_clips @ noise @ self.texts.T

        def named(amount: float) -> float:
            return ((by_map + amount * by_noise).argmax(dim=1) == known).double().mean().item()

        chance, best = 1 / len(self.texts), named(0.0)
        if not chance < top1 <= best:
            raise ValueError(f"top1 is a share above chance, {chance:.3f}, and up to {best:.3f} here, got {top1}")
        low, high, middle = 0.0, 2.0, 0.0  # more noise names fewer
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (middle, high) if named(middle) > top1 else (low, middle)
        return clean + middle * noise, named(middle)

    def with_vision_language(self, visual_map: Tensor, top1: float | None = None) -> "Simulation":
        """Return the same simulation with vision_language features: the visual clips @ `visual_map`.

        Args:
            visual_map: (D, Dt): `self.visual_map`, or the map of `spoilt_map`.
            top1: share of the planted actions that these features name, recorded as an attribute.
        """
        visual = self.features["visual"]
        videos = [on_grid((visual.video(i) @ visual_map).numpy()) for i in range(len(visual))]
        return replace(self, features={**self.features, VISION_LANGUAGE: ClipFeatures.stack(videos)}, top1=top1)

    def write(self, folder: str | Path, variant: str | None = None) -> None:
        """Write the files of the dataset; its loader reads exactly these performances.

        `SIMULATED.txt`, which describes the folder, is written first.

        Args:
            folder: a new or empty folder, or one of an older simulation, whose features are removed.
            variant: "files", one file per video, or "dict", one file per modality; the dataset's first by default.

        Raises:
            ValueError: the dataset has no such variant.
            DataError: the folder holds files that no simulation has written.
        """
        variants = self.spec.variants
        if variant is not None and variant not in variants:
            raise ValueError(f"{self.spec.name} has no variant {variant!r}: choose one of {', '.join(variants)}")
        folder = Path(folder)
        start_folder(folder, self._description(), self.spec.feature_paths())
        self.spec.write(
            folder,
            self.sheet,
            self.features,
            train=self.n_train,
            variant=variant or variants[0],
            rng=np.random.default_rng(self.seed),
        )

    def write_fs1000(self, folder: str | Path) -> None:
        """Write the files of FS1000 into a folder, as `write` does; DataError if it is another dataset's simulation."""
        if self.spec.name != "FS1000":
            raise DataError(f"these are performances of {self.spec.name}, not FS1000: call write() for them")
        self.write(folder)

    def _centre_crops(self, split: str, clips: int) -> Tensor:
        """The visual clips (n, clips, D) in the crops of `planted_actions`."""
        videos = torch.arange(self.n_train) if split == "train" else torch.arange(self.n_train, len(self.names))
        visual = self.features["visual"]
        return visual.crop(videos, clips, crop_starts(visual.lengths[videos.numpy()], clips))

    def _chosen(self, part: ClipFeatures, videos: list[int]) -> ClipFeatures:
        if len(videos) == len(self.names):
            return part
        return ClipFeatures.stack([part.video(video).numpy() for video in videos])

    def _description(self) -> str:
        if self.spec.programmes_of is not None:
            what = "real programmes and scores, simulated features"
            scores = (
                f"Elements, their order and execution, scores and split are real, those of {self.spec.programmes_of}; "
                "the features belong to no video."
            )
        elif self.sheet.real:
            what = "real labels, simulated features"
            scores = f"The scores and the split are real, those of {self.spec.name}; the features belong to no video."
        else:
            what = "no athlete, no video, no judge"
            scores = "The scores were drawn with them."
        return (
            f"SIMULATED: {what}.\n\n"
            f"These files have the layout of {self.spec.name}. The features in them were drawn by\n"
            f"mag2.data.simulate to try out programs. {scores}\n"
            "They prove nothing about sport or about published results.\n\n"
            f"sport {self.sport}, seed {self.seed}, "
            f"{self.n_train} videos for training and {len(self.names) - self.n_train} for testing, "
            f"{self._alignment()}\n"
        )

    def _alignment(self) -> str:
        if VISION_LANGUAGE not in self.features:
            return "not aligned"
        share = "" if self.top1 is None else f", which names {self.top1:.0%} of the planted actions in test"
        return f"aligned: vision_language lies in the space of the visual texts{share}"
