"""Arguments of commands: files and folders, and numbers within bounds."""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from mag2.saving.sentences import shortened

__all__ = ["given_path", "real_number", "whole_number"]

# `float` also takes "1_0", blanks, "inf", "nan" and the digits of every script.
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def given_path(text: str) -> Path:
    """Return the path that an argument names; an empty one is refused, because it would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no path; give a folder or a file")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path; it has a zero byte")
    return Path(text)


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of an option that is a whole number from `least` to `most`, below 2^31 where there is no `most`."""

    def whole(text: str) -> int:
        end = 2**31 - 1 if most is None else most
        # Longer ones are out of bounds, and Python converts none of more than 4,300 digits.
        if not (text.isascii() and text.isdecimal() and len(text) < 100) or not least <= int(text) <= end:
            within = f"of at least {least}, and below 2^31" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{shortened(text)} is no whole number {within}")
        return int(text)

    return whole


def real_number(least: float, most: float = math.inf, *, open_ends: bool = False) -> Callable[[str], float]:
    """The type of an option that is a finite number from `least` to `most`; strictly between them with `open_ends`."""

    def finite(text: str) -> float:
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        inside = least < value < most if open_ends else least <= value <= most
        if not inside or math.isinf(value):
            above = f"above {least:g}" if open_ends else f"of at least {least:g}"
            between = f"above {least:g} and below {most:g}" if open_ends else f"from {least:g} to {most:g}"
            within = above if math.isinf(most) else between
            raise argparse.ArgumentTypeError(f"{shortened(text)} is no number {within}")
        return value

    return finite
