"""Label files: rows of plain text with their file and line, and the labelled videos made of them."""

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mag2.data.errors import DataError
from mag2.data.names import require_inner_name
from mag2.saving.sentences import reason_of, shortened

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")

__all__ = ["Example", "LabelRow", "read_rows", "require_labels", "require_unique_names", "scaled"]


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """One labelled video: its name, its label in [0, 1], and the file and line of the label, for errors."""

    name: str
    label: float
    where: str


@dataclass(frozen=True)
class LabelRow:
    """One row of a label file, split at white space; lines are counted from 1."""

    path: Path
    line: int
    fields: tuple[str, ...]

    @property
    def where(self) -> str:
        """File and line, for errors."""
        return f"{self.path} line {self.line}"

    def require_columns(self, columns: Sequence[str]) -> None:
        """Raise DataError unless the row has exactly these columns."""
        if len(self.fields) != len(columns):
            raise DataError(
                f"{self.where} has {len(self.fields)} columns where {len(columns)} are wanted: "
                f"{' '.join(columns)}, separated by white space"
            )

    def number(self, column: int, meaning: str) -> float:
        """The finite number in that column; DataError where there is none."""
        text = self.fields[column]
        # float() would also take "5_2.5", and the digits of every script.
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(value):
            raise DataError(f"{self.where} has {shortened(text)} as its {meaning}: write a number there, such as 52.5")
        return value


def read_rows(path: Path, *, optional_header: bool = False) -> list[LabelRow]:
    """Return the rows of a label file that are not blank.

    Args:
        path: the file.
        optional_header: whether the file may have a header line. The first line is a header if none of its fields has a
            digit, and none but the first is a number.

    Raises:
        DataError: the file is missing, no text, or without rows.
    """
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise DataError(f"the label file {path} is no regular file: give a text file")
    try:
        text = path.read_text(encoding="utf-8-sig")  # -sig: an editor's byte order mark is not part of a name
    except FileNotFoundError:
        raise DataError(f"there is no label file {path}: put it there or give its folder") from None
    except UnicodeDecodeError as fault:
        line = fault.object[: fault.start].count(b"\n") + 1
        raise DataError(f"{path} line {line} is not UTF-8 text: save the label file as plain text") from None
    except OSError as fault:
        raise DataError(f"the label file {path} cannot be read ({reason_of(fault)}): {_advice(fault)}") from None
    rows = [LabelRow(path, line, tuple(row.split())) for line, row in enumerate(text.split("\n"), 1) if row.strip()]
    if not rows:
        raise DataError(f"the label file {path} has no rows: one row per video is wanted")
    header = optional_header and _is_header(rows[0].fields)
    if optional_header:
        found = f"line {rows[0].line} is a header" if header else f"no header, line {rows[0].line} is a video"
        log.info("%s: %s", path, found)
    if header:
        rows = rows[1:]
        if not rows:
            raise DataError(f"the label file {path} has a header and no rows: one row per video is wanted")
    return rows


def scaled(value: float, scale: float, *, meaning: str, where: str) -> float:
    """Return a score divided by its scale, in [0, 1]; DataError where it is outside."""
    if not 0 <= value <= scale:
        raise DataError(
            f"{where} gives {meaning} as {shortened(value)}, outside its scale of 0 to {scale:g}: correct the row"
        )
    return value / scale


def require_labels(examples: Sequence[Example], split: str) -> None:
    """Raise DataError where a split has no videos, or a label outside [0, 1]; `split` names it in the error."""
    if not examples:
        raise DataError(f"{split} has no videos: label one or more")
    for example in examples:
        if not 0 <= example.label <= 1:
            raise DataError(
                f"{example.where} gives {example.name!r} the label {example.label!r}, outside 0 to 1: "
                f"divide the score by its scale"
            )


def require_unique_names(train: Sequence[Example], test: Sequence[Example]) -> None:
    """Raise DataError where a name is twice in a split, or in both splits, or leads out of the folder of features."""
    seen: dict[str, str] = {}
    for split in (train, test):
        before = dict(seen)
        for example in split:
            require_inner_name(example.name, example.where)
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


def _advice(fault: OSError) -> str:
    return "allow this user to read it" if isinstance(fault, PermissionError) else "give a text file"


def _is_header(fields: Sequence[str]) -> bool:
    has_digit = any(letter.isdigit() for field in fields for letter in field)
    return not has_digit and not any(map(_is_number, fields[1:]))


def _is_number(text: str) -> bool:
    """Whether it parses; "nan" and "inf" do, so such a line is a row, and `LabelRow.number` refuses it."""
    try:
        float(text)
    except ValueError:
        return False
    return True
