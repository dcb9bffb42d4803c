"""Real figure skating programmes: the notation of their elements, their scores, and text features of the elements."""

from mag2.programmes.execution import execution_of, music_fit
from mag2.programmes.notation import DISCIPLINES, ElementCode, Jump, UnknownCodeError, read_code, read_earlier_code
from mag2.programmes.performances import SCALES, SEGMENTS, TARGETS, Element, Performance
from mag2.programmes.shipped import read_performances
from mag2.programmes.sober import Agreement, Ridge, fit_ridge, rank_agreement
from mag2.programmes.split import TEST_COMPETITIONS, train_and_test
from mag2.programmes.words import ElementTexts

__all__ = [
    "DISCIPLINES",
    "SCALES",
    "SEGMENTS",
    "TARGETS",
    "TEST_COMPETITIONS",
    "Agreement",
    "Element",
    "ElementCode",
    "ElementTexts",
    "Jump",
    "Performance",
    "Ridge",
    "UnknownCodeError",
    "execution_of",
    "fit_ridge",
    "music_fit",
    "rank_agreement",
    "read_code",
    "read_earlier_code",
    "read_performances",
    "train_and_test",
]
