"""Spins of singles and pairs, the pair spin, and the spins of ice dance."""

import re

from mag2.programmes.notation.element_code import (
    DISCIPLINES,
    LEVEL,
    SINGLES_AND_PAIRS,
    ElementCode,
    allowed_signs,
    described,
    level_of,
    level_words,
)

__all__ = ["read_spin"]

POSITIONS = {"U": "upright", "L": "layback", "C": "camel", "S": "sit", "Co": "combination"}
_END = rf"{LEVEL}(?P<reduced>V?)(?P<signs>\*?)"
_SPIN = re.compile(rf"(?P<flying>F?)(?P<change>C?)(?P<position>U|L|C|S|Co)Sp{_END}")
_PAIR_SPIN = re.compile(rf"P(?P<position>Co|)Sp{_END}")
_DANCE_SPIN = re.compile(rf"Sp{_END}")


def read_spin(code: str, flags: str) -> ElementCode | None:
    """A spin, or None for another code. CoSp is one of every discipline, Sp without a position one of ice dance."""
    kind = "spin"
    disciplines: tuple[str, ...] = SINGLES_AND_PAIRS
    if found := _SPIN.fullmatch(code):
        position = POSITIONS[found["position"]]
        words = ["flying" * bool(found["flying"]), "change-foot" * bool(found["change"]), position, "spin"]
        if position == "combination" and not found["flying"] and not found["change"]:
            disciplines = DISCIPLINES
    elif found := _PAIR_SPIN.fullmatch(code):
        words = ["pair", "combination" * bool(found["position"]), "spin"]
        kind, disciplines = "pair spin", ("pairs",)
    elif found := _DANCE_SPIN.fullmatch(code):
        words, disciplines = ["spin"], ("ice dance",)
    else:
        return None
    marks, level = allowed_signs(found["signs"], flags, "*", code), level_of(found["level"])
    reduced = bool(found["reduced"])
    name = " ".join(word for word in words if word)
    description = described(name, level_words(level), "reduced value" * reduced, *marks)
    return ElementCode(kind, description, (name,), disciplines, level=level, marks=marks, reduced=reduced)
