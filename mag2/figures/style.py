"""The style of all figures: colours that colour-blind readers can distinguish, with markers and dashes besides them."""

import contextlib
import functools
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GRID", "INK", "MUTED", "PAPER", "SERIES", "new_figure", "readable", "styled"]

# Text, secondary text, thin lines and ground. The report exchanges these four for its dark form, by their values.
INK, MUTED, GRID, PAPER = "#1b1f24", "#57606a", "#d0d7de", "#fefefe"
# Okabe and Ito's colours ("Color Universal Design", 2008) without yellow and black, each with a marker and a dash.
SERIES: tuple[tuple[str, str, Any], ...] = (
    ("#0072b2", "o", "-"),
    ("#d55e00", "s", (0, (5, 1.5))),
    ("#009e73", "^", (0, (1, 1))),
    ("#cc79a7", "D", (0, (5, 1.5, 1, 1.5))),
    ("#e69f00", "v", (0, (3, 1, 1, 1, 1, 1))),
    ("#56b4e9", "P", (0, (8, 2))),
)
RC: dict[str, Any] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    # A name of a video is no formula.
    "text.parse_math": False,
    "text.usetex": False,
    "svg.hashsalt": "mag2",
    "svg.fonttype": "path",
    "path.simplify": False,
}
_Drawn = TypeVar("_Drawn")


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The style, inside a `with`, whatever the user's own settings of matplotlib are.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ValueError("figures need matplotlib: pip install 'mag2[figures]'") from None
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams
        settings.update(RC)
        # A name in another script than the font's is drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def styled(draw: Callable[..., _Drawn]) -> Callable[..., _Drawn]:
    """Decorate a function that draws, so that it draws in this style."""

    @functools.wraps(draw)
    def drawn(*args: Any, **options: Any) -> _Drawn:
        with style():
            return draw(*args, **options)

    return drawn


def new_figure(
    rows: int, columns: int, width: float, height: float, *, footer: str = "", **options: Any
) -> "tuple[Figure, list[list[Axes]]]":
    """A figure with axes (rows, columns), laid out without overlap.

    Args:
        width, height: in inches. footer: the small line below: data, protocol, seed.
        options: of `Figure.subplots`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    if footer:
        figure.supxlabel(readable(footer, 160), x=0.01, ha="left", fontsize=7.5, color=MUTED)
    return figure, [list(row) for row in axes]


def readable(name: str, letters: int = 32) -> str:
    """A name from the data, as one short line: control characters replaced, the middle of a long one left out."""
    line = "".join("·" if unicodedata.category(each)[0] in "CZ" and each != " " else each for each in name)
    if len(line) <= letters:
        return line
    head = (letters - 1) * 2 // 3
    return f"{line[:head]}…{line[head + 1 - letters :]}"
