"""All tables of the paper and LOGO, one after the other, and one page with all of them.

    python examples/tables.py                                                    # simulated data, says so
    python examples/tables.py --data FS1000=/path/FS1000 RG=/path/RG LOGO=/path/LOGO

A table is run where one of its datasets is there. `--tables` chooses; every other option is passed to each table, as
its own command takes it (`python examples/table1.py --help`). A table that cannot be run does not stop the others: the
page says why. A run that was stopped continues from its folder.
"""

import argparse
import contextlib
import io
import sys
import time
from pathlib import Path
from typing import TextIO

from logo import LOGO
from table1 import TABLE1
from table2 import TABLE2
from table3 import TABLE3
from table4 import TABLE4
from table5 import TABLE5
from table6 import TABLE6

from mag2.data import DATASETS
from mag2.saving.atomic_io import write_atomically
from mag2.training.command import main
from mag2.training.options import default_out
from mag2.training.tables import Table

TABLES = {table.name.removeprefix("table"): table for table in (TABLE1, TABLE2, TABLE3, TABLE4, TABLE5, TABLE6, LOGO)}


def run(arguments: list[str] | None = None) -> int:
    """Run the tables and write the page."""
    options, passed = _parser().parse_known_args(arguments)
    folders = dict(given.partition("=")[::2] for given in options.data)
    for name, folder in folders.items():
        if name not in DATASETS or not folder:
            print(f"tables.py: error: --data wants DATASET=FOLDER, of {', '.join(DATASETS)}", file=sys.stderr)
            return 2
    chosen = {name: TABLES[name] for name in options.tables if not folders or set(folders) & set(TABLES[name].targets)}
    if not chosen:
        print(
            f"tables.py: error: none of these tables is of {', '.join(folders)}; run one alone on it", file=sys.stderr
        )
        return 2
    out = options.out or default_out("tables", bool(folders))
    status, pages, started = 0, {}, time.monotonic()
    for name, table in chosen.items():
        given = [f"{dataset}={folder}" for dataset, folder in folders.items() if dataset in table.targets]
        ended, pages[name] = _page(table, out / table.name, [*(["--data", *given] if given else []), *passed])
        status = max(status, ended)
        if ended == STOPPED:
            return ended
        # After every table, so that the finished ones can be read.
        out.mkdir(parents=True, exist_ok=True)
        write_atomically("\n".join(["# The tables of the paper", "", *pages.values()]), out / "tables.md")
    print(f"Written: {out / 'tables.md'}, after {(time.monotonic() - started) / 60:.1f} min")
    return status


STOPPED = 130  # the exit status of a command that was interrupted


def _page(table: Table, out: Path, arguments: list[str]) -> tuple[int, str]:
    """Run a table: its exit status, and its page with headings one level lower."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(_Both(sys.stderr, errors)):
            status = main(table, [*arguments, "--out", str(out)])
    except SystemExit as stop:
        sentence = errors.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        return int(stop.code or 0), f"## {table.title}: not run\n\n{sentence}\n"
    page = out / f"{table.name}.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else f"# {table.title}: stopped\n"
    return status, f"#{text}".replace("\n#", "\n##")


class _Both(io.TextIOBase):
    """A stream that writes to two streams."""

    def __init__(self, shown: TextIO, kept: TextIO):
        self.shown, self.kept = shown, kept

    def write(self, text: str) -> int:
        self.kept.write(text)
        return self.shown.write(text)

    def flush(self) -> None:
        self.shown.flush()

    def isatty(self) -> bool:
        return self.shown.isatty()

    def fileno(self) -> int:
        return self.shown.fileno()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE", help=f"of {' '.join(TABLES)}")
    add("--data", nargs="+", default=[], metavar="DATASET=FOLDER", help="folders of released files")
    add("--out", type=Path, help="a folder in which every table gets one of its own")
    return parser


if __name__ == "__main__":
    sys.exit(run())
