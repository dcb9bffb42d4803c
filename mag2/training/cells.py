"""The cells of a grid of trainings, and their results on disk."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mag2.saving.atomic_io import read_json, write_atomically
from mag2.training.target import Target

__all__ = ["Cell", "Outcome", "finished_results", "read_result", "write_result"]


@dataclass(frozen=True)
class Cell:
    """One training of a table: a row, a target and a seed."""

    row: str
    target: Target
    seed: int

    def folder(self, out: Path) -> Path:
        """The folder of its files."""
        return out / "cells" / f"row-{self.row}" / str(self.target) / f"seed-{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a cell.

    Attributes:
        cell: the cell.
        result: its result; None if it failed.
        error: the reason of the failure, one sentence; None if there is a result.
        fresh: False if an earlier run trained it.
    """

    cell: Cell
    result: dict[str, Any] | None
    error: str | None = None
    fresh: bool = True


def write_result(cell: Cell, out: Path, result: dict[str, Any]) -> None:
    """Write the result of a cell, plain JSON, into its folder, which exists."""
    about = {"row": cell.row, "target": str(cell.target), "seed": cell.seed}
    write_atomically(json.dumps({"cell": about, "result": result}, indent=1), _file(cell, out))


def read_result(cell: Cell, out: Path) -> dict[str, Any] | None:
    """The result of a cell that is finished, else None."""
    path = _file(cell, out)
    return read_json(path, "cell", "result")["result"] if path.is_file() else None


def finished_results(out: Path) -> dict[Cell, dict[str, Any]]:
    """The finished cells of a folder, of any run, and their results.

    Raises:
        ValueError: a file is damaged; one sentence.
    """
    results = {}
    for path in sorted((out / "cells").rglob("result.json")):
        file = read_json(path, "cell", "result")
        about = file["cell"]
        try:
            cell = Cell(str(about["row"]), Target.parse(about["target"]), int(about["seed"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError(f"{path} is damaged or foreign: it names no row, target and seed; delete it") from None
        results[cell] = file["result"]
    return results


def _file(cell: Cell, out: Path) -> Path:
    return cell.folder(out) / "result.json"
