"""`mag2 report`: one HTML file of a run, or of scored performances."""

from collections.abc import Sequence

from mag2.command.parser import Command, add_choice, make_parser, print_json
from mag2.saving.arguments import given_path

__all__ = ["COMMAND"]

_ABOUT = """Write a report of a run as one HTML file, which needs no network: tables, figures, settings and versions.

RUN is a folder of a table's results, the folder of one training, or a JSON file that `mag2 score --out` wrote."""
_EXAMPLES = (
    "mag2 report runs/train-simulated --out report.html",
    "mag2 score runs/train-simulated --out scores.json; mag2 report scores.json",
)


def _run(arguments: Sequence[str]) -> int:
    parser = make_parser("report", _ABOUT, *_EXAMPLES)
    parser.add_argument(
        "run",
        type=given_path,
        metavar="RUN",
        help="folder of a table's results or of one training, or a file of scores",
    )
    parser.add_argument("--out", type=given_path, metavar="FILE", help="file to write (RUN/report.html)")
    parser.add_argument("--no-figures", action="store_true", help="leave out the figures of a run")
    add_choice(parser)
    options = parser.parse_args(list(arguments))
    if not options.run.exists():
        parser.error(f"there is no folder {options.run}; give the folder of a run, or a file of scores")
    if options.data is not None and options.no_figures:
        parser.error("--data is for the figures; leave it out, or --no-figures")
    try:
        from mag2.report import write_report
    except ImportError as missing:
        parser.error(f"a report needs {missing.name}: pip install 'mag2[report]'")
    out = write_report(
        options.run,
        options.out,
        row=options.row,
        target=options.target,
        seed=options.seed,
        figures=not options.no_figures,
        data=options.data,
    )
    if options.json:
        print_json({"report": str(out)})
    else:
        print(f"Written: {out}")
    return 0


COMMAND = Command("report", "write a run, or scores, as one HTML file", _run)
