"""Execution of an element and interpretation of the music, each in [0, 1], from real protocols."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mag2.programmes.notation import ElementCode
from mag2.programmes.performances import Performance
from mag2.programmes.shipped import read_performances

__all__ = ["execution_of", "music_fit"]

# A range is read off so many shipped elements or more; rarer ones have the range of their kind.
ENOUGH = 20


def execution_of(element: ElementCode, goe: float) -> float:
    """Scale a grade of execution to [0, 1]; 0.5 is a grade of 0.

    The lowest and the highest grade in points differ between elements. The ISU's scale of values has them, but the
    library does not ship it. Here they are the lowest and the highest grades in the shipped performances: among jumps,
    throws and twists with as many rotations (Axels separately, a combination as its hardest jump), among other elements
    of the same kind and level. Grades outside this range are clamped to it.

    Args:
        element: the element.
        goe: its grade of execution, in points.

    Returns:
        A number in [0, 1].
    """
    ranges = _ranges()
    low, high = ranges.get(_group(element)) or ranges[(element.kind,)]
    if goe == 0:
        return 0.5
    limit = high if goe > 0 else -low
    return 0.5 if limit <= 0 else 0.5 + 0.5 * float(np.clip(goe / limit, -1, 1))


def music_fit(performances: Sequence[Performance]) -> NDArray[np.float64]:
    """Rank n performances by the interpretation of the music, relative to their other components.

    The difference of the IN mark (interpretation of the music) and the mean of the other four component marks is
    ranked: 0.9 means that nine tenths of these performances have a smaller difference.

    Returns:
        (n,) numbers between 0 and 1.
    """
    differences = np.array([each.IN - np.mean([each.SS, each.TR, each.PE, each.CO]) for each in performances])
    return ranks(np.round(differences, 6))


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ranks of n values as shares of n; equal values share their mean rank."""
    from scipy.stats import rankdata

    return (rankdata(values) - 0.5) / len(values)


def _group(element: ElementCode) -> tuple:
    if element.jumps:
        return element.kind, *max((jump.rotations, jump.name == "Axel") for jump in element.jumps)
    if element.rotations:
        return element.kind, *element.rotations
    return element.kind, element.disciplines, element.level


@cache
def _ranges() -> dict[tuple, tuple[float, float]]:
    grades: dict[tuple, list[float]] = defaultdict(list)
    for performance in read_performances():
        for each in performance.elements:
            grades[_group(each.notation)].append(each.goe)
            grades[(each.notation.kind,)].append(each.goe)
    return {group: (min(of), max(of)) for group, of in grades.items() if len(of) >= ENOUGH or len(group) == 1}
