"""An element's code, as the ISU's protocols write it, read as plain English and fields."""

from collections.abc import Callable
from functools import lru_cache

from mag2.programmes.notation.dance_elements import read_dance_lift, read_pattern_dance
from mag2.programmes.notation.element_code import ElementCode, UnknownCodeError
from mag2.programmes.notation.jumps import read_jumps, read_throw
from mag2.programmes.notation.pair_elements import read_death_spiral, read_pair_lift, read_twist
from mag2.programmes.notation.spins import read_spin
from mag2.programmes.notation.steps import read_steps

__all__ = ["read_code"]

# No code fits two of them, so their order decides nothing.
READERS: tuple[Callable[[str, str], ElementCode | None], ...] = (
    read_jumps,
    read_throw,
    read_twist,
    read_pair_lift,
    read_death_spiral,
    read_spin,
    read_steps,
    read_pattern_dance,
    read_dance_lift,
)


@lru_cache(maxsize=4096)
def read_code(code: str, flags: str = "") -> ElementCode:
    """Read an element's code in the notation of the seasons 2016-17 and 2017-18.

    The names are those of the ISU's scale of values and technical panel handbooks of these seasons.

    >>> read_code("3Lz+3T<").description
    'triple Lutz, triple toe loop combination, under-rotated'

    Args:
        code: as the protocol prints it: "3Lz+3T<", "FCCoSp4", "5RLi4", "1MB3+kpYNY".
        flags: the protocol's column next to the code, with e ! < << > and *. It may repeat marks of the code.

    Raises:
        UnknownCodeError: the code, or a flag that it cannot have, is not in that notation. It names the code.
    """
    for read in READERS:
        element = read(code, flags)
        if element is not None:
            return element
    raise UnknownCodeError(
        f"unknown element code {code!r}; codes are those of the ISU protocols of 2016 to 2018, such as "
        "3Lz+3T<, FCCoSp4, StSq3, 5RLi4, 3Tw2, SlLi4 or 1MB3+kpYNY"
    )
