"""A real performance, as the simulator uses it."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Programme", "ProgrammeElement"]


@dataclass(frozen=True)
class ProgrammeElement:
    """An executed element: its actions in order (the jumps of a combination, else one), and how well it was done."""

    actions: tuple[str, ...]
    execution: float


@dataclass(frozen=True)
class Programme:
    """A real performance, as the simulator uses it.

    Attributes:
        name: of the video.
        elements: in the order in which they were skated.
        music: in [0, 1], the chance that the music fits an element.
        length: its duration as a share of the longest kind of programme of its dataset.
        scores: the real scores, by the columns of the dataset's label files.
        technical, component: the real scores that are used as the two qualities.
    """

    name: str
    elements: tuple[ProgrammeElement, ...]
    music: float
    length: float
    scores: Mapping[str, float]
    technical: float
    component: float
