"""Label files: rows of plain text, each of which knows where it stands."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mag2.data.errors import DataError


@dataclass(frozen=True)
class Example:
    """One labelled video: its name, its label in [0, 1], and the file and line that say so."""

    name: str
    label: float
    where: str


@dataclass(frozen=True)
class Line:
    """One row of a label file, split at white space."""

    path: Path
    number: int
    cells: tuple[str, ...]

    @property
    def where(self) -> str:
        """File and line, for the reader of an error."""
        return f"{self.path} line {self.number}"

    def want(self, columns: Sequence[str]) -> None:
        """Raise DataError unless the row has exactly these columns."""
        if len(self.cells) != len(columns):
            raise DataError(
                f"{self.where} has {len(self.cells)} columns where {len(columns)} are wanted: "
                f"{' '.join(columns)}, separated by white space"
            )

    def real(self, column: int, meaning: str) -> float:
        """The finite number in that column; DataError where there is none."""
        text = self.cells[column]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(f"{self.where} has {text!r} as its {meaning}: write a number there")
        return value


def read_lines(path: Path) -> list[Line]:
    """The rows of a label file that are not blank; DataError where the file is missing, no text or empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # -sig: an editor's byte order mark is not part of a name
    except FileNotFoundError:
        raise DataError(f"there is no label file {path}: put it there or give its folder") from None
    except UnicodeDecodeError as fault:
        line = fault.object[: fault.start].count(b"\n") + 1
        raise DataError(f"{path} line {line} is not UTF-8 text: save the label file as plain text") from None
    except OSError as fault:
        raise DataError(f"the label file {path} cannot be read ({fault.strerror}): give a text file") from None
    lines = [Line(path, number, tuple(row.split())) for number, row in enumerate(text.split("\n"), 1) if row.strip()]
    if not lines:
        raise DataError(f"the label file {path} has no rows: one row per video is wanted")
    return lines


def scaled(value: float, scale: float, *, meaning: str, where: str) -> float:
    """A score divided by its scale, in [0, 1]; DataError where it lies outside."""
    if not 0 <= value <= scale:
        raise DataError(f"{where} gives {meaning} as {value!r}, outside its scale of 0 to {scale:g}: correct the row")
    return value / scale


def want_unique_names(train: Sequence[Example], test: Sequence[Example]) -> None:
    """Raise DataError where a name stands twice in a split, or in both."""
    seen: dict[str, str] = {}
    for split in (train, test):
        before = dict(seen)
        for example in split:
            if example.name in before:
                raise DataError(
                    f"{example.where} names {example.name!r}, which is also in the other split, "
                    f"{before[example.name]}: keep it in one of them"
                )
            if example.name in seen:
                raise DataError(
                    f"{example.where} names {example.name!r} again after {seen[example.name]}: keep one of the rows"
                )
            seen[example.name] = example.where
