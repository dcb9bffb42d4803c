"""Trainings over their epochs, and the spread of their seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mag2.figures.style import GRID, INK, MUTED, PAPER, SERIES, new_figure, readable, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_learning_curves", "draw_seed_spread"]

PANELS = {"loss": "training loss", "spearman": "Spearman, test set", "mse": "MSE, test set"}
Curves = Mapping[str, Mapping[str, NDArray[Any]]]


@styled
def draw_learning_curves(groups: Mapping[str, Curves], *, footer: str = "") -> "Figure":
    """Draw loss, Spearman and MSE over the epochs: a row of panels for each group, a curve for each training.

    Several seeds are one curve, their mean, with a band from the smallest to the largest value. A ring marks the epoch
    that is best on the test set, by the mean.

    Args:
        groups: title of the group -> name of the training -> "loss", "spearman" or "mse" -> array (seeds, epochs).
        footer: text below the figure: data and seeds.

    Returns:
        A matplotlib figure.
    """
    rows = len(groups)
    figure, axes = new_figure(rows, len(PANELS), 9.6, 0.6 + 2.2 * rows, footer=footer, sharex="row")
    for line, (group, curves) in zip(axes, groups.items(), strict=True):
        for place, (quantity, label) in zip(line, PANELS.items(), strict=True):
            for (name, measured), (colour, marker, dash) in zip(curves.items(), _looks(len(curves)), strict=True):
                _draw_line(place, measured[quantity], readable(name), colour, marker, dash, best=_best(measured))
            place.set_title(label if line is axes[0] else "")
            place.grid(True)
            place.set_axisbelow(True)
        line[0].set_ylabel(readable(group, 24), fontsize=9)
        if len(curves) > 1 or rows > 1:
            line[0].legend(loc="best", handlelength=2.6)
    for place in axes[-1]:
        place.set_xlabel("epoch")
    return figure


def _draw_line(axes: Any, values: NDArray[Any], name: str, colour: str, marker: str, dash: Any, best: int) -> None:
    epochs = np.arange(1, values.shape[1] + 1)
    with np.errstate(all="ignore"):
        mean = np.ma.masked_invalid(values).mean(axis=0).filled(np.nan)
    if len(values) > 1:
        axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)
    every = max(1, len(epochs) // 8)
    axes.plot(epochs, mean, color=colour, linestyle=dash, marker=marker, markevery=every, label=name or None)
    axes.plot(epochs[best], mean[best], marker="o", markersize=9, markerfacecolor="none", markeredgecolor=INK)
    if len(epochs) < 12:
        axes.set_xticks(epochs)


def _best(measured: Mapping[str, NDArray[Any]]) -> int:
    mean = np.ma.masked_invalid(measured["spearman"]).mean(axis=0).filled(-np.inf)
    return int(np.argmax(mean))


def _looks(count: int) -> list[tuple[str, str, Any]]:
    return [SERIES[each % len(SERIES)] for each in range(count)]


@styled
def draw_seed_spread(
    rows: Sequence[str], values: Mapping[str, Sequence[Sequence[float]]], *, measure: str = "Spearman", footer: str = ""
) -> "Figure":
    """Draw a line for each row of a table: a mark for every seed, a bar for their mean, other marks for each protocol.

    Args:
        rows: names of the rows, from above.
        values: protocol in words -> for each row the values of its seeds.
        measure: name of the values.
        footer: text below the figure: data and seeds.

    Returns:
        A matplotlib figure.
    """
    figure, axes = new_figure(1, 1, 7.2, 1.3 + 0.42 * len(rows), footer=footer)
    place = axes[0][0]
    looks = ((SERIES[0], -0.13, True), (SERIES[1], 0.13, False))
    for (protocol, by_row), ((colour, marker, _), shift, filled) in zip(values.items(), looks, strict=False):
        for at, seeds in enumerate(by_row):
            known = [value for value in seeds if not math.isnan(value)]
            if not known:
                continue
            face = colour if filled else PAPER
            place.plot(
                known,
                [at + shift] * len(known),
                linestyle="",
                marker=marker,
                markersize=5,
                color=colour,
                markerfacecolor=face,
                label=protocol if at == 0 else None,
            )
            mean = float(np.mean(known))
            place.plot([mean, mean], [at + shift - 0.12, at + shift + 0.12], color=colour, linewidth=2.2)
    place.set_yticks(range(len(rows)), [readable(row, 40) for row in rows])
    place.invert_yaxis()
    place.set_xlabel(f"{measure} (a mark for each seed, their mean a bar)", color=INK)
    place.grid(True, axis="x", color=GRID)
    place.set_axisbelow(True)
    place.tick_params(axis="y", length=0, colors=MUTED, labelcolor=INK)
    figure.legend(loc="outside upper left", ncols=2)
    return figure
