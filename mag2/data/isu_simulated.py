"""ISU-simulated: the real programmes and scores of ISU, and clips that are drawn around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from mag2.data.fs1000 import FOLDERS, FS1000
from mag2.data.isu import ISU, chosen_performances
from mag2.data.layouts import Layouts
from mag2.data.programme import Programme, ProgrammeElement
from mag2.programmes import SCALES, Performance, execution_of, music_fit, read_performances

__all__ = ["SimulatedISU"]

# How long a programme lasts, as a share of a free skating: 2:40 of 4 minutes.
LENGTHS = {"free": 1.0, "short": 2 / 3}


@dataclass(frozen=True, eq=False, repr=False)
class SimulatedISU(FS1000):
    """Real programmes and scores, simulated features, in the layout of FS1000's files.

    The actions of every performance, their order, their execution (the grade of execution over its range) and all
    scores are real. Drawn are the clips' features, which clips an element takes, and the elements that the music fits,
    more of them where the IN mark is high beside the other components.

    Args:
        discipline, segment: as `read_isu` has them.
    """

    name = "ISU-simulated"
    sport = ISU.sport
    scales: ClassVar = SCALES
    columns = ("name", *SCALES, "factor")
    label_files: ClassVar = ISU.label_files
    features: ClassVar = FOLDERS
    layouts: ClassVar = Layouts(("train.txt and test.txt beside video/<name>.npy and audio/<name>.npy",))

    discipline: str | None = None
    segment: str | None = None

    @property
    def programmes_of(self) -> str:
        """ISU, and which of its programmes."""
        return " ".join(filter(None, (ISU.name, self.discipline, self.segment)))

    def programmes(self) -> tuple[Sequence[Programme], Sequence[Programme]]:
        """The real performances of train and of test."""
        train, test = chosen_performances(self.discipline, self.segment)
        by_name = _programmes()
        return [by_name[each.id] for each in train], [by_name[each.id] for each in test]


@cache
def _programmes() -> dict[str, Programme]:
    """Every shipped performance as the simulator takes it, by its id."""
    performances = read_performances()
    fits = music_fit(performances)
    return {each.id: _programme(each, float(fit)) for each, fit in zip(performances, fits, strict=True)}


def _programme(performance: Performance, music: float) -> Programme:
    elements = tuple(
        ProgrammeElement(element.notation.actions, execution_of(element.notation, element.goe))
        for element in performance.elements
    )
    scores = {name: getattr(performance, name) for name in (*SCALES, "factor")}
    return Programme(
        performance.id,
        elements,
        music,
        LENGTHS[performance.segment],
        scores,
        technical=performance.TES,
        component=performance.score("PCS"),
    )
