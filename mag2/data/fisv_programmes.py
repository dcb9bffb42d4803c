"""Fis-V with the executed elements of its real videos, for simulated features around real programmes."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mag2.data.errors import DataError
from mag2.data.fisv import FisV
from mag2.data.programme import Programme, ProgrammeElement
from mag2.programmes import UnknownCodeError, execution_of, read_earlier_code
from mag2.programmes.execution import ranks

__all__ = ["ELEMENTS", "FisVProgrammes"]

ELEMENTS = "elements.csv"
COLUMNS = ("video", "number", "code", "base_value", "goe")


@dataclass(frozen=True, eq=False, repr=False)
class FisVProgrammes(FisV):
    """Fis-V for a simulation around its real programmes: scores, split, elements and their execution are real.

    The protocols have no mark for the music alone. In the simulation the music fits more elements of a video whose rank
    by PCS is higher than its rank by TES.

    Args:
        train, test: as in `FisV`.
        elements: of each video, by its number.
    """

    sport = "figure_skating_elements"

    elements: Mapping[str, tuple[ProgrammeElement, ...]] | None = None

    @classmethod
    def with_elements(cls, folder: str | Path) -> "FisVProgrammes":
        """Return Fis-V with the real `train.txt`, `test.txt` and `elements.csv` of a folder.

        Raises:
            DataError: a file is at fault, or a video has no elements.
        """
        labels, path = FisV.with_labels(folder), Path(folder) / ELEMENTS
        elements = read_elements(path)
        for row in (*labels.train, *labels.test):
            if row.fields[0] not in elements:
                raise DataError(f"{row.where} names {row.fields[0]!r}, and {path} has no elements of it: add them")
        return cls(labels.train, labels.test, elements)

    @property
    def programmes_of(self) -> str:
        """Fis-V."""
        return self.name

    def programmes(self) -> tuple[Sequence[Programme], Sequence[Programme]]:
        """The real performances of train and of test."""
        assert self.elements is not None
        rows = [*self.train, *self.test]
        scores = self.real_scores()
        music = ranks(ranks(np.array(scores["PCS"])) - ranks(np.array(scores["TES"])))
        made = [
            Programme(
                row.fields[0],
                self.elements[row.fields[0]],
                float(music[i]),
                1.0,
                {name: column[i] for name, column in scores.items()},
                technical=scores["TES"][i],
                component=scores["PCS"][i],
            )
            for i, row in enumerate(rows)
        ]
        return made[: len(self.train)], made[len(self.train) :]


def read_elements(path: Path) -> dict[str, tuple[ProgrammeElement, ...]]:
    """The executed elements of every video, from a CSV with the columns video, number, code, base_value, goe.

    Raises:
        DataError: no such file, other columns, or a row with an unknown code or no number; it names the line.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}: put the executed elements there")
    by_video: dict[str, list[ProgrammeElement]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(f"{path} has the columns {', '.join(reader.fieldnames or ())}: give {', '.join(COLUMNS)}")
        for row in reader:
            where = f"{path} line {reader.line_num}"
            try:
                notation, goe = read_earlier_code(row["code"] or ""), float(row["goe"] or "")
            except UnknownCodeError as fault:
                raise DataError(f"{where} has an {fault}") from None
            except ValueError:
                raise DataError(f"{where} has {row['goe']!r} as its goe: write a number there") from None
            by_video[row["video"]].append(ProgrammeElement(notation.actions, execution_of(notation, goe)))
    return {video: tuple(elements) for video, elements in by_video.items()}
