"""What a training measured: one epoch, and all of them."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["Epoch", "History"]


@dataclass(frozen=True)
class Epoch:
    """What was measured after an epoch, on the test set and in the target's own units.

    Attributes:
        epoch: counted from 1. loss: mean over its batches. lr: learning rate of the epoch.
        spearman, mse, rl2: see `mag2.metrics`. seconds: for training and measuring.
        validation: the measure of a `Validation` on training videos that were held back; None without one.
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
        """Its values by name, for files; without those that were not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(repr=False)
class History:
    """All epochs of a training, and its results.

    Attributes:
        epochs: in their order.
        predictions: for each epoch the scores (n,) of the n test videos, in [0, 1]; None of epochs whose scores were
            not kept, as those of a checkpoint of version 0.1.
        chosen: the number of the epoch whose weights the model has at the end: that of `Validation`, else the last.
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
        """The result: the last epoch, chosen before the test set was seen."""
        return self.epochs[-1]

    @property
    def best_on_test(self) -> Epoch:
        """The protocol of the released scripts: the epoch with the best Spearman on the test set itself."""
        return max(self.epochs, key=lambda epoch: -math.inf if math.isnan(epoch.spearman) else epoch.spearman)

    @property
    def best_mse_on_test(self) -> Epoch:
        """The epoch with the least MSE on the test set: MLAVL's script reports it apart from the best Spearman."""
        return min(self.epochs, key=lambda epoch: math.inf if math.isnan(epoch.mse) else epoch.mse)
