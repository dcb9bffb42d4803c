"""Simple baselines on features of fixed width: ridge regression, and the rank correlation of scores."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mag2.metrics import fisher_average, spearman
from mag2.programmes.performances import Performance

__all__ = ["Agreement", "Ridge", "fit_ridge", "rank_agreement"]

# Penalties that `fit_ridge` tries, in units of the largest squared singular value of the centred features.
PENALTIES = tuple(10.0**power for power in np.arange(-8, 1.25, 0.25))


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge regression: a score is ``features @ weights + intercept``.

    Attributes:
        weights: (d,).
        intercept: the constant.
        penalty: the chosen penalty, in the units of `fit_ridge`.
    """

    weights: NDArray[np.float64]
    intercept: float
    penalty: float

    def predict(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return the scores (n,) of features (n, d)."""
        return np.asarray(features, dtype=float) @ self.weights + self.intercept


def fit_ridge(features: ArrayLike, labels: ArrayLike, penalties: Sequence[float] = PENALTIES) -> Ridge:
    """Fit a ridge regression; the penalty is the one with the smallest leave-one-out squared error.

    It minimises ``||y - X w - b||^2 + penalty ||w||^2``; the intercept b has no penalty. Features are centred and not
    rescaled. The leave-one-out errors are computed in closed form.

    Args:
        features: (n, d), n at least 3.
        labels: (n,).
        penalties: penalties to choose from, relative to the largest squared singular value of the centred features, so
            that the choice does not depend on the unit of the features.

    Returns:
        The fitted `Ridge`.

    Raises:
        ValueError: other shapes, features that are equal in all rows, no penalties, or one that is not above 0.
    """
    x, y = np.asarray(features, dtype=float), np.asarray(labels, dtype=float)
    if x.ndim != 2 or y.shape != (len(x),) or len(x) < 3:
        raise ValueError(f"ridge regression needs features (n, d) and labels (n,), n >= 3; got {x.shape} and {y.shape}")
    if not len(penalties) or min(penalties) <= 0:
        raise ValueError(f"penalties are positive numbers, got {list(penalties)}")
    centre, mean = x.mean(axis=0), float(y.mean())
    left, singular, right = np.linalg.svd(x - centre, full_matrices=False)
    if singular[0] <= 1e-12 * max(1.0, float(np.abs(x).max())):
        raise ValueError("ridge regression needs features that differ from row to row")
    along = left.T @ (y - mean)

    def left_out_error(penalty: float) -> float:
        shrink = singular**2 / (singular**2 + penalty)
        fitted, leverage = left @ (shrink * along), (left**2) @ shrink + 1 / len(x)
        return float(np.mean(((y - mean - fitted) / np.maximum(1 - leverage, 1e-12)) ** 2))

    penalty = min((float(each * singular[0] ** 2) for each in penalties), key=left_out_error)
    weights = right.T @ (singular / (singular**2 + penalty) * along)
    return Ridge(weights, mean - float(centre @ weights), penalty)


@dataclass(frozen=True)
class Agreement:
    """Spearman's rho between predictions and scores of performances.

    Attributes:
        overall: over all performances; it is high for any prediction that separates disciplines and segments.
        within: the Fisher average of rho within each discipline and segment, where this separation does not help.
        groups: rho within each group, by (discipline, segment).
    """

    overall: float
    within: float
    groups: dict[tuple[str, str], float]


def rank_agreement(prediction: ArrayLike, performances: Sequence[Performance], target: str) -> Agreement:
    """Compute Spearman's rho between predictions and the scores of n performances, overall and within groups.

    A group is a discipline and segment; juniors and seniors are in one group.

    Args:
        prediction: (n,) scores.
        performances: the n performances.
        target: the score to compare with, TES for example.

    Returns:
        An `Agreement`.

    Raises:
        ValueError: another number of predictions, no such target, or a group of one performance.
    """
    predicted = np.asarray(prediction, dtype=float)
    scores = np.array([each.score(target) for each in performances])
    overall = spearman(predicted, scores)
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, each in enumerate(performances):
        members[each.discipline, each.segment].append(i)
    groups = {group: spearman(predicted[index], scores[index]) for group, index in members.items()}
    return Agreement(overall, fisher_average(list(groups.values())), groups)
