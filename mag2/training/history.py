"""The measures of a training: of one epoch, and of all epochs."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["Epoch", "History"]


@dataclass(frozen=True)
class Epoch:
    """The measures after an epoch, on the test set.

    Attributes:
        epoch: number of the epoch, from 1.
        loss: mean training loss over its batches.
        lr: learning rate of the epoch.
        spearman: Spearman's rank correlation (`mag2.metrics.spearman`).
        mse: mean squared error in the target's units, squared (`mag2.metrics.mse`).
        rl2: R-l2 in percent (`mag2.metrics.relative_l2`).
        seconds: time for training and measuring.
        validation: the measure of a `Validation` on the training videos that are held back; None without one.
    """

    epoch: int
    loss: float
    lr: float
    spearman: float
    mse: float
    rl2: float
    seconds: float
    validation: float | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """The values by name, for files; without those that were not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(repr=False)
class History:
    """All epochs of a training, and its results.

    Attributes:
        epochs: the epochs in their order.
        predictions: for each epoch the scores (n,) of the n test videos, in [0, 1]; None for epochs whose scores were
            not kept, as in a checkpoint of version 0.1.
        chosen: number of the epoch whose weights the model has at the end: that of `Validation`, else the last.
    """

    epochs: list[Epoch] = field(default_factory=list)
    predictions: list[Tensor | None] = field(default_factory=list)
    chosen: int | None = None

    def __repr__(self) -> str:
        if not self.epochs:
            return "History(no epochs)"
        last, best = self.last, self.best_on_test
        result = f"last: Spearman {last.spearman:.3f}, MSE {last.mse:.4g}, loss {last.loss:.4g}"
        return (
            f"History({len(self.epochs)} epochs; {result}; best on test: {best.spearman:.3f} after epoch {best.epoch})"
        )

    @property
    def last(self) -> Epoch:
        """The result: the last epoch, a choice that does not use the test set."""
        return self.epochs[-1]

    @property
    def best_on_test(self) -> Epoch:
        """The epoch with the best Spearman on the test set itself: the protocol of the released scripts."""
        return max(self.epochs, key=lambda epoch: -math.inf if math.isnan(epoch.spearman) else epoch.spearman)

    @property
    def best_mse_on_test(self) -> Epoch:
        """The epoch with the smallest MSE on the test set; MLAVL's script reports it besides the best Spearman."""
        return min(self.epochs, key=lambda epoch: math.inf if math.isnan(epoch.mse) else epoch.mse)
