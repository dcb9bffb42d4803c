"""What all commands share: options, help that ends with an example, errors of one line, results for machines."""

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
    """An error is one line; descriptions keep their lines; options are not abbreviated."""

    def __init__(self, **options: Any):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with 2."""
        self.exit(2, f"{self.prog}: error: {printable(message)}\n")


def make_parser(name: str, about: str, *examples: str) -> Parser:
    """The parser of a command, whose help ends with examples; it has `--json`."""
    shown = "\n".join(["example:" if len(examples) == 1 else "examples:", *(f"  {each}" for each in examples)])
    parser = Parser(prog=f"mag2 {name}", description=about, epilog=shown)
    parser.add_argument("--json", action="store_true", help="print the result as JSON, for programs")
    return parser


def add_choice(parser: Parser) -> None:
    """Options that choose whose model is drawn: `--row --target --seed --data`."""
    add = parser.add_argument
    add("--row", help="draw the model of this row; by default MLAVL's first, else the first")
    add("--target", help="of several targets one: TES, or FS1000/TES")
    add("--seed", type=whole_number(0), help="of several seeds one (the smallest)")
    add("--data", type=given_path, metavar="FOLDER", help="where the run's own data lie now, if they have moved")


def print_json(value: Any) -> None:
    """Print a value for programs."""
    print(json.dumps(value, indent=1, ensure_ascii=False))
