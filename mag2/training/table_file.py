"""`table.json`: what a folder of results is a table of, so that a page can be made of the folder alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mag2.saving.atomic_io import read_json, write_atomically
from mag2.training.tables import Heading, Table
from mag2.training.target import Target

__all__ = ["TABLE", "TableFile", "read_table", "write_table"]

TABLE = "table.json"


@dataclass(frozen=True)
class TableFile:
    """What `write_table` wrote: the title, the measures of the page, and the rows, with what the paper prints."""

    title: str
    metrics: tuple[str, ...]
    headings: tuple[Heading, ...]


def write_table(table: Table, headings: Sequence[Heading], out: Path) -> None:
    """Write the file. The headings of simulated data are given without published numbers."""
    rows = [
        {
            "key": heading.key,
            "method": heading.method,
            "variant": heading.variant,
            "published": {str(target): dict(numbers) for target, numbers in heading.published.items()},
        }
        for heading in headings
    ]
    about = {"name": table.name, "title": table.title, "metrics": list(table.metrics), "rows": rows}
    write_atomically(json.dumps(about, indent=1) + "\n", out / TABLE)


def read_table(out: Path) -> TableFile | None:
    """Read the file of a folder; None where an earlier version wrote the folder.

    Raises:
        ValueError: it is damaged.
    """
    path = out / TABLE
    if not path.is_file():
        return None
    about = read_json(path, "title", "metrics", "rows")
    try:
        headings = tuple(
            Heading(
                row["key"],
                row["method"],
                row["variant"],
                {Target.parse(target): dict(numbers) for target, numbers in row["published"].items()},
            )
            for row in about["rows"]
        )
        return TableFile(str(about["title"]), tuple(about["metrics"]), headings)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged; delete it, or give another folder") from None
