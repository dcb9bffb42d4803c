"""The notation of figure skating's protocols: element codes as plain English and fields."""

from mag2.programmes.notation.earlier import read_earlier_code
from mag2.programmes.notation.element_code import DISCIPLINES, KINDS, MARKS, ElementCode, Jump, UnknownCodeError
from mag2.programmes.notation.reading import read_code

__all__ = ["DISCIPLINES", "KINDS", "MARKS", "ElementCode", "Jump", "UnknownCodeError", "read_code", "read_earlier_code"]
