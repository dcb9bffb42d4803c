"""Where a table's data come from: a folder in a released layout, or the simulator."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from mag2.data import DATASETS, DataError, Dataset, Simulation, simulate, simulate_fisv
from mag2.texts import TextFeatures

# The kinds of features that Table 6 compares, by their width, and those that the datasets' own folders hold.
KINDS = {"C3D": 4096, "VGGish": 128, "TF": 768, "AST": 768, "I3D": 1024, "VST": 1024}
RELEASED_KINDS = {"visual": "VST", "audio": "AST", "flow": "I3D"}
RELEASED_KINDS_OF = {"FS1000": RELEASED_KINDS | {"visual": "TF"}}
FOLDERS = {"visual": "video", "audio": "audio", "flow": "flow"}

# Simulated for two cores: fewer and shorter videos than the real datasets have; of RG, which is small, as many.
SIZES: dict[str, Any] = {"clips": 16, "train": 320, "test": 100, "length": (14, 20), "width": 128}
SIZES_OF: dict[str, dict[str, Any]] = {"RG": {"train": 800, "test": 200}}
NARROWER = 8  # times than the real features, where kinds of features are compared
ALIGNED_WIDTH = 384  # of visual features, at least, that are to have the shipped texts' space in them


class Source(Protocol):
    """Gives a dataset for one target; `features` says which, where there are several kinds: modality -> kind."""

    def dataset(self, target: str, features: Mapping[str, str] = {}) -> Dataset: ...  # noqa: D102


@dataclass(frozen=True)
class Released:
    """A dataset in its released layout in a folder.

    Features of another kind than the released ones lie beside them, in a folder of that name: `video_C3D`.
    """

    name: str
    folder: Path
    clips: int | None = None

    def dataset(self, target: str, features: Mapping[str, str] = {}) -> Dataset:
        """Read it for one target."""
        options: dict[str, Any] = {} if self.clips is None else {"clips": self.clips}
        if features:
            options |= self._places(features)
        dataset = DATASETS[self.name].read(self.folder, target, **options)
        if not dataset.simulated:
            self._check_widths(features, dataset.train.widths)
        return dataset

    def _places(self, features: Mapping[str, str]) -> dict[str, str | None]:
        """The loader's arguments for these kinds of features."""
        there = DATASETS[self.name].widths
        missing = [modality for modality in features if modality not in there]
        if missing:
            raise DataError(f"{self.name} has no {missing[0]} features: choose other rows")
        places: dict[str, str | None] = {FOLDERS[modality]: None for modality in there if modality not in features}
        released = RELEASED_KINDS_OF.get(self.name, RELEASED_KINDS)
        for modality, kind in features.items():
            own = f"{FOLDERS[modality]}_{kind}"
            if (self.folder / own).exists():
                places[FOLDERS[modality]] = own
            elif released[modality] != kind:
                raise DataError(
                    f"there is no folder {self.folder / own}: put the {kind} features there, or choose other rows"
                )
        return places

    def _check_widths(self, features: Mapping[str, str], widths: Mapping[str, int]) -> None:
        for modality, kind in features.items():
            if widths[modality] != KINDS[kind]:
                raise DataError(
                    f"the {modality} features in {self.folder} are {widths[modality]} wide, {kind} has {KINDS[kind]}: "
                    f"put {kind} features into {FOLDERS[modality]}_{kind}, or choose other rows"
                )


@dataclass(frozen=True)
class Simulated:
    """A simulated dataset; where `labels` names the folder of the real scores (Fis-V), features alone are simulated.

    With `top1` it is aligned: it has vision_language features, which name that share of the actions.
    """

    name: str
    clips: int
    train: int
    test: int
    length: tuple[int, int]
    width: int
    seed: int = 0
    labels: Path | None = None
    top1: float | None = None

    def dataset(self, target: str, features: Mapping[str, str] = {}) -> Dataset:
        """Simulate it for one target."""
        return self.simulation(features).dataset(target, clips=self.clips)

    def simulation(self, features: Mapping[str, str] = {}) -> Simulation:
        """The simulation itself, made once a process."""
        widths = {key: KINDS[kind] // NARROWER for key, kind in features.items()}
        if not features:
            widths = dict.fromkeys(DATASETS[self.name].widths, self.width)
        if self.top1 is not None:
            widths["visual"] = max(widths["visual"], ALIGNED_WIDTH)
        return _simulation(self, tuple(widths.items()))


@cache
def _simulation(source: Simulated, widths: tuple[tuple[str, int], ...]) -> Simulation:
    layout = DATASETS[source.name]()
    texts = TextFeatures.for_sport(layout.sport)
    options: dict[str, Any] = {"length": source.length, "seed": source.seed, "widths": dict(widths)}
    if source.top1 is not None:
        options |= {"aligned": True, "top1": source.top1}
    if source.labels is not None:
        return simulate_fisv(texts, labels=source.labels, **options)
    return simulate(texts, layout=layout, train=source.train, test=source.test, **options)


def simulated(name: str, **changed: Any) -> Simulated:
    """The simulated dataset of that name, of a size for two cores unless `changed` says otherwise."""
    return Simulated(name, **(SIZES | SIZES_OF.get(name, {}) | changed))
