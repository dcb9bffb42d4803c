"""Parts that all commands use: options, help that ends with an example, errors of one line, results as JSON."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mag2.saving.arguments import given_path, whole_number
from mag2.saving.sentences import printable

__all__ = ["Command", "Parser", "add_choice", "make_parser", "print_json"]


@dataclass(frozen=True)
class Command:
    """A command: its name, what it does in a few words, and the function that runs it and returns the exit status."""

    name: str
    summary: str
    run: Callable[[Sequence[str]], int]


class Parser(argparse.ArgumentParser):
    """A parser whose errors have one line; descriptions keep their lines, and options cannot be abbreviated."""

    def __init__(self, **options: Any):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """Print the error in one line, and end with exit status 2."""
        self.exit(2, f"{self.prog}: error: {printable(message)}\n")


def make_parser(name: str, about: str, *examples: str) -> Parser:
    """Return the parser of a command, with `--json`; its help ends with examples."""
    shown = "\n".join(["example:" if len(examples) == 1 else "examples:", *(f"  {each}" for each in examples)])
    parser = Parser(prog=f"mag2 {name}", description=about, epilog=shown)
    parser.add_argument("--json", action="store_true", help="print the result as JSON, for programs")
    return parser


def add_choice(parser: Parser) -> None:
    """Add the options that select a training: `--row --target --seed --data`."""
    add = parser.add_argument
    add("--row", help="row whose model is shown; by default MLAVL's first row, else the first row")
    add("--target", help="one of several targets: TES, or FS1000/TES")
    add("--seed", type=whole_number(0), help="one of several seeds (the smallest)")
    add("--data", type=given_path, metavar="FOLDER", help="present folder of the run's data, if they have moved")


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=False))
