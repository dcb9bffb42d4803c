"""From the folder of a run to its figures, with the reason for each figure that cannot be made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mag2.figures.chosen import Chosen, LeftOutError, choose
from mag2.figures.files import Drawing, check_formats
from mag2.figures.of_models import best_and_worst, fused, patterns, weights
from mag2.figures.of_results import error_by_range, learning_curves, predicted_against_true, seed_spread
from mag2.figures.style import style
from mag2.saving.atomic_io import write_atomically
from mag2.saving.places import check_folder_place, make_folder
from mag2.saving.sentences import check_name
from mag2.training.run_folder import RunFolder, read_run

__all__ = ["FIGURES", "Figures", "draw_figures", "make_figures"]

# Every figure, by the name that a command takes; in the order in which they are shown.
FIGURES: dict[str, Callable[[Chosen], Drawing]] = {
    "learning-curves": learning_curves,
    "seeds": seed_spread,
    "predicted-against-true": predicted_against_true,
    "error-by-range": error_by_range,
    "best-and-worst": best_and_worst,
    "grade-weights": weights,
    "grade-patterns": patterns,
    "fused-features": fused,
}


@dataclass(frozen=True, eq=False)
class Figures:
    """The figures of a run.

    Attributes:
        drawings: the figures.
        left_out: a sentence for each figure that cannot be made from the run.
        files: the files that were written; none by `make_figures`.
    """

    drawings: tuple[Drawing, ...]
    left_out: tuple[str, ...]
    files: tuple[Path, ...] = ()


def draw_figures(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    row: str | None = None,
    target: str | None = None,
    seed: int | None = None,
    figures: Sequence[str] | None = None,
    formats: Sequence[str] = ("svg", "png"),
    data: str | Path | None = None,
) -> Figures:
    """Draw the figures of a run into a folder, with their captions in `figures.md`.

    Equal runs and equal versions give equal files.

    Args:
        folder: the folder of a table's results (`--out`), or of one training.
        out: the folder to write to; `figures` in `folder` by default.
        row, target, seed: the training whose model is drawn; by default for every target MLAVL's first row, else the
            first row, and the smallest seed.
        figures: keys of `mag2.figures.FIGURES`; all by default.
        formats: any of "svg", "png" and "pdf".
        data: the present folder of the dataset, if it has moved since the training.

    Returns:
        The `Figures`, with a sentence for each figure that could not be made.

    Raises:
        ValueError: no such run, training, figure or format; `out` is a file; or matplotlib or scikit-learn is not
            installed.
    """
    check_formats(formats)
    run = read_run(folder)
    place = Path(out) if out is not None else run.path / "figures"
    check_folder_place(place, " for the figures")
    made = make_figures(run, row=row, target=target, seed=seed, figures=figures, data=data)
    make_folder(place, " for the figures")
    files = [path for drawing in made.drawings for path in drawing.save(place, formats)]
    page = place / "figures.md"
    write_atomically(_page(run, made, formats), page)
    return replace(made, files=(*files, page))


def make_figures(
    run: RunFolder,
    *,
    row: str | None = None,
    target: str | None = None,
    seed: int | None = None,
    figures: Sequence[str] | None = None,
    data: str | Path | None = None,
) -> Figures:
    """Make the figures of a run without writing them.

    Args:
        run: from `mag2.training.run_folder.read_run`.
        row, target, seed, figures, data: as in `draw_figures`.

    Raises:
        ValueError: no such training or figure, or matplotlib or scikit-learn is not installed.
    """
    for name in figures or ():
        check_name("figure", name, FIGURES)
    with style():
        pass  # matplotlib is there, or one sentence says that it is not
    drawings: list[Drawing] = []
    left_out: dict[str, None] = {}
    for training in choose(run, row=row, target=target, seed=seed):
        chosen = Chosen(run, training, data)
        for name, make in FIGURES.items():
            if figures is not None and name not in figures:
                continue
            try:
                drawing = make(chosen)
            except LeftOutError as why:
                left_out[f"{name}, {training.target.name}: {why}."] = None
                continue
            taken = [each.name for each in drawings].count(drawing.name)
            drawings.append(replace(drawing, name=f"{drawing.name}-{taken + 1}") if taken else drawing)
    return Figures(tuple(drawings), tuple(left_out))


def _page(run: RunFolder, made: Figures, formats: Sequence[str]) -> str:
    """The captions, and what is left out."""
    shown = next((format for format in ("png", "svg") if format in formats), formats[0])
    lines = [f"# Figures: {run.title}", ""]
    if run.simulated:
        lines += ["**Simulated data**: these figures exercise the pipeline and say nothing about the paper's.", ""]
    for drawing in made.drawings:
        lines += [f"## {drawing.title}", "", f"![{drawing.title}]({drawing.name}.{shown})", "", drawing.caption, ""]
    if made.left_out:
        lines += ["## Left out", "", *(f"- {sentence}" for sentence in made.left_out), ""]
    return "\n".join(lines)
