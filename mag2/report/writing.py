"""Make the page of a run or of scores, and write it whole or not at all."""

from pathlib import Path

from mag2.report.of_run import run_page
from mag2.report.of_scores import read_scores, scores_page
from mag2.report.page import render
from mag2.saving.atomic_io import write_atomically
from mag2.saving.places import check_file_place, make_folder
from mag2.scoring.scores import Scores
from mag2.training.run_folder import read_run

__all__ = ["make_report", "write_report"]


def write_report(
    source: "str | Path | Scores",
    out: str | Path | None = None,
    *,
    row: str | None = None,
    target: str | None = None,
    seed: int | None = None,
    figures: bool = True,
    data: str | Path | None = None,
) -> Path:
    """Write a report of a run or of scores as one HTML file, which loads nothing else.

    Args:
        source: the folder of a table's results or of one training; or the `Scores` that `mag2.Trained.score` returned,
            or a JSON file of them (`mag2 score --out`).
        out: the file to write; by default `report.html` in that folder, or the path of the JSON file with the ending
            `.html`.
        row, target, seed: the training whose figures and predictions are shown, as in `mag2.figures.draw_figures`.
        figures: False leaves out the figures of a run.
        data: the present folder of the dataset, if it has moved since the training.

    Returns:
        The path of the file.

    Raises:
        ValueError: no results or scores in `source`, no such training, `out` is a folder or is missing for scores in
            memory, or a package is not installed.
    """
    if out is None:
        if isinstance(source, Scores):
            raise ValueError("scores in memory have no folder: say where the report goes, out='report.html'")
        place = Path(source)
        out = place / "report.html" if place.is_dir() else place.with_suffix(".html")
    out = Path(out)
    if out.is_dir():
        raise ValueError(f"{out} is a folder; give a file, {out / 'report.html'} say")
    check_file_place(out)
    text = make_report(source, row=row, target=target, seed=seed, figures=figures, data=data)
    make_folder(out.parent)
    write_atomically(text, out)
    return out


def make_report(
    source: "str | Path | Scores",
    *,
    row: str | None = None,
    target: str | None = None,
    seed: int | None = None,
    figures: bool = True,
    data: str | Path | None = None,
) -> str:
    """Return a report as HTML text, without writing it.

    Args:
        source, row, target, seed, figures, data: as in `write_report`.

    Raises:
        ValueError: no results or scores in `source`, no such training, or a package is not installed.
    """
    if isinstance(source, Scores):
        return render(scores_page([(source, {})]))
    if Path(source).is_file():
        return render(scores_page(read_scores(Path(source))))
    run = read_run(source)
    return render(run_page(run, row=row, target=target, seed=seed, figures=figures, data=data))
