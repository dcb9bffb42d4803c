"""The numbers of the paper: its tables and training recipes, as CSV beside this file (supplement, CVPR 2025)."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["Published", "recipes", "table"]


@cache
def table(number: int) -> tuple[dict[str, str], ...]:
    """Return the rows of a table of the supplement, each a dict from column name to text.

    Args:
        number: of the table, 1 to 7.

    Raises:
        ValueError: there is no such table.
    """
    path = files(__name__) / f"table{number}.csv"
    if not path.is_file():
        raise ValueError(f"no published table {number}; there are 1 to 7")
    return tuple(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@dataclass(frozen=True)
class Published:
    """How the paper trained for a target.

    Attributes:
        score_scale: the number that scores are divided by.
        epochs: the number of epochs.
    """

    score_scale: float
    epochs: int


@cache
def recipes() -> dict[tuple[str, str], Published]:
    """Return the paper's scale of labels and number of epochs for each (dataset, target)."""
    rows = csv.DictReader((files(__name__) / "recipes.csv").read_text(encoding="utf-8").splitlines())
    return {(r["dataset"], r["target"]): Published(float(r["score_scale"]), int(r["epochs"])) for r in rows}
