"""All tables of the paper and LOGO, one after the other, and one page with all of them.

    python examples/tables.py                                                    # simulated data, says so
    python examples/tables.py --data FS1000=/path/FS1000 RG=/path/RG LOGO=/path/LOGO

A table is run where one of its datasets is there. `--tables` chooses; every other option is handed to each table as
its own command takes it (`python examples/table1.py --help`). A run that was stopped goes on from its folder.
"""

import argparse
import sys
import time
from pathlib import Path

from logo import LOGO
from table1 import TABLE1
from table2 import TABLE2
from table3 import TABLE3
from table4 import TABLE4
from table5 import TABLE5
from table6 import TABLE6

from mag2.checkpoints import write_atomically
from mag2.training.command import default_out, main

TABLES = {table.name.removeprefix("table"): table for table in (TABLE1, TABLE2, TABLE3, TABLE4, TABLE5, TABLE6, LOGO)}


def run(arguments: list[str] | None = None) -> int:
    """Run the tables and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE")
    parser.add_argument("--data", nargs="+", default=[], metavar="DATASET=FOLDER")
    parser.add_argument("--out", type=Path, help="a folder in which every table gets one of its own")
    options, handed = parser.parse_known_args(arguments)
    folders = dict(given.partition("=")[::2] for given in options.data)
    out = options.out or default_out("tables", bool(folders))
    status, pages, started = 0, [], time.monotonic()
    for name in options.tables:
        table = TABLES[name]
        data = [f"{dataset}={folder}" for dataset, folder in folders.items() if dataset in table.targets]
        if folders and not data:
            print(f"{table.title} wants {' or '.join(table.targets)}: left out", file=sys.stderr)
            continue
        given = ["--data", *data] if data else []
        status = max(status, main(table, [*given, "--out", str(out / table.name), *handed]))
        pages.append((out / table.name / f"{table.name}.md").read_text(encoding="utf-8"))
    # Each page is headed by its table; one heading stands above them all.
    below = [f"#{page}".replace("\n#", "\n##") for page in pages]
    write_atomically("\n".join(["# The tables of the paper", "", *below]), out / "tables.md")
    print(f"Written: {out / 'tables.md'}, after {(time.monotonic() - started) / 60:.1f} min")
    return status


if __name__ == "__main__":
    sys.exit(run())
