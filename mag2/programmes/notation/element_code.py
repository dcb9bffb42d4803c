"""The content of an element's code, and the marks and levels that all codes share."""

import re
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["DISCIPLINES", "KINDS", "MARKS", "SINGLES_AND_PAIRS", "ElementCode", "Jump", "UnknownCodeError"]

DISCIPLINES = ("men", "ladies", "pairs", "ice dance")
SINGLES_AND_PAIRS = ("men", "ladies", "pairs")
KINDS = (
    "jump",
    "throw jump",
    "twist lift",
    "pair lift",
    "death spiral",
    "spin",
    "pair spin",
    "step sequence",
    "choreographic element",
    "pattern dance",
    "twizzles",
    "dance lift",
)

# The technical panel's signs, in the order in which a description lists them.
MARKS = {
    "e": "wrong edge",
    "!": "unclear edge",
    "<": "under-rotated",
    "<<": "downgraded",
    ">": "extended",
    "*": "invalid",
}
# An element gets one of each pair at most.
_EXCLUSIVE = (("e", "!"), ("<", "<<"))
_SIGN = re.compile(r"<<|[e!<>*]")
# What codes of several files end with.
LEVEL = r"(?P<level>[B1-4]?)"
ROTATIONS = {"": "popped", "1": "single", "2": "double", "3": "triple", "4": "quadruple"}


class UnknownCodeError(ValueError):
    """The error about a code that is not in the notation of the ISU's protocols; the sentence names the code."""


@dataclass(frozen=True)
class Jump:
    """One jump of a jump element.

    Attributes:
        name: Axel, toe loop, Salchow, loop, flip or Lutz.
        rotations: as in the code, 1 to 4; 0 for a popped jump, whose code has no number.
        marks: the technical panel's marks of this jump, values of `MARKS` in their order.
        half_loop: True for a single loop inside a combination, before a Salchow or a flip, which is the code of a
            half-loop in these seasons.
    """

    name: str
    rotations: int
    marks: tuple[str, ...] = ()
    half_loop: bool = False


@dataclass(frozen=True)
class ElementCode:
    """The content of an element's code and its flags.

    Attributes:
        kind: one of `KINDS`.
        description: in plain English, "triple Lutz, triple toe loop combination, under-rotated".
        actions: the actions in order, without levels and marks: the jumps of a jump element, the two lifts of a
            combination lift, one name for every other element. Invalid jumps are included.
        disciplines: those of `DISCIPLINES` that have such an element.
        level: 1 to 4, 0 for the basic level; None where none was given, and for jumps and throws, which have none. For
            a combination lift the lower of its two levels (None is the lowest).
        rotations: of each jump in order, or of the throw or twist, 0 for a popped one; empty for other kinds.
        jumps: the jumps of a jump element, in order.
        marks: all marks of the element and its jumps, values of `MARKS` in their order, each once.
        reduced: True where the code ends in V: a requirement is missing and the base value is reduced.
    """

    kind: str
    description: str
    actions: tuple[str, ...]
    disciplines: tuple[str, ...]
    level: int | None = None
    rotations: tuple[int, ...] = ()
    jumps: tuple[Jump, ...] = ()
    marks: tuple[str, ...] = ()
    reduced: bool = False

    @property
    def n_jumps(self) -> int:
        """The number of jumps in a jump element, 0 for other kinds."""
        return len(self.jumps)


def split_signs(text: str, code: str) -> frozenset[str]:
    """The panel's signs in a text, "<*" -> {"<", "*"}; `code` is what the error names.

    Raises:
        UnknownCodeError: another sign, or two that exclude each other.
    """
    signs = _SIGN.findall(text)
    if "".join(signs) != text:
        raise UnknownCodeError(f"unknown flags {text!r} of element {code!r}; flags are {' '.join(MARKS)}")
    return _compatible(frozenset(signs), code)


def allowed_signs(inline: str, flags: str, allowed: str, code: str) -> tuple[str, ...]:
    """The marks of an element that is no jump element: those in its code and those in its column, as words.

    Args:
        inline: the signs that end the code.
        flags: the signs of the flags column.
        allowed: the signs that such an element can have, separated by spaces.
        code: what the error names.

    Raises:
        UnknownCodeError: a sign that it cannot have.
    """
    signs = _compatible(split_signs(inline, code) | split_signs(flags, code), code)
    for sign in sorted(signs - set(allowed.split())):
        raise UnknownCodeError(
            f"element {code!r} cannot be marked {sign} ({MARKS[sign]}); marks of such an element are {allowed}"
        )
    return marks_of(signs)


def _compatible(signs: frozenset[str], code: str) -> frozenset[str]:
    for one, other in _EXCLUSIVE:
        if {one, other} <= signs:
            raise UnknownCodeError(f"element {code!r} is marked {one} and {other} at once; give one of them")
    return signs


def marks_of(signs: Collection[str]) -> tuple[str, ...]:
    """Signs as words, in their order."""
    return tuple(mark for sign, mark in MARKS.items() if sign in signs)


def level_of(text: str) -> int | None:
    """The level that a code shows: "" -> None, "B" -> 0, "4" -> 4."""
    return {"": None, "B": 0}[text] if text in ("", "B") else int(text)


def level_words(level: int | None) -> str:
    """A level in a description."""
    return {None: "no level", 0: "basic level"}.get(level, f"level {level}")


def described(*parts: str) -> str:
    """The parts that are not empty, with commas."""
    return ", ".join(part for part in parts if part)
