"""Where a table's data come from: a folder in the released layout, or the simulator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mag2.data import Dataset, Simulation, read_fs1000, simulate
from mag2.data.performances import MODALITIES
from mag2.texts import TextFeatures


@dataclass(frozen=True)
class ReleasedFS1000:
    """FS1000 in its released layout in a folder."""

    folder: Path
    clips: int = 95

    def dataset(self, target: str) -> Dataset:
        """Read it for one target."""
        return read_fs1000(self.folder, target, clips=self.clips)


@dataclass(frozen=True)
class SimulatedFS1000:
    """A simulated FS1000 for two cores: fewer and shorter videos, and narrower features, than the real one has."""

    clips: int = 16
    train: int = 320
    test: int = 100
    length: tuple[int, int] = (14, 20)
    seed: int = 0
    sport: str = "figure_skating"
    widths: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(MODALITIES, 128), hash=False)

    def dataset(self, target: str) -> Dataset:
        """Simulate it for one target."""
        return self.simulation().dataset(target, clips=self.clips)

    def simulation(self) -> Simulation:
        """The simulation itself, made once a process."""
        return _simulation(self)


@cache
def _simulation(source: SimulatedFS1000) -> Simulation:
    return simulate(
        TextFeatures.for_sport(source.sport),
        sport=source.sport,
        train=source.train,
        test=source.test,
        length=source.length,
        seed=source.seed,
        widths=dict(source.widths),
    )


Source = ReleasedFS1000 | SimulatedFS1000
