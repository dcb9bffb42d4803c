"""Shared by the scripts that measure: trainings on a grid, and tables of means and paired differences over seeds."""

import csv
import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mag2.saving.arguments import given_path, whole_number
from mag2.saving.atomic_io import read_json, replacing, write_atomically
from mag2.training.cells import Cell
from mag2.training.grid import Work, run_grid


def add_grid_options(parser: ArgumentParser, seeds: Sequence[int], out: Path | None, *, where: str = "") -> None:
    """Add --seeds, --workers and --out; `where` says the default folder in words if `out` is None."""
    shown = " ".join(map(str, seeds))
    workers = "trainings at the same time (one per core)"
    parser.add_argument("--seeds", nargs="+", type=whole_number(0), default=list(seeds), help=f"seeds ({shown})")
    parser.add_argument("--workers", type=whole_number(1), default=os.cpu_count(), help=workers)
    parser.add_argument("--out", type=given_path, default=out, help=f"folder to write to ({where or out})")


def add_names(parser: ArgumentParser, option: str, known: Iterable[str], usual: Iterable[str] = ()) -> None:
    """Add an option that takes some of the known names; `usual` by default, or all."""
    names, usual = list(known), list(usual)
    shown = " ".join(usual) or "all"
    metavar = option.strip("-").removesuffix("s").upper()
    about = f"of {' '.join(names)} (default {shown})"
    parser.add_argument(option, nargs="+", choices=names, default=usual or names, metavar=metavar, help=about)


def train_all(
    cells: Sequence[Cell], work: Work, out: Path, *, workers: int, settings: Mapping[str, Any]
) -> dict[Cell, dict[str, Any]]:
    """Train the cells that `out` does not hold yet, with a line for each, and return the results of all.

    Args:
        settings: what all results in the folder share, the number of epochs say.

    Raises:
        ValueError: the folder holds results of other settings.
        RuntimeError: a training failed.
    """
    _require_same(out, settings)
    results: dict[Cell, dict[str, Any]] = {}
    for number, outcome in enumerate(run_grid(cells, work, out, workers=workers), 1):
        if outcome.result is None:
            raise RuntimeError(f"{outcome.cell.row}, {outcome.cell.target}, seed {outcome.cell.seed}: {outcome.error}")
        results[outcome.cell] = outcome.result
        where = f"{outcome.cell.target}, seed {outcome.cell.seed}"
        print(f"[{number}/{len(cells)}] {outcome.cell.row}, {where}", file=sys.stderr)
    return results


def ended(run: Callable[[], None]) -> int:
    """Run a script: 0, or 1 with one line on the standard error where its input is at fault or a training failed."""
    try:
        run()
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def mean_and_spread(values: Sequence[float], sign: str = "") -> str:
    """The mean and, of several values, their standard deviation."""
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):{sign}.3f}{spread}"


def paired(values: Sequence[float], reference: Sequence[float]) -> str:
    """The mean and spread of the differences of values that belong together, seed by seed."""
    return mean_and_spread([a - b for a, b in zip(values, reference, strict=True)], "+")


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A table; the first `left` columns are texts, the others numbers."""
    lines = [columns, ["---"] * left + ["---:"] * (len(columns) - left), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write every result with the seed that it belongs to."""
    with replacing(path) as written, written.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _require_same(out: Path, settings: Mapping[str, Any]) -> None:
    path = out / "settings.json"
    if path.is_file():
        held = read_json(path, "settings")["settings"]
        if held != settings:
            raise ValueError(f"{out} holds results of {held}, this run has {dict(settings)}; give another --out")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(json.dumps({"settings": settings}, indent=1), path)
