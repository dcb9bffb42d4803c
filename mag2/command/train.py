"""`mag2 train`: train models by name, on simulated data or on folders of features."""

import argparse
import contextlib
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mag2.command.parser import Command, print_json

__all__ = ["COMMAND"]

PROGRAM = "mag2 train"
_ABOUT = """Train models and save them. Without --data the performances are simulated, and all results are marked so.

Results, weights and predictions are written to --out (docs/run-folder.md). The same command continues a stopped run."""
_EXAMPLES = """examples:
  mag2 train                                        the demo: MLAVL on simulated FS1000, TES
  mag2 train --rows gdlt gdlt+mag2 --seeds 0 1 2    two models, three seeds
  mag2 train --data FS1000=data/FS1000 --targets TES PCS

mag2 models lists the rows."""


def _run(arguments: Sequence[str]) -> int:
    from mag2.command.models import TRAIN
    from mag2.training.command import main
    from mag2.training.options import chosen_out, make_parser

    given = [each for each in arguments if each != "--json"]
    parser = make_parser(TRAIN)
    parser.prog, parser.description, parser.epilog = PROGRAM, _ABOUT, _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", action="store_true", help="print the result as JSON, for programs")
    options = parser.parse_args(given)  # faults and --help end here
    as_json = "--json" in arguments
    page = io.StringIO()
    with contextlib.redirect_stdout(page if as_json else sys.stdout):
        status = main(TRAIN, given, program=PROGRAM)
    if as_json:
        print_json(_result(chosen_out(TRAIN, options), status))
    return status


def _result(out: Path, status: int) -> dict[str, Any]:
    """What stands in the folder of results: every measure, and the folders of the trained models."""
    from mag2.training.trained_folder import ABOUT

    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        lines = [{key: _number(value) for key, value in line.items()} for line in csv.DictReader(file)]
    trained = sorted(str(path.parent) for path in out.rglob(ABOUT))
    return {"out": str(out), "status": status, "results": lines, "trained": trained}


def _number(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


COMMAND = Command("train", "train models by name, on simulated data or your own", _run)
