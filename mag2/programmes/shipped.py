"""The real performances that the library ships: 1,726 of 17 competitions, with 15,302 executed elements.

They are BuzzFeed News' "figure-skating-scores", parsed from the ISU's protocols, under CC BY 4.0 (`LICENSE-isu.txt`).
`isu.zip` holds the two tables as CSV; `examples/ship_programmes.py` makes it.
"""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from zipfile import ZipFile

from mag2.programmes.notation import DISCIPLINES
from mag2.programmes.performances import SEGMENTS, TARGETS, Element, Performance

__all__ = ["ELEMENTS", "PERFORMANCES", "SHIPPED", "read_performances", "read_tables"]

SHIPPED = Path(__file__).parent / "isu.zip"
# The two tables: their file names and columns.
PERFORMANCES, ELEMENTS = "performances.csv", "elements.csv"
COLUMNS = {
    PERFORMANCES: ("id", "competition", "program", *TARGETS, "factor", "deductions"),
    ELEMENTS: ("id", "number", "code", "flag", "second_half", "base_value", "goe", "score"),
}
# How a protocol names a segment: "MEN FREE SKATING", "JUNIOR ICE DANCE SHORT DANCE".
_SEGMENT_NAMES = {
    "SHORT PROGRAM": "short",
    "SHORT DANCE": "short",
    "FREE SKATING": "free",
    "FREE DANCE": "free",
}
_JUNIOR = "JUNIOR "


def read_performances(*, discipline: str | None = None, segment: str | None = None) -> tuple[Performance, ...]:
    """Return the performances that the library ships, in the order of the source.

    Args:
        discipline: "men", "ladies", "pairs" or "ice dance"; all by default.
        segment: "short" or "free"; both by default.

    Raises:
        ValueError: no such discipline or segment.
    """
    for what, given, known in (("discipline", discipline, DISCIPLINES), ("segment", segment, SEGMENTS)):
        if given is not None and given not in known:
            raise ValueError(f"no {what} {given!r}; there are {', '.join(known)}")
    return tuple(each for each in _all() if discipline in (None, each.discipline) and segment in (None, each.segment))


@cache
def _all() -> tuple[Performance, ...]:
    with ZipFile(SHIPPED) as archive:
        tables = {name: io.StringIO(archive.read(name).decode()) for name in (PERFORMANCES, ELEMENTS)}
    return read_tables(tables[PERFORMANCES], tables[ELEMENTS])


def read_tables(performances: Iterable[str], elements: Iterable[str]) -> tuple[Performance, ...]:
    """Performances from the lines of their two tables, in the order of the first.

    Raises:
        ValueError: other columns than `COLUMNS`, a value of another kind than its column has, an id twice, or ids that
            only one of the tables has.
    """
    by_id: dict[str, list[Element]] = defaultdict(list)
    for where, row in _rows(ELEMENTS, elements):
        by_id[row["id"]].append(_element(row, where))
    read: dict[str, Performance] = {}
    for where, row in _rows(PERFORMANCES, performances):
        if row["id"] in read:
            raise ValueError(f"{where}: {row['id']!r} stands twice")
        read[row["id"]] = _performance(row, by_id[row["id"]], where)
    for name in sorted(by_id.keys() - read.keys()):
        raise ValueError(f"{ELEMENTS} has elements of {name!r}, which {PERFORMANCES} does not have")
    return tuple(read.values())


def _rows(table: str, lines: Iterable[str]) -> Iterable[tuple[str, Mapping[str, str]]]:
    """Where each row stands, and its values by column."""
    reader = csv.reader(lines)
    header = next(reader, [])
    if tuple(header) != COLUMNS[table]:
        raise ValueError(f"{table} has the columns {', '.join(header) or 'none'}; give {', '.join(COLUMNS[table])}")
    for row in reader:
        where = f"{table}, line {reader.line_num}"
        if len(row) != len(header):
            raise ValueError(f"{where}: {len(row)} values in {len(header)} columns")
        yield where, dict(zip(header, row, strict=True))


def _element(row: Mapping[str, str], where: str) -> Element:
    if row["second_half"] not in ("", "x", "X"):  # protocols print either letter
        raise ValueError(f"{where}: second_half is {row['second_half']!r}; it is x, X or empty")
    if not row["number"].isdecimal():
        raise ValueError(f"{where}: number is {row['number']!r}, no whole number")
    return Element(
        int(row["number"]),
        row["code"],
        row["flag"],
        bool(row["second_half"]),
        *(_number(row, column, where) for column in ("base_value", "goe", "score")),
    )


def _performance(row: Mapping[str, str], elements: list[Element], where: str) -> Performance:
    if not elements:
        raise ValueError(f"{where}: {row['id']!r} has no elements")
    program = row["program"]
    junior = program.startswith(_JUNIOR)
    discipline, segment = _event(program.removeprefix(_JUNIOR), where)
    numbers = {column: _number(row, column, where) for column in COLUMNS[PERFORMANCES][3:]}
    read = Performance(row["id"], row["competition"], discipline, segment, junior, **numbers, elements=tuple(elements))
    if read.factor <= 0:
        raise ValueError(f"{where}: factor is {row['factor']!r}; a program factor is positive")
    return read


def _event(program: str, where: str) -> tuple[str, str]:
    for name, segment in _SEGMENT_NAMES.items():
        discipline = program.removesuffix(f" {name}").lower()
        if program.endswith(f" {name}") and discipline in DISCIPLINES:
            return discipline, segment
    raise ValueError(f"{where}: program is {program!r}, no segment of {', '.join(DISCIPLINES)}")


def _number(row: Mapping[str, str], column: str, where: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {column} is {row[column]!r}, no number")
    return value
