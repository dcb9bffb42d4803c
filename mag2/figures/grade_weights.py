"""How much of each grade a model finds, over performances of ascending score (the paper's Fig. 3)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mag2.figures.style import MUTED, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_grade_weights"]

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")


@styled
def draw_grade_weights(
    panels: Mapping[str, NDArray[Any]],
    score: NDArray[Any],
    *,
    words: Mapping[str, Sequence[str]] | None = None,
    unit: str = "score",
    footer: str = "",
) -> "Figure":
    """Draw a curve for each grade: its weight, as a running mean over the videos in the order of their scores.

    Args:
        panels: title -> weights (n, K) of n videos, each row of sum 1, from the worst to the best of K grades.
        score: (n,) in the target's units.
        words: title -> names of the K grades.
        unit: name of the score.
        footer: text below the figure: data, protocol, seed.

    Returns:
        A matplotlib figure.
    """
    order = np.argsort(score, kind="stable")
    window = max(1, len(order) // 10)
    smoothed = "" if window == 1 else f" (running mean of {window} performances)"
    figure, axes = new_figure(1, len(panels), 5.2 * len(panels), 3.9, footer=footer)
    at = _running_mean(np.asarray(score, dtype=float)[order], window)
    for (title, weights), place in zip(panels.items(), axes[0], strict=True):
        weights = np.asarray(weights, dtype=float)
        names = (words or {}).get(title) or [f"grade {each + 1}" for each in range(weights.shape[1])]
        ends = []
        for grade, name in enumerate(names):
            line = _running_mean(weights[order, grade], window)
            colour, dash, marker, filled = _look(grade, len(names), str(name))
            place.plot(
                at,
                line,
                color=colour,
                linestyle=dash,
                marker=marker,
                markevery=(grade * 2 % 7, max(1, len(at) // 6)),
                markerfacecolor=colour if filled else "none",
                markeredgecolor=MUTED,
                markeredgewidth=0.5,
            )
            ends.append((float(line[-1]), str(name), colour))
        place.axhline(1 / weights.shape[1], color=MUTED, linewidth=0.7, linestyle=":")
        place.set_title(title)
        place.set_xlabel(f"{unit}, ascending{smoothed}")
        place.set_ylim(bottom=0)
        _label_ends(place, ends, float(at[-1]))
    axes[0][0].set_ylabel("weight of the grade")
    return figure


def _running_mean(values: NDArray[Any], window: int) -> NDArray[Any]:
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def _look(grade: int, n_grades: int, name: str) -> tuple[Any, str, str, bool]:
    """Colour, dash, marker and whether it is filled: a word has one of each, its forms with music differ in dash."""
    from matplotlib import colormaps

    paired = "without" in name or n_grades > len(MARKERS)
    place = grade // 2 if paired or "with " in name else grade
    words = n_grades // 2 if paired or "with " in name else n_grades
    hollow = "without" in name
    shade = 0.05 + 0.85 * place / max(1, words - 1)
    return colormaps["viridis"](shade), "--" if hollow else "-", MARKERS[place % len(MARKERS)], not hollow


def _label_ends(axes: Any, ends: list[tuple[float, str, Any]], at: float) -> None:
    """The names at the right ends of their lines, moved apart where they would overlap, with a thin line to each."""
    left, right = axes.get_xlim()
    gap = axes.get_ylim()[1] * 0.052
    spots: list[float] = []
    ends = sorted(ends, key=lambda end: end[0])
    for value, _, _ in ends:
        spots.append(max(value, spots[-1] + gap) if spots else value)
    highest = axes.get_ylim()[1]
    for place in range(len(spots) - 1, -1, -1):
        spots[place] = min(spots[place], highest)
        highest = spots[place] - gap
    for (value, name, colour), spot in zip(ends, spots, strict=True):
        axes.annotate(
            name,
            (at, value),
            xytext=(at + 0.1 * (right - left), spot),
            fontsize=7.5,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 2,
                "relpos": (0, 0.5),
            },
        )
    axes.set_xlim(left, right)
