"""A performance and its executed elements, as in the protocol of the competition."""

from dataclasses import dataclass

from mag2.programmes.notation import ElementCode, read_code

__all__ = ["SCALES", "SEGMENTS", "TARGETS", "Element", "Performance"]

SEGMENTS = ("short", "free")
COMPONENTS = ("SS", "TR", "PE", "CO", "IN")
# What a score is divided by to give a label in [0, 1]. TES: the constant of FS1000 in the paper (the highest TES here
# is 126.12). PCS: five component marks of at most 10, as PCS is first divided by the program factor. A mark: 10.
SCALES = {"TES": 130.0, "PCS": 50.0} | dict.fromkeys(COMPONENTS, 10.0)
TARGETS = tuple(SCALES)


@dataclass(frozen=True, slots=True)
class Element:
    """An executed element.

    Attributes:
        number: its line in the protocol, from 1. In four performances a line is missing in the source.
        code: the code that the technical panel called, "3Lz+3T<".
        flags: the column next to the code: a sign of `MARKS` or empty.
        second_half: True with the bonus of the second half, which the base value includes.
        base_value: in points.
        goe: grade of execution, in points.
        score: in points: base value plus grade of execution, to 0.005.
    """

    number: int
    code: str
    flags: str
    second_half: bool
    base_value: float
    goe: float
    score: float

    @property
    def notation(self) -> ElementCode:
        """The content of the code and the flags: kind, level, rotations, jumps, marks."""
        return read_code(self.code, self.flags)

    @property
    def description(self) -> str:
        """The element in plain English, "triple Lutz, triple toe loop combination, under-rotated"."""
        return self.notation.description


@dataclass(frozen=True, slots=True)
class Performance:
    """One performance of one competition.

    Attributes:
        id: its name in the source, ten hexadecimal digits.
        competition: name of the competition, as in the protocol.
        discipline: one of `DISCIPLINES`.
        segment: one of `SEGMENTS` (a short dance is "short", a free dance "free").
        junior: whether it is of a junior event.
        TES, PCS: points as printed; PCS includes the program factor.
        SS, TR, PE, CO, IN: the component marks, 0 to 10.
        factor: the program factor of the component marks, 0.8 to 2.
        deductions: points, 0 or more.
        elements: in the order in which they were skated.
    """

    id: str
    competition: str
    discipline: str
    segment: str
    junior: bool
    TES: float
    PCS: float
    SS: float
    TR: float
    PE: float
    CO: float
    IN: float
    factor: float
    deductions: float
    elements: tuple[Element, ...]

    def score(self, target: str) -> float:
        """Return the score that a model is trained on, in points: PCS divided by the program factor, others as printed.

        Raises:
            ValueError: no such target.
        """
        if target not in TARGETS:
            raise ValueError(f"no target {target!r}; there are {', '.join(TARGETS)}")
        return self.PCS / self.factor if target == "PCS" else float(getattr(self, target))

    def label(self, target: str) -> float:
        """Return `score(target)` divided by its scale (`SCALES`), in [0, 1].

        Raises:
            ValueError: no such target.
        """
        return self.score(target) / SCALES[target]
