"""Datasets that can be simulated: how performances are scored, and which files are written."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from mag2.data.features import ClipFeatures
from mag2.data.programme import Programme
from mag2.data.spec import DatasetSpec

__all__ = ["GRID", "MARK_NOISE", "ScoreSheet", "SimulatableSpec", "by_rank", "noisy", "on_grid"]

# Simulated features lie on this grid, on which adding and averaging two views is exact in float32.
GRID = 4096.0

# How a mark strays from the quality that it is for, in standard deviations of that quality.
MARK_NOISE = 0.3


@dataclass(frozen=True, repr=False)
class ScoreSheet:
    """The scores of simulated videos, as the label files of a simulation have them.

    Attributes:
        names: of n videos, those for training first.
        scores: n numbers for each column of the label files.
        performance_of: (n,) integers, which of the n drawn performances each video shows; None: video i shows
            performance i.
        real: whether the scores and the split are those of real videos.
    """

    names: list[str]
    scores: dict[str, list[float]]
    performance_of: NDArray[np.int64] | None = None
    real: bool = False

    def __repr__(self) -> str:
        return f"ScoreSheet({len(self.names)} videos, {', '.join(self.scores)}{', real' if self.real else ''})"


class SimulatableSpec(DatasetSpec):
    """A dataset that `mag2.data.simulate` can draw.

    Attributes:
        length: fewest and most clips of a simulated video by default.
        widths: of its features, by modality; those of the released features.
        variants: names of the ways in which its files can be written, the default first.
    """

    length: ClassVar[tuple[int, int]]
    widths: ClassVar[Mapping[str, int]]
    variants: ClassVar[tuple[str, ...]] = ("files",)

    @property
    def programmes_of(self) -> str | None:
        """Name of the dataset of real programmes that `programmes` returns, for titles; None without any."""
        return None

    def programmes(self) -> tuple[Sequence[Programme], Sequence[Programme]] | None:
        """Return real performances for train and test, whose scores are kept; None (the default) if they are drawn."""
        return None

    @abstractmethod
    def judge(self, technical: NDArray, component: NDArray, train: int, rng: np.random.Generator) -> ScoreSheet:
        """Score n drawn performances.

        Args:
            technical: (n,) technical quality.
            component: (n,) component quality.
            train: number of videos for training.
            rng: source of all random numbers.
        """

    @abstractmethod
    def label(self, sheet: ScoreSheet, target: str, video: int, where: str) -> float:
        """Return the label in [0, 1] that `read_labels` would return for a video of a simulation.

        Args:
            sheet: the scores.
            target: one of `targets`.
            video: number of the video in the sheet.
            where: origin of the label, for errors.
        """

    def videos(self, sheet: ScoreSheet, target: str) -> list[int]:
        """Return the numbers of the videos in `sheet` that are scored on a target; all of them by default."""
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
        """Write labels and features into a folder, so that `read` returns exactly these.

        Args:
            folder: an existing folder.
            sheet: names and scores.
            features: of each modality.
            train: number of videos for training, which come first.
            variant: one of `variants`.
            rng: source of all random numbers."""


def by_rank(values: NDArray, span: tuple[float, float, float, float]) -> list[float]:
    """Map the ranks of values to quantiles of low + (high - low) Beta(a, b); `span` is (low, high, a, b).

    The results have two decimals, as published scores have.
    """
    low, high, a, b = span
    rank = np.empty(len(values))
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    quantile = betaincinv(a, b, (rank + 0.5) / len(values))
    # Python's round gives the float nearest to the decimal, which is the float that its text parses to.
    return [round(float(value), 2) for value in low + (high - low) * quantile]


def noisy(values: NDArray, noise: float, rng: np.random.Generator) -> NDArray:
    """Return the values plus normal noise of `noise` times their standard deviation."""
    return values + noise * values.std() * rng.standard_normal(len(values))


def on_grid(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows themselves, rounded to the grid in place."""
    rows *= GRID
    np.rint(rows, out=rows)
    rows /= GRID
    rows += 0  # -0.0 becomes 0.0, as it would when two views are averaged
    return rows
