"""Predicted against true scores, the error by range, best and worst cases with their clips (the paper's Fig. 4)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mag2.figures.style import GRID, INK, MUTED, PAPER, SERIES, new_figure, readable, styled
from mag2.metrics import mse, spearman

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Case",
    "draw_cases",
    "draw_contributions",
    "draw_error_by_range",
    "draw_predicted_against_true",
    "score_ranges",
]

RANGES = 5


@dataclass(frozen=True, eq=False)
class Case:
    """One performance of the test set.

    Attributes:
        name: of the video.
        score, predicted: true and predicted score, in the target's units.
        contributions: (T,) of each clip, in the target's units; None where they are not known.
        borders: (T + 1,) the beginnings of the clips and the end of the last one; None for the numbers 0 to T.
    """

    name: str
    score: float
    predicted: float
    contributions: NDArray[Any] | None = None
    borders: NDArray[Any] | None = None


@styled
def draw_predicted_against_true(
    score: NDArray[Any], predicted: NDArray[Any], *, unit: str = "score", footer: str = ""
) -> "Figure":
    """Draw a point for each video, and the line on which the predicted score equals the true one.

    Args:
        score: (n,) true scores, in the target's units.
        predicted: (n,) predicted scores.
        unit: name of the score.
        footer: text below the figure: data, protocol, seed.

    Returns:
        A matplotlib figure.
    """
    figure, axes = new_figure(1, 1, 4.6, 4.6, footer=footer)
    place = axes[0][0]
    low = float(min(score.min(), predicted.min()))
    high = float(max(score.max(), predicted.max()))
    margin = 0.04 * (high - low or 1.0)
    ends = (low - margin, high + margin)
    place.plot(ends, ends, color=MUTED, linewidth=0.9, linestyle="--", zorder=1)
    place.scatter(score, predicted, s=18, color=SERIES[0][0], edgecolors=INK, linewidths=0.3, alpha=0.85, zorder=2)
    place.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"true {unit}", ylabel=f"predicted {unit}")
    rho = spearman(predicted, score) if len(score) > 1 else math.nan
    error = mse(predicted, score) if len(score) > 1 else math.nan
    spans = " to ".join(f"{end:.4g}" for end in (predicted.min(), predicted.max()))
    place.set_title(f"Spearman {rho:.3f}, MSE {error:.4g}, {len(score)} videos\npredictions from {spans}", fontsize=9)
    place.grid(True)
    place.set_axisbelow(True)
    return figure


def score_ranges(score: NDArray[Any], ranges: int = RANGES) -> NDArray[Any]:
    """Return borders of ranges with about equal numbers of videos; fewer than `ranges` where many scores are equal."""
    return np.unique(np.quantile(np.asarray(score, dtype=float), np.linspace(0, 1, ranges + 1)))


@styled
def draw_error_by_range(
    score: NDArray[Any], predicted: NDArray[Any], *, unit: str = "score", footer: str = ""
) -> "Figure":
    """Draw predicted minus true scores for each range of true scores: a point for each video, quartiles as a box.

    Args:
        score: (n,) true scores, in the target's units.
        predicted: (n,) predicted scores.
        unit: name of the score.
        footer: text below the figure: data, protocol, seed.

    Returns:
        A matplotlib figure.
    """
    borders = score_ranges(score)
    if len(borders) < 2:
        borders = np.array([borders[0], borders[0]])
    which = np.clip(np.searchsorted(borders, score, side="right") - 1, 0, len(borders) - 2)
    error = np.asarray(predicted, dtype=float) - np.asarray(score, dtype=float)
    figure, axes = new_figure(1, 1, 6.0, 3.6, footer=footer)
    place = axes[0][0]
    groups = [error[which == each] for each in range(len(borders) - 1)]
    place.axhline(0, color=MUTED, linewidth=0.9, linestyle="--", zorder=1)
    for each, group in enumerate(groups):
        # Beside each other in the order of the file, and not at random.
        spread = (np.arange(len(group)) % 9 - 4) * 0.035
        place.scatter(each + spread, group, s=9, color=SERIES[0][0], alpha=0.55, linewidths=0, zorder=2)
    place.boxplot(
        groups,
        positions=range(len(groups)),
        widths=0.5,
        showfliers=False,
        medianprops={"color": SERIES[1][0], "linewidth": 2},
        boxprops={"color": INK},
        whiskerprops={"color": INK},
        capprops={"color": INK},
        zorder=3,
    )
    labels = [
        f"{low:.4g} to {high:.4g}\n{len(group)} videos"
        for low, high, group in zip(borders, borders[1:], groups, strict=False)
    ]
    place.set_xticks(range(len(groups)), labels)
    place.set(xlabel=f"true {unit}", ylabel="predicted minus true")
    place.grid(True, axis="y", color=GRID)
    place.set_axisbelow(True)
    return figure


@styled
def draw_cases(
    best: Sequence[Case],
    worst: Sequence[Case],
    *,
    unit: str = "score",
    method: str = "",
    axis: str = "clip",
    footer: str = "",
) -> "Figure":
    """Draw the videos with the smallest and the largest error, each with the contributions of its clips to its score.

    Args:
        best, worst: the videos, about equal numbers of both.
        unit: name of the score.
        method: method of the contributions, in words.
        axis: name of the horizontal axis, the unit of the borders of clips.
        footer: text below the figure: data, protocol, seed.

    Returns:
        A matplotlib figure.
    """
    rows = max(len(best), len(worst))
    figure, axes = new_figure(rows, 2, 9.6, 0.7 + 1.5 * rows, footer=footer, sharey=True)
    columns = (("least error", best), ("greatest error", worst))
    for column, (kind, cases) in enumerate(columns):
        for row in range(rows):
            place = axes[row][column]
            if row >= len(cases):
                place.set_axis_off()
                continue
            case = cases[row]
            title = f"{readable(case.name, 26)}: true {case.score:.4g}, predicted {case.predicted:.4g}"
            place.set_title(f"{kind} {row + 1}. {title}", fontsize=8)
            _draw_clips(place, case)
            if column == 0:
                place.set_ylabel("points", fontsize=8)
    for column in (0, 1):
        shown = [axes[row][column] for row, _ in enumerate(columns[column][1])]
        if shown:
            shown[-1].set_xlabel(axis)
    if method:
        figure.suptitle(f"{unit}: contribution of each clip, {method}", fontsize=9, x=0.01, ha="left")
    return figure


@styled
def draw_contributions(
    contributions: NDArray[Any], borders: NDArray[Any] | None = None, *, axis: str = "clip", footer: str = ""
) -> "Figure":
    """Draw what each clip of one performance adds to its score.

    Args:
        contributions: (T,) in the target's units.
        borders: (T + 1,) the beginnings of the clips and the end of the last one; None for the numbers 0 to T.
        axis: name of the horizontal axis, the unit of the borders.
        footer: text below the figure: performance, model, method.

    Returns:
        A matplotlib figure.
    """
    figure, axes = new_figure(1, 1, 8.0, 2.4, footer=footer)
    _draw_clips(axes[0][0], Case("", math.nan, math.nan, contributions, borders))
    axes[0][0].set(xlabel=axis, ylabel="points")
    return figure


def _draw_clips(axes: Any, case: Case) -> None:
    if case.contributions is None:
        axes.text(0.5, 0.5, "contributions not known", transform=axes.transAxes, ha="center", color=MUTED, fontsize=8)
        axes.set_yticks([])
        return
    values = np.asarray(case.contributions, dtype=float)
    borders = np.arange(len(values) + 1) if case.borders is None else np.asarray(case.borders, dtype=float)
    up = values >= 0
    widths = np.diff(borders)
    for chosen, (colour, _, _), hatch in ((up, SERIES[0], None), (~up, SERIES[1], "////")):
        axes.bar(
            borders[:-1][chosen],
            values[chosen],
            widths[chosen] * 0.9,
            align="edge",
            color=colour,
            hatch=hatch,
            edgecolor=PAPER,
            linewidth=0.3,
        )
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)
