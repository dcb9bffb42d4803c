"""Codes of elements from seasons before 2016-17, which the later notation does not have; Fis-V's protocols do."""

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
from mag2.programmes.notation.reading import read_code

__all__ = ["read_earlier_code"]

# CCoSp3p4: a combination spin of three basic positions, level 4. The number of positions was dropped later.
_POSITIONS = re.compile(r"(?P<name>F?C?CoSp)[23]p(?P<rest>[B1-4]?V?\*?)")
# FCSp4V1: V1 and V2 said how many requirements are missing; later V alone did.
_REDUCED = re.compile(r"(?P<spin>F?C?(?:U|L|C|S|Co)Sp[B1-4]?V)[12](?P<signs>\*?)")
# Beside the circular and the serpentine one, singles and pairs had a straight-line step sequence.
_STRAIGHT = re.compile(rf"SlSt{LEVEL}(?P<signs>\*?)")


def read_earlier_code(code: str, flags: str = "") -> ElementCode:
    """Read an element's code as `read_code` does, and also the codes of the seasons from 2010 to 2016.

    Additional codes are combination spins with the number of their positions (CCoSp3p4), the straight-line step
    sequence (SlSt3), and spins of reduced value with a number (FCSp4V1). Descriptions are those of the later seasons.

    Args:
        code, flags: as in `read_code`.

    Raises:
        UnknownCodeError: the code, or a flag that it cannot have, is in neither notation. It names the code.
    """
    if found := _STRAIGHT.fullmatch(code):
        marks, level = allowed_signs(found["signs"], flags, "*", code), level_of(found["level"])
        name = "straight-line step sequence"
        description = described(name, level_words(level), *marks)
        return ElementCode("step sequence", description, (name,), SINGLES_AND_PAIRS, level=level, marks=marks)
    if found := _POSITIONS.fullmatch(code):
        code = found["name"] + found["rest"]
    elif found := _REDUCED.fullmatch(code):
        code = found["spin"] + found["signs"]
    return read_code(code, flags)
