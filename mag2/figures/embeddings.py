"""Points of t-SNE coloured by score: grade patterns (the paper's Fig. 2), fused features (Fig. 5)."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mag2.figures.embedding import embed, neighbour_agreement, thinned
from mag2.figures.style import INK, MUTED, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_fused_features", "draw_grade_patterns"]

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
MOST_POINTS = 600  # of one panel; more hide each other


@styled
def draw_grade_patterns(
    panels: Mapping[str, NDArray[Any]],
    score: NDArray[Any],
    *,
    words: tuple[str, ...] | None = None,
    unit: str = "score",
    footer: str = "",
    seed: int = 0,
) -> "Figure":
    """Draw decoded grades as t-SNE points: a panel for each kind of query, a marker for each grade, colour by score.

    Args:
        panels: title -> patterns (n, K, d), the K decoded grades of n videos.
        score: (n,) in the target's units.
        words: names of the K grades.
        unit: name of the score.
        footer: text below the figure: data, protocol, seed.
        seed: of t-SNE.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: scikit-learn or matplotlib is not installed.
    """
    kinds = {patterns.shape[1] for patterns in panels.values()}
    names = words if words is not None and kinds == {len(words)} else None
    n_grades = max(kinds)
    figure, axes = new_figure(1, len(panels), 0.6 + 4.0 * len(panels), 4.6, footer=footer)
    points = None
    for (title, patterns), place in zip(panels.items(), axes[0], strict=True):
        chosen = thinned(score, max(4, MOST_POINTS // patterns.shape[1]))
        flat = patterns[chosen].reshape(-1, patterns.shape[2])
        plane = embed(flat, seed).reshape(len(chosen), patterns.shape[1], 2)
        for grade in range(patterns.shape[1]):
            points = _scatter(place, plane[:, grade], score[chosen], score, MARKERS[grade % len(MARKERS)])
        _finish(place, title, neighbour_agreement(patterns, score))
    if points is not None:
        figure.colorbar(points, ax=axes[0], label=unit, shrink=0.8, pad=0.02).outline.set_visible(False)
    _grade_legend(axes[0][0], names or tuple(f"grade {each + 1}" for each in range(n_grades)))
    return figure


@styled
def draw_fused_features(
    panels: Mapping[str, NDArray[Any]], score: NDArray[Any], *, unit: str = "score", footer: str = "", seed: int = 0
) -> "Figure":
    """Draw features of videos as t-SNE points: a panel for each fusion, colour by score.

    Args:
        panels: title -> features (n, d), the mean over the clips of n videos.
        score: (n,) in the target's units.
        unit, footer, seed: as in `draw_grade_patterns`.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: scikit-learn or matplotlib is not installed.
    """
    figure, axes = new_figure(1, len(panels), 0.6 + 3.6 * len(panels), 3.9, footer=footer)
    points = None
    for (title, features), place in zip(panels.items(), axes[0], strict=True):
        chosen = thinned(score, MOST_POINTS)
        points = _scatter(place, embed(features[chosen], seed), score[chosen], score, "o")
        _finish(place, title, neighbour_agreement(features, score))
    if points is not None:
        figure.colorbar(points, ax=axes[0], label=unit, shrink=0.8, pad=0.02).outline.set_visible(False)
    return figure


def _scatter(axes: "Axes", plane: NDArray[Any], colour: NDArray[Any], score: NDArray[Any], marker: str) -> Any:
    low, high = float(np.min(score)), float(np.max(score))
    return axes.scatter(
        plane[:, 0],
        plane[:, 1],
        c=colour,
        cmap="viridis",
        vmin=low,
        vmax=high if high > low else low + 1,
        marker=marker,
        s=20,
        edgecolors=INK,
        linewidths=0.35,
    )


def _finish(axes: "Axes", title: str, agreement: float) -> None:
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(True)
    if not math.isnan(agreement):
        axes.set_xlabel(f"score of 5 nearest neighbours: Spearman {agreement:.2f}", fontsize=8, color=MUTED)


def _grade_legend(axes: "Axes", names: tuple[str, ...]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=MARKERS[each % len(MARKERS)], color=MUTED, markersize=5, label=name)
        for each, name in enumerate(names)
    ]
    figure: Any = axes.figure
    figure.legend(handles=handles, loc="outside upper left", ncols=min(6, len(handles)), handletextpad=0.2)
