"""Elements that pairs alone have: lifts by group, twist lifts and death spirals."""

import re

from mag2.programmes.notation.element_code import (
    LEVEL,
    ROTATIONS,
    ElementCode,
    allowed_signs,
    described,
    level_of,
    level_words,
)

__all__ = ["read_death_spiral", "read_pair_lift", "read_twist"]

_PAIRS = ("pairs",)
# The ISU's five groups by the hold; the fifth by the take-off too.
LIFTS = {
    "1": "group one armpit-hold lift",
    "2": "group two waist-hold lift",
    "3": "group three hand-to-hip lift",
    "4": "group four press lift",
    "5A": "group five Axel lasso lift",
    "5B": "group five backward lasso lift",
    "5R": "group five reverse lasso lift",
    "5S": "group five step-in lasso lift",
    "5T": "group five toe lasso lift",
}
SPIRALS = {
    "Fi": "forward inside",
    "Fo": "forward outside",
    "Bi": "backward inside",
    "Bo": "backward outside",
}
_LIFT = re.compile(rf"(?P<group>{'|'.join(LIFTS)})Li{LEVEL}(?P<signs>[>*]*)")
_TWIST = re.compile(rf"(?P<number>[1-4]?)Tw{LEVEL}(?P<signs>(?:<<|[<*])*)")
_SPIRAL = re.compile(rf"(?P<edge>{'|'.join(SPIRALS)})Ds{LEVEL}(?P<signs>\*?)")


def read_pair_lift(code: str, flags: str) -> ElementCode | None:
    """A lift of pairs, or None for another code."""
    found = _LIFT.fullmatch(code)
    return found and _element("pair lift", LIFTS[found["group"]], found, flags, "> *")


def read_twist(code: str, flags: str) -> ElementCode | None:
    """A twist lift, or None for another code."""
    found = _TWIST.fullmatch(code)
    if found is None:
        return None
    name = f"{ROTATIONS[found['number']]} twist lift"
    return _element("twist lift", name, found, flags, "< << *", (int(found["number"] or 0),))


def read_death_spiral(code: str, flags: str) -> ElementCode | None:
    """A death spiral, or None for another code."""
    found = _SPIRAL.fullmatch(code)
    return found and _element("death spiral", f"{SPIRALS[found['edge']]} death spiral", found, flags, "*")


def _element(
    kind: str, name: str, found: re.Match[str], flags: str, allowed: str, rotations: tuple[int, ...] = ()
) -> ElementCode:
    marks, level = allowed_signs(found["signs"], flags, allowed, found.string), level_of(found["level"])
    description = described(name, level_words(level), *marks)
    return ElementCode(kind, description, (name,), _PAIRS, level=level, rotations=rotations, marks=marks)
