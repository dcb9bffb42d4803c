"""Validation on a share of the training set: when to stop, and which epoch to keep. The test set is not used for it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mag2.saving.sentences import check_name
from mag2.training.history import Epoch

__all__ = ["MEASURES", "Validation"]

# The measure of an epoch -> whether larger is better.
MEASURES = {"spearman": True, "mse": False}


@dataclass(frozen=True)
class Validation:
    """Hold back some training videos, and measure the model on them after each epoch, to choose an epoch.

    Attributes:
        share: share of the training videos that are held back, above 0 and below 1; 0.1 (our choice). At least 2 videos
            are held back, and at least 2 are trained on.
        videos: numbers of the training videos to hold back, instead of a share; for example whole groups.
        patience: number of epochs without a better one after which training stops; None never stops early.
        keep_best: True gives the model the weights of its best epoch at the end, False those of the last one.
        measure: "spearman", or "mse" in the target's units, squared.
        seed: seed of the choice of the videos; no other seed changes it.

    Raises:
        ValueError: a share outside (0, 1), a patience below 1, an unknown measure, or neither `patience` nor
            `keep_best`.
    """

    share: float = 0.1
    videos: tuple[int, ...] | None = None
    patience: int | None = None
    keep_best: bool = True
    measure: str = "spearman"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if not 0 < self.share < 1:
            raise ValueError(f"share is a part of the training videos, above 0 and below 1, got {self.share}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience is a number of epochs, 1 or more, got {self.patience}")
        check_name("measure", self.measure, MEASURES)
        if self.patience is None and not self.keep_best:
            raise ValueError("validation without patience and without keep_best changes nothing; leave it out")

    def split(self, n: int) -> tuple[Tensor, Tensor]:
        """Return the numbers of the videos to train on, and of those that are held back, of n training videos.

        Raises:
            ValueError: fewer than 2 videos in either part, or `videos` that are not different numbers from 0 to n - 1.
        """
        if self.videos is None:
            held = torch.randperm(n, generator=torch.Generator().manual_seed(self.seed))
            held = held[: max(2, min(round(self.share * n), n - 2))].sort().values
        else:
            held = torch.tensor(sorted(set(self.videos)), dtype=torch.long)
            if len(held) != len(self.videos) or (held < 0).any() or (held >= n).any():
                raise ValueError(f"videos of a validation are different numbers from 0 to {n - 1}")
        if len(held) < 2 or n - len(held) < 2:
            raise ValueError(
                f"validation needs 2 videos to measure on and 2 to train on; {n} training videos give "
                f"{len(held)} and {n - len(held)}"
            )
        kept = torch.ones(n, dtype=torch.bool)
        kept[held] = False
        return kept.nonzero().flatten(), held

    def best(self, epochs: list[Epoch]) -> Epoch:
        """Return the best epoch, the earliest of equal ones; nan is never better."""
        return max(epochs, key=lambda epoch: (self._worth(epoch), -epoch.epoch))

    def stops(self, epochs: list[Epoch]) -> bool:
        """Whether training ends after these epochs."""
        if self.patience is None or not epochs:
            return False
        return len(epochs) - self.best(epochs).epoch >= self.patience

    def _worth(self, epoch: Epoch) -> float:
        value = epoch.validation
        if value is None or math.isnan(value):
            return -math.inf
        return value if MEASURES[self.measure] else -value
