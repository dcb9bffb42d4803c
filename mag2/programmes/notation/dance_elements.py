"""Elements that ice dance alone has: pattern dances and dance lifts."""

import re

from mag2.programmes.notation.element_code import (
    LEVEL,
    ElementCode,
    allowed_signs,
    described,
    level_of,
    level_words,
)

__all__ = ["read_dance_lift", "read_pattern_dance"]

_DANCE = ("ice dance",)
# The pattern dances of the short dance: seniors and juniors of 2016-17, seniors and juniors of 2017-18.
DANCES = {"MB": "Midnight Blues", "BL": "Blues", "RH": "Rhumba", "CC": "Cha Cha Congelado"}
SECTIONS = {"1": "section one", "2": "section two"}
KEY_POINTS = {"Y": "correct", "T": "mistimed", "N": "missed"}
LIFTS = {
    "Sta": "stationary lift",
    "Sl": "straight-line lift",
    "Cu": "curve lift",
    "Ro": "rotational lift",
    "": "lift of no type",
}
_PATTERN = re.compile(
    rf"(?P<section>[12])(?P<dance>{'|'.join(DANCES)}){LEVEL}(?:\+kp(?P<points>[YTN]{{1,4}}))?(?P<signs>\*?)"
)
_LIFT = re.compile(rf"(?P<type>{'|'.join(LIFTS)})Li{LEVEL}(?P<signs>[>*]*)")


def read_pattern_dance(code: str, flags: str) -> ElementCode | None:
    """A section of a pattern dance with its key points, in order, or None for another code."""
    found = _PATTERN.fullmatch(code)
    if found is None:
        return None
    marks, level = allowed_signs(found["signs"], flags, "*", code), level_of(found["level"])
    points = ", ".join(KEY_POINTS[point] for point in found["points"] or "")
    name = f"{DANCES[found['dance']]} pattern dance"
    description = described(
        name,
        SECTIONS[found["section"]],
        level_words(level),
        points and f"key points {points}",
        *marks,
    )
    return ElementCode("pattern dance", description, (name,), _DANCE, level=level, marks=marks)


def read_dance_lift(code: str, flags: str) -> ElementCode | None:
    """A short lift, or two joined by + to a combination lift, or None for another code."""
    parts = [_LIFT.fullmatch(part) for part in code.split("+")]
    lifts = [found for found in parts if found is not None]
    if len(lifts) != len(parts) or len(lifts) > 2:
        return None
    marks = allowed_signs("".join(found["signs"] for found in lifts), flags, "> *", code)
    levels = [level_of(found["level"]) for found in lifts]
    names = [described(LIFTS[found["type"]], level_words(level)) for found, level in zip(lifts, levels, strict=True)]
    description = names[0] if len(names) == 1 else f"combination lift of {', and '.join(names)}"
    lowest = None if None in levels else min(level for level in levels if level is not None)
    actions = tuple(LIFTS[found["type"]] for found in lifts)
    return ElementCode("dance lift", described(description, *marks), actions, _DANCE, level=lowest, marks=marks)
