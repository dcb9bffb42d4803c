"""How well scores agree with labels: Spearman's rho, MSE, R-l2, and the average over targets."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["fisher_average", "mse", "relative_l2", "spearman"]


def spearman(prediction: ArrayLike, label: ArrayLike) -> float:
    """Return Spearman's rank correlation; ties get their mean rank. nan where one side is constant.

    Args:
        prediction: (n,) scores.
        label: (n,) true scores.

    Raises:
        ValueError: they are not two vectors of the same length, or have fewer than two values.
    """
    prediction, label = _pair(prediction, label)
    if np.ptp(prediction) == 0 or np.ptp(label) == 0:
        return math.nan
    from scipy import stats  # half a second, which each process of a grid would pay at its start

    return float(stats.spearmanr(prediction, label).statistic)


def mse(prediction: ArrayLike, label: ArrayLike, scale: float = 1.0) -> float:
    """Return the mean squared error, with both sides multiplied by `scale` first.

    Args:
        prediction: (n,) scores.
        label: (n,) true scores.
        scale: the number that labels in [0, 1] were divided by; the error is then in the target's units, squared.

    Raises:
        ValueError: as `spearman`.
    """
    prediction, label = _pair(prediction, label)
    return float(np.mean((prediction - label) ** 2) * scale**2)


def relative_l2(prediction: ArrayLike, label: ArrayLike, span: float | None = None) -> float:
    """Return R-l2 in percent: ``100 mean(((p - t) / span)^2)`` for predictions p and labels t.

    Args:
        prediction: (n,) scores.
        label: (n,) true scores.
        span: the range of the scores; max(t) - min(t) by default.

    Raises:
        ValueError: as `spearman`, or a span that is not positive: without `span`, labels that are all equal.
    """
    prediction, label = _pair(prediction, label)
    span = float(np.ptp(label)) if span is None else span
    if span <= 0:
        raise ValueError(f"R-l2 wants labels that differ or a positive span, got a span of {span}")
    return float(100 * np.mean(((prediction - label) / span) ** 2))


def fisher_average(correlations: Sequence[float]) -> float:
    """Return the average of correlations: tanh of their mean atanh (Fisher's z), as in Table 4.

    Raises:
        ValueError: no correlation is given.
    """
    if len(correlations) == 0:
        raise ValueError("the average wants at least one correlation")
    with np.errstate(divide="ignore"):
        return float(np.tanh(np.mean(np.arctanh(np.asarray(correlations, dtype=float)))))


def _pair(prediction: ArrayLike, label: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    prediction, label = np.asarray(prediction, dtype=float), np.asarray(label, dtype=float)
    if prediction.ndim != 1 or prediction.shape != label.shape or len(label) < 2:
        raise ValueError(
            f"scores and labels want one shape (n,), n at least 2, got {prediction.shape} and {label.shape}"
        )
    return prediction, label
