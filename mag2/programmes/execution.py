"""How well an element was done, and how well the music was met, from a real protocol, each in [0, 1]."""

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
    """The grade of execution over its range, in [0, 1]; 0.5 is a grade of 0.

    The lowest and the highest grade in points differ between elements, and the ISU's scale of values, which has them,
    is not shipped. Here they are the lowest and the highest that the shipped performances have: of jumps, throws and
    twists with as many rotations (an Axel apart, a combination as its hardest jump), of other elements of the same
    kind and level. Grades beyond them count as these.

    Args:
        element: what was done. goe: its grade of execution, in points.
    """
    ranges = _ranges()
    low, high = ranges.get(_group(element)) or ranges[(element.kind,)]
    if goe == 0:
        return 0.5
    limit = high if goe > 0 else -low
    return 0.5 if limit <= 0 else 0.5 + 0.5 * float(np.clip(goe / limit, -1, 1))


def music_fit(performances: Sequence[Performance]) -> NDArray[np.float64]:
    """How well the music of each of n performances was met beside its other components, (n,) between 0 and 1.

    It is the rank of the IN mark (interpretation of the music) minus the mean of the other four marks: 0.9 where nine
    tenths of these performances have a smaller difference.
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
