"""`mag2 extract`: videos to features; `mag2.extraction.command` has its options."""

from collections.abc import Sequence

from mag2.command.parser import Command

__all__ = ["COMMAND"]


def _run(arguments: Sequence[str]) -> int:
    from mag2.extraction.command import main

    return main(arguments)


COMMAND = Command("extract", "turn videos into features that the other commands read", _run)
