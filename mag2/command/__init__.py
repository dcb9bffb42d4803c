"""The command `mag2`: train, score, report, figures, texts, extract, and lists of datasets, models and recipes."""

import sys
from collections.abc import Sequence

from mag2 import interrupts
from mag2.command.parser import Command, Parser
from mag2.saving import library_version
from mag2.saving.sentences import error_sentence, unknown_name

__all__ = ["main"]

_ABOUT = """Score long sports performances with language-guided models (MAG2 and others).

Each command has an example in its help: mag2 score --help"""


def _commands() -> dict[str, Command]:
    """The commands by name."""
    from mag2.command import extract, figures, lists, report, score, texts, train

    every = (
        train.COMMAND,
        score.COMMAND,
        report.COMMAND,
        figures.COMMAND,
        texts.COMMAND,
        extract.COMMAND,
        *lists.COMMANDS,
    )
    return {command.name: command for command in every}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status.

    The status is 0; 1 if something failed; 2 for an error in the input; 130 if it was stopped.

    Args:
        arguments: the arguments without the program's name; those of this process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = _commands()
    parser = Parser(prog="mag2", description=_ABOUT, epilog=_listed(commands))
    parser.add_argument("--version", action="version", version=f"mag2 {library_version()}")
    parser.add_argument("command", metavar="COMMAND", help="one of the commands below")
    if not given:
        parser.print_help()
        return 2
    if given[0].startswith("-"):
        parser.parse_args(given)  # --help and --version end here
    name, rest = given[0], given[1:]
    if name not in commands:
        parser.error(unknown_name("command", name, commands))
    interrupts.end()  # no earlier: what stands above is outside the try
    try:
        return commands[name].run(rest)
    except (ValueError, OSError) as error:
        Parser(prog=f"mag2 {name}").error(error_sentence(error))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _listed(commands: dict[str, Command]) -> str:
    return "\n".join(["commands:", *(f"  {name:10}{command.summary}" for name, command in commands.items())])
