"""Sober baselines on features of fixed width: ridge regression, and how well scores rank performances."""

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
    """A fitted ridge regression, ``features @ weights + intercept``.

    Shapes: weights (d,).
    """

    weights: NDArray[np.float64]
    intercept: float
    penalty: float

    def predict(self, features: ArrayLike) -> NDArray[np.float64]:
        """Scores (n,) of features (n, d)."""
        return np.asarray(features, dtype=float) @ self.weights + self.intercept


def fit_ridge(features: ArrayLike, labels: ArrayLike, penalties: Sequence[float] = PENALTIES) -> Ridge:
    """Ridge regression whose penalty has the smallest squared error of leaving each row out (in closed form).

    ``||y - X w - b||^2 + penalty ||w||^2``; the intercept b has no penalty. Features are centred and not rescaled.

    Shapes: features (n, d), labels (n,), n at least 3.

    Args:
        features, labels: the rows to fit.
        penalties: those to choose from, in units of the largest squared singular value of the centred features, so
            that the choice does not depend on the unit of the features.

    Raises:
        ValueError: other shapes, features that are all alike, or no penalty that is positive.
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
    """How predictions rank performances, by Spearman's rho.

    Attributes:
        overall: over all performances; high for any score that separates free skatings of men from short dances.
        within: the Fisher average over the groups of one discipline and segment, where that does not help.
        groups: rho of each group, by (discipline, segment).
    """

    overall: float
    within: float
    groups: dict[tuple[str, str], float]


def rank_agreement(prediction: ArrayLike, performances: Sequence[Performance], target: str) -> Agreement:
    """How a prediction (n,) ranks n performances by a target; juniors are ranked with the seniors of their segment.

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
