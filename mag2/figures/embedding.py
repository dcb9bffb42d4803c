"""Features as points of a plane (t-SNE), and a measure of how well neighbours agree in their scores."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mag2.metrics import spearman

__all__ = ["embed", "neighbour_agreement", "thinned"]

FEWEST = 20
PERPLEXITY = 30.0  # of van der Maaten and Hinton, "Visualizing data using t-SNE" (2008), who advise 5 to 50


def embed(features: NDArray[Any], seed: int = 0) -> NDArray[np.float64]:
    """Return t-SNE points (n, 2) of features (n, d).

    Equal features, seed and version of scikit-learn give equal points. t-SNE starts from the two principal components;
    for fewer than 4 rows, or equal rows, these components are returned.

    Raises:
        ValueError: scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ValueError("t-SNE needs scikit-learn: pip install 'mag2[figures]'") from None
    rows = np.asarray(features, dtype=np.float64)
    rows = rows - rows.mean(axis=0)
    scale = float(np.abs(rows).max(initial=0.0))
    if len(rows) < 4 or not scale > 0:
        return np.pad(rows, ((0, 0), (0, max(0, 2 - rows.shape[1]))))[:, :2]
    rows = rows / scale
    # Fixed by a sign, since an SVD leaves it open: the largest entry of each direction is positive.
    directions = np.linalg.svd(rows, full_matrices=False)[2][:2]
    largest = directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)]
    directions = directions * np.sign(largest)[:, None]
    start = rows @ directions.T
    start = np.pad(start, ((0, 0), (0, 2 - start.shape[1])))
    start = start / max(float(start[:, 0].std()), 1e-12) * 1e-4
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init=start.astype(np.float32), random_state=seed, n_jobs=1)
    return np.asarray(tsne.fit_transform(rows.astype(np.float32)), dtype=np.float64)


def neighbour_agreement(features: NDArray[Any], score: NDArray[Any], k: int = 5) -> float:
    """Return Spearman's rho between scores (n,) and the mean scores of the k nearest neighbours in the features (n, d).

    A row is no neighbour of itself. A t-SNE picture cannot be measured; this number measures how well neighbours agree
    in their scores. nan for fewer than `FEWEST` rows, which are too few.
    """
    rows = np.asarray(features, dtype=np.float64).reshape(len(features), -1)
    if len(rows) < FEWEST:
        return math.nan
    square = (rows**2).sum(axis=1)
    distance = square[:, None] + square[None] - 2 * rows @ rows.T
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return spearman(np.asarray(score)[nearest].mean(axis=1), score)


def thinned(score: NDArray[Any], most: int) -> NDArray[np.int64]:
    """At most so many videos, evenly over the order of their scores."""
    order = np.argsort(score, kind="stable")
    if len(order) <= most:
        return np.arange(len(order))
    return np.sort(order[np.linspace(0, len(order) - 1, most).round().astype(int)])
