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

import interrupts
from logo import LOGO
from table1 import TABLE1
from table2 import TABLE2
from table3 import TABLE3
from table4 import TABLE4
from table5 import TABLE5
from table6 import TABLE6

from mag2.data import DATASETS
from mag2.saving.arguments import given_path
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
    ran: list[int] = []
    pages, started = {}, time.monotonic()
    for name in options.tables:
        table = TABLES[name]
        if name in chosen:
            given = [f"{dataset}={folder}" for dataset, folder in folders.items() if dataset in table.targets]
            own = _without_texts_of_others(passed, table)
            ended, pages[name] = _page(table, out / table.name, [*(["--data", *given] if given else []), *own])
            if ended == STOPPED:
                return ended
            # A table that lacks a folder says so, on the page too; it is no fault of the others.
            if ended != REFUSED or "there is no folder" not in pages[name]:
                ran.append(ended)
        else:
            why = f"it is of {' and '.join(table.targets)}, and --data has {' and '.join(folders)}"
            pages[name] = f"## {table.title}: not run\n\n{why}\n"
            print(f"{table.title} is not run: {why}", file=sys.stderr)
        # After every table, so that the finished ones can be read.
        out.mkdir(parents=True, exist_ok=True)
        write_atomically("\n".join(["# The tables of the paper", "", *pages.values()]), out / "tables.md")
    print(f"Written: {out / 'tables.md'}, after {(time.monotonic() - started) / 60:.1f} min")
    return max(ran, default=REFUSED)


STOPPED, REFUSED = 130, 2  # exit statuses of a command that was interrupted, and of one whose input is at fault


def _without_texts_of_others(arguments: list[str], table: Table) -> list[str]:
    """The arguments without DATASET=ENCODER of datasets that a table does not have."""
    others = tuple(f"{name}=" for name in DATASETS if name not in table.targets)
    if "--texts" not in arguments:
        return arguments
    begin = arguments.index("--texts") + 1
    end = next((i for i in range(begin, len(arguments)) if arguments[i].startswith("--")), len(arguments))
    texts = [each for each in arguments[begin:end] if not each.startswith(others)]
    return [*arguments[: begin - 1], *(["--texts", *texts] if texts else []), *arguments[end:]]


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
    add(
        "--tables",
        nargs="+",
        choices=TABLES,
        default=list(TABLES),
        metavar="TABLE",
        help=f"tables to train: any of {' '.join(TABLES)}",
    )
    add("--data", nargs="+", default=[], metavar="DATASET=FOLDER", help="folders of released files")
    add("--out", type=given_path, help="folder to write to; each table has a subfolder")
    return parser


if __name__ == "__main__":
    sys.exit(interrupts.run(run))
