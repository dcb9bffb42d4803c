"""What a training measured: one epoch, and all of them."""

import math
from dataclasses import dataclass, field

__all__ = ["Epoch", "History"]


@dataclass(frozen=True)
class Epoch:
    """What was measured after an epoch, on the test set and in the target's own units.

    Attributes:
        epoch: counted from 1. loss: mean over its batches. lr: learning rate of the epoch.
        spearman, mse, rl2: see `mag2.metrics`. seconds: for training and measuring.
    """

    epoch: int
    loss: float
    lr: float
    spearman: float
    mse: float
    rl2: float
    seconds: float


@dataclass(repr=False)
class History:
    """All epochs of a training, and its three results."""

    epochs: list[Epoch] = field(default_factory=list)

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
