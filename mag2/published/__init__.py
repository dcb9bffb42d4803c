"""The numbers of the paper: its tables and training recipes, as CSV beside this file (supplement, CVPR 2025)."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["Published", "recipes", "table"]


@cache
def table(number: int) -> tuple[dict[str, str], ...]:
    """The rows of a table of the supplement, 1 to 7, by column name.

    Raises:
        ValueError: there is no such table.
    """
    path = files(__name__) / f"table{number}.csv"
    if not path.is_file():
        raise ValueError(f"no published table {number}; there are 1 to 7")
    return tuple(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@dataclass(frozen=True)
class Published:
    """How the paper trained a target: what labels are divided by, and for how many epochs."""

    score_scale: float
    epochs: int


@cache
def recipes() -> dict[tuple[str, str], Published]:
    """(dataset, target) -> label scale and epochs."""
    rows = csv.DictReader((files(__name__) / "recipes.csv").read_text(encoding="utf-8").splitlines())
    return {(r["dataset"], r["target"]): Published(float(r["score_scale"]), int(r["epochs"])) for r in rows}
