"""Intervals around scores: split conformal prediction from the errors on videos that were not trained on."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "calibrate", "half_width"]

DIVISIONS = 200  # of the test videos into calibration and coverage videos, for the measured coverage


@dataclass(frozen=True)
class Interval:
    """An interval: a score plus and minus `half_width`.

    Attributes:
        level: the intended share of new videos, of the kind of the test videos, whose score is inside.
        half_width: in the target's units, from the errors of all test videos.
        coverage: the measured share: intervals are calibrated on one half of the test videos and checked on the other
            half, mean over random divisions; nan where the halves are too small.
        spread: standard deviation of that share over the divisions.
        videos: number of test videos.
    """

    level: float
    half_width: float
    coverage: float
    spread: float
    videos: int

    def __str__(self) -> str:
        measured = (
            "coverage not measured: too few test videos to divide"
            if math.isnan(self.coverage)
            else f"on held-out halves of them such intervals held {self.coverage:.1%} ± {self.spread:.1%}"
        )
        return (
            f"{self.level:.0%} interval: ± {self.half_width:.4g}, split conformal, from the errors on {self.videos} "
            f"test videos; {measured}"
        )


def half_width(errors: NDArray[np.float64], level: float) -> float:
    """Return the ceil((n + 1) level)-th smallest of n absolute errors; infinite where n is too small for the level.

    A new video of the same kind has a smaller error with a probability of at least `level` (split conformal
    prediction, Papadopoulos et al. 2002; Lei et al. 2018).

    Raises:
        ValueError: a level that is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval is between 0 and 1, got {level}")
    n = len(errors)
    # Without the small number 0.9 * 10 would be ten, not nine.
    rank = math.ceil((n + 1) * level - 1e-9)
    return math.inf if rank > n else float(np.partition(errors, rank - 1)[rank - 1])


def calibrate(
    errors: NDArray[np.float64], level: float = 0.9, *, seed: int = 0, divisions: int = DIVISIONS
) -> Interval | None:
    """Compute the interval around scores from the errors of test videos, and its coverage on held-out videos.

    Args:
        errors: (n,) absolute errors of test videos, in the target's units.
        level: intended share of new videos whose score is inside, between 0 and 1; 0.9 (our choice).
        seed: seed of the random divisions of the videos into calibration and held-out halves.
        divisions: number of these divisions.

    Returns:
        The `Interval`; None where there are too few videos for the level.

    Raises:
        ValueError: a level that is not between 0 and 1.
    """
    width, n = half_width(errors, level), len(errors)
    if math.isinf(width):
        return None
    generator, covered = np.random.default_rng(seed), []
    for _ in range(divisions):
        order = generator.permutation(n)
        calibration, held_out = errors[order[: n // 2]], errors[order[n // 2 :]]
        own = half_width(calibration, level)
        if math.isinf(own):
            return Interval(level, width, math.nan, math.nan, n)
        covered.append(float((held_out <= own).mean()))
    return Interval(level, width, float(np.mean(covered)), float(np.std(covered)), n)
