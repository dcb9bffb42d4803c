"""What a dataset tells the simulator: how it scores performances, and the files that it keeps them in."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.performances import Dataset
from mag2.data.reading import SIMULATED

# Simulated features lie on this grid, on which adding and averaging two crops is exact in float32.
GRID = 4096.0

# How a mark strays from the quality that it is for, in standard deviations of that quality.
MARK_NOISE = 0.3


@dataclass(frozen=True)
class ScoreSheet:
    """Who got which scores: what the label files of a simulation say.

    Attributes:
        names: of n videos, those for training first.
        scores: n numbers for each column, as the label files have them.
        shows: (n,) integers, which of the n performances each video shows; as they come where it is None.
        real: the scores and the split are those of real videos.
    """

    names: list[str]
    scores: dict[str, list[float]]
    shows: NDArray[np.int64] | None = None
    real: bool = False


# The datasets by name, each as its own file describes it.
DATASETS: "dict[str, type[Layout]]" = {}


class Layout(ABC):
    """A dataset as the simulator and the tables see it; a dataset's own file has the one subclass there is for it.

    To define the subclass is to make the dataset known: it joins `DATASETS`.

    Attributes:
        name: the dataset's, the key of its targets and scales.
        sport: whose action texts its performances are made of.
        clips: the length of a crop by default.
        length: fewest and most clips of a simulated video by default.
        widths: of the features it has, by modality; those of the released features.
        variants: the names of the ways it lies on disk, the default first.
        places: every file or folder of features that any variant has, relative to the dataset's folder.
        read: its loader, `read(folder, target, clips=...)`.
    """

    name: ClassVar[str]
    sport: ClassVar[str]
    clips: ClassVar[int]
    length: ClassVar[tuple[int, int]]
    widths: ClassVar[Mapping[str, int]]
    variants: ClassVar[tuple[str, ...]] = ("files",)
    places: ClassVar[Sequence[str]]
    read: ClassVar[Callable[..., Dataset]]

    def __init_subclass__(cls, **settings: Any) -> None:
        """Join the datasets."""
        super().__init_subclass__(**settings)
        if hasattr(cls, "name"):
            DATASETS[cls.name] = cls

    @abstractmethod
    def judge(self, technical: NDArray, component: NDArray, train: int, rng: np.random.Generator) -> ScoreSheet:
        """Score n performances by their technical (n,) and component (n,) quality; `train` videos are for training."""

    @abstractmethod
    def label(self, sheet: ScoreSheet, target: str, video: int, where: str) -> float:
        """The label in [0, 1] that the dataset's loader would make of a video's scores; `where` is for errors."""

    def videos(self, sheet: ScoreSheet, target: str) -> list[int]:
        """The videos that are scored on a target; all of them, unless targets have videos of their own."""
        return list(range(len(sheet.names)))

    @abstractmethod
    def write(
        self,
        folder: Path,
        sheet: ScoreSheet,
        features: Mapping[str, ClipFeatures],
        *,
        train: int,
        variant: str,
        rng: np.random.Generator,
    ) -> None:
        """Write labels and features; the dataset's loader reads exactly these."""


def by_rank(values: NDArray, span: tuple[float, float, float, float]) -> list[float]:
    """The values' ranks as quantiles of low + (high - low) Beta(a, b), to two decimals as judges publish."""
    low, high, a, b = span
    rank = np.empty(len(values))
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    quantile = betaincinv(a, b, (rank + 0.5) / len(values))
    # Python's round gives the float nearest to the decimal, which is the float that its text parses to.
    return [round(float(value), 2) for value in low + (high - low) * quantile]


def noisy(values: NDArray, noise: float, rng: np.random.Generator) -> NDArray:
    """The values as a judge sees them: with normal noise of `noise` times their standard deviation."""
    return values + noise * values.std() * rng.standard_normal(len(values))


def on_grid(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows themselves, rounded to the grid in place."""
    rows *= GRID
    np.rint(rows, out=rows)
    rows /= GRID
    rows += 0  # -0.0 becomes 0.0, as it would when two crops are averaged
    return rows


def start_folder(folder: Path, about: str, places: Iterable[str]) -> None:
    """Make a folder for simulated files, say so in it, and take an older simulation's features out of its places.

    Raises:
        DataError: the folder holds files that no simulation has written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / SIMULATED).is_file():
        raise DataError(f"{folder} holds other files: give a new or empty folder to the simulation")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SIMULATED).write_text(about, encoding="utf-8")
    for place in places:
        path = folder / place
        for old in [path] if path.is_symlink() or path.is_file() else path.glob("*.npy"):
            old.unlink()
        with suppress(OSError):  # no folder, or one with other things in it
            path.rmdir()


def write_rows(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write rows of a label file, the cells of a row with a blank between."""
    path.write_text("".join(" ".join(row) + "\n" for row in rows), encoding="utf-8")


def write_videos(folder: Path, names: Sequence[str], videos: Iterable[NDArray]) -> None:
    """Write one `<name>.npy` per video."""
    folder.mkdir(exist_ok=True)
    for name, video in zip(names, videos, strict=True):
        np.save(folder / f"{name}.npy", video)


def write_pickled(file: Path, names: Sequence[str], videos: Iterable[NDArray]) -> None:
    """Write all videos into one file, a dict name -> array as `numpy.save` pickles it."""
    np.save(file, np.array(dict(zip(names, videos, strict=True)), dtype=object), allow_pickle=True)
