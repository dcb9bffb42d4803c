"""The benchmark as a picture: ratios as bars, and what a length costs."""

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring import Comparison, Row
from mag2.saving.atomic_io import replacing

_LENGTH = re.compile(r"\bT=(\d+) \(B=")


def plot(comparisons: Sequence[Comparison], path: Path) -> str:
    """Draw it; returns the line to print, which says so where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "No plot: matplotlib is not installed (pip install 'mag2[figures]')"
    lengths = [found for comparison in comparisons if (found := _at_length(comparison))]
    bars = [comparison for comparison in comparisons if not _at_length(comparison) and _rated(comparison)]
    count = sum(len(_rated(comparison)) + 1 for comparison in bars)
    panels = (1 if bars else 0) + (1 if lengths else 0)
    if not panels:
        return "No plot: nothing here has a ratio"
    figure = Figure(figsize=(7 * panels, max(4.0, 0.28 * count)), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if bars:
        _draw_bars(axes.pop(0), bars)
    if lengths:
        _draw_lengths(axes.pop(0), lengths)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
    return f"Drawn: {path}"


def _rated(comparison: Comparison) -> list[Row]:
    return [row for row in comparison.rows if row.ratio is not None]


def _draw_bars(axes, comparisons: Sequence[Comparison]) -> None:
    names: list[str] = []
    ratios: list[float] = []
    for comparison in comparisons:
        names.append(comparison.title)
        ratios.append(float("nan"))
        for row in _rated(comparison):
            names.append(row.way)
            ratios.append(row.ratio or float("nan"))
    places = range(len(names))
    drawn = axes.barh(places, ratios, color="tab:gray")
    axes.bar_label(drawn, ["" if ratio != ratio else f"{ratio:.2f}" for ratio in ratios], fontsize=7)
    axes.set_yticks(places, names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("ratio to the first way of its group")


def _draw_lengths(axes, lengths: Sequence[dict[str, tuple[int, float]]]) -> None:
    axes.set_title("MAG2, forward and backward, a video")
    for way in ("ours", "released"):
        points = [found[way] for found in lengths if way in found]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=way)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("T, clips")
    axes.set_ylabel("ms")
    axes.legend()


def _at_length(comparison: Comparison) -> dict[str, tuple[int, float]]:
    """Way -> (T, ms a video) where the comparison is of one length."""
    found = _LENGTH.search(comparison.title)
    if not found:
        return {}
    return {row.way: (int(found[1]), row.value) for row in comparison.rows if row.unit == "ms a video"}
