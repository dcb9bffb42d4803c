"""Step sequences and choreographic elements of all disciplines, and the twizzles of ice dance."""

import re

from mag2.programmes.notation.element_code import (
    LEVEL,
    SINGLES_AND_PAIRS,
    ElementCode,
    allowed_signs,
    described,
    level_of,
    level_words,
)

__all__ = ["read_steps"]

_DANCE = ("ice dance",)
# Name, kind, disciplines. Levels are those of `LEVEL`.
LEVELLED = {
    "StSq": ("step sequence", "step sequence", SINGLES_AND_PAIRS),
    "MiSt": ("midline step sequence", "step sequence", _DANCE),
    "DiSt": ("diagonal step sequence", "step sequence", _DANCE),
    "CiSt": ("circular step sequence", "step sequence", _DANCE),
    "SeSt": ("serpentine step sequence", "step sequence", _DANCE),
    "NtMiSt": ("not-touching midline step sequence", "step sequence", _DANCE),
    "NtDiSt": ("not-touching diagonal step sequence", "step sequence", _DANCE),
    "NtCiSt": ("not-touching circular step sequence", "step sequence", _DANCE),
    "NtSeSt": ("not-touching serpentine step sequence", "step sequence", _DANCE),
    "PSt": ("pattern dance type step sequence", "step sequence", _DANCE),
    "STw": ("synchronized twizzles", "twizzles", _DANCE),
    "SqTw": ("sequential twizzles", "twizzles", _DANCE),
}
# A choreographic element is confirmed, which is its level 1, or gets no level.
CHOREOGRAPHIC = {
    "ChSq": ("choreographic sequence", "choreographic element", SINGLES_AND_PAIRS),
    "ChLi": ("choreographic lift", "choreographic element", _DANCE),
    "ChSp": ("choreographic spinning movement", "choreographic element", _DANCE),
    "ChTw": ("choreographic twizzling movement", "choreographic element", _DANCE),
}
_CODE = re.compile(
    rf"(?:(?P<name>{'|'.join(LEVELLED)}){LEVEL}|(?P<choreographic>{'|'.join(CHOREOGRAPHIC)})(?P<confirmed>1?))"
    r"(?P<signs>\*?)"
)


def read_steps(code: str, flags: str) -> ElementCode | None:
    """A step sequence, twizzles or a choreographic element, or None for another code."""
    found = _CODE.fullmatch(code)
    if found is None:
        return None
    name, kind, disciplines = LEVELLED[found["name"]] if found["name"] else CHOREOGRAPHIC[found["choreographic"]]
    level = level_of(found["level"] if found["name"] else found["confirmed"])
    # A choreographic lift can be too long, as any lift.
    marks = allowed_signs(found["signs"], flags, "> *" if found["choreographic"] == "ChLi" else "*", code)
    description = described(name, level_words(level), *marks)
    return ElementCode(kind, description, (name,), disciplines, level=level, marks=marks)
