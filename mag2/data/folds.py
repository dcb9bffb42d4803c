"""Folds for cross-validation: every video is tested once, and groups stay whole."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mag2.data.errors import DataError
from mag2.data.splits import checked_seed, group_numbers

__all__ = ["make_folds"]


def make_folds(
    count: int, folds: int, groups: Sequence[Any] | None = None, seed: int = 0
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the indices (train, test) of each fold, ascending; every video is in one test part.

    The order of the groups (of the videos, without groups) is drawn with `seed`; the largest groups are placed first,
    each into the fold with the fewest videos, so that folds are as equal as whole groups allow.

    Args:
        count: N, the number of videos.
        folds: the number of folds.
        groups: (N,) the group of each video; videos of one group are in one fold.
        seed: seed of the random order.

    Raises:
        DataError: fewer than 2 folds, fewer groups than folds, or a fold of a single video, which has no rank
            correlation.
    """
    if isinstance(folds, bool) or not isinstance(folds, int | np.integer) or folds < 2:
        raise DataError(f"folds is how many parts the videos are cut into, a whole number from 2 up, got {folds!r}")
    numbers = group_numbers(groups, count)
    sizes = np.bincount(numbers)
    if len(sizes) < folds:
        what = "videos" if groups is None else "groups"
        raise DataError(f"there are {len(sizes)} {what} and {folds} folds: give at least as many {what} as folds")
    drawn = np.random.default_rng(checked_seed(seed)).permutation(len(sizes))
    filled = np.zeros(folds, dtype=np.int64)
    fold_of = np.empty(len(sizes), dtype=np.int64)
    for group in drawn[np.argsort(-sizes[drawn], kind="stable")]:
        fold_of[group] = np.argmin(filled)
        filled[fold_of[group]] += sizes[group]
    if filled.min() < 2:
        raise DataError(
            f"{count} videos in {folds} folds leave a fold with one video, and a rank correlation compares two or "
            f"more: give fewer folds"
        )
    tests = [np.flatnonzero(fold_of[numbers] == fold) for fold in range(folds)]
    return [(np.setdiff1d(np.arange(count), test), test) for test in tests]
