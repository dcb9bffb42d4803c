"""`mag2 report`: one HTML file of a run."""

from collections.abc import Sequence
from pathlib import Path

from mag2.command.parser import Command, make_parser, print_json

__all__ = ["COMMAND"]

_ABOUT = """Write a run as one HTML file that needs no network: tables that sort, figures, settings and versions."""


def _run(arguments: Sequence[str]) -> int:
    parser = make_parser("report", _ABOUT, "mag2 report runs/train-simulated --out report.html")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of results, or of one training")
    parser.add_argument("--out", type=Path, metavar="FILE", help="(RUN/report.html)")
    options = parser.parse_args(list(arguments))
    if not options.run.is_dir():
        parser.error(f"there is no folder {options.run}; give the folder of a run")
    try:
        from mag2.report import write_report
    except ImportError as missing:
        parser.error(f"a report needs {missing.name}: pip install 'mag2[report]'")
    out = options.out or options.run / "report.html"
    write_report(options.run, out)
    if options.json:
        print_json({"report": str(out)})
    else:
        print(f"Written: {out}")
    return 0


COMMAND = Command("report", "write a run as one HTML file", _run)
