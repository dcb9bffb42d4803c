"""The origin of a table's datasets: a folder of released files, the library itself, or the simulator."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from mag2.data import DATASETS, DataError, Dataset, DatasetSpec, SimulatableSpec, Simulation, simulate, simulate_fisv
from mag2.data.fisv import FisV
from mag2.data.fisv_programmes import ELEMENTS, FisVProgrammes
from mag2.data.isu_simulated import SimulatedISU
from mag2.data.performances import MODALITIES
from mag2.data.reading import Locations
from mag2.data.recognising import datasets_in, label_files_in, refusal_of
from mag2.data.simulate import simulatable
from mag2.texts import TextFeatures

__all__ = [
    "EXTRACTOR_WIDTHS",
    "SIZES",
    "SIZES_OF",
    "DatasetProvider",
    "FolderProvider",
    "ShippedProvider",
    "SimulationProvider",
    "forget_datasets",
    "read_once",
    "simulation_provider",
]

# The networks whose features Table 6 compares, by the width of these, and those of the features as released.
EXTRACTOR_WIDTHS = {"C3D": 4096, "VGGish": 128, "TF": 768, "AST": 768, "I3D": 1024, "VST": 1024}
RELEASED_EXTRACTORS = {"visual": "VST", "audio": "AST", "flow": "I3D"}
RELEASED_EXTRACTORS_OF = {"FS1000": RELEASED_EXTRACTORS | {"visual": "TF"}}
# Features of an extractor that is not the released one lie in a folder of this name, "_" and the extractor.
FOLDERS = {"visual": "video", "audio": "audio", "flow": "flow"}

# Simulated for two cores: fewer and shorter videos than the real datasets have; of RG, which is small, as many.
SIZES: dict[str, Any] = {"clips": 16, "train": 320, "test": 100, "length": (14, 20), "width": 128}
SIZES_OF: dict[str, dict[str, Any]] = {
    "RG": {"train": 800, "test": 200},
    # A length is that of a free skating; a short programme has two thirds of it.
    "ISU-simulated": {"spec": SimulatedISU(), "train": 400, "test": 160, "length": (21, 30), "clips": 20},
}
NARROWER = 8  # where extractors are compared, simulated features are narrower than the real ones by this factor
ALIGNED_WIDTH = 384  # least width of visual features that hold the space of the shipped texts


class DatasetProvider(Protocol):
    """Gives a dataset for one target. Providers of equal data are equal; they are sent to every worker."""

    @property
    def spec(self) -> DatasetSpec:
        """The dataset."""

    def __hash__(self) -> int: ...

    def dataset(self, target: str, extractors: Mapping[str, str] = {}) -> Dataset:
        """Read or simulate it.

        Args:
            target: a target of the dataset.
            extractors: modality -> the network of its features; other modalities are left out. Without any, the
                dataset's own features.
        """


@dataclass(frozen=True)
class FolderProvider:
    """A dataset in a folder of released files.

    Features of another extractor than the released one are in a folder with its name, next to the released ones:
    `video_C3D`. Audio and flow may be missing: before a row is trained, a check finds features that it lacks.

    Attributes:
        spec: the dataset.
        folder: the folder of the files.
        clips: length of every crop; None for the dataset's own.
        label_folder, feature_folder: separate folders of labels and of features, if any.
        places: pairs (modality, path) for features in other places.
        crops: for modalities that differ in length, as in `mag2.data.Performances`.
    """

    spec: DatasetSpec
    folder: Path
    clips: int | None = None
    label_folder: Path | None = None
    feature_folder: Path | None = None
    places: tuple[tuple[str, str], ...] = ()
    crops: str = "shortest"

    def dataset(self, target: str, extractors: Mapping[str, str] = {}) -> Dataset:
        """Read it for one target.

        Raises:
            DataError: one sentence; where the folder is that of another dataset, it says which.
        """
        # Files of one name may be readable as another dataset's. Without a check of its own, reading is the check.
        has_check = type(self.spec).require_own is not DatasetSpec.require_own
        if has_check and label_files_in(self.label_folder or self.folder, self.spec, target) is not None:
            self._require_own_folder(target)
        try:
            return self._read(target, extractors)
        except DataError:
            self._require_own_folder(target)
            raise

    def _require_own_folder(self, target: str) -> None:
        """Raise DataError where the folder has the label files of other datasets alone."""
        root = self.label_folder or self.folder
        if not self.spec.label_files or datasets_in(root, [self.spec]):
            return
        others = datasets_in(root, DATASETS.values())
        if others:
            refusal = refusal_of(root, self.spec, target)
            why = f" ({refusal})" if refusal else ""
            raise DataError(
                f"{root} has the label files of {' or '.join(others)}, not those of {self.spec.name}{why}: give the "
                f"folder of {self.spec.name}, or name the other dataset, {others[0]}=FOLDER"
            ) from None

    def _read(self, target: str, extractors: Mapping[str, str]) -> Dataset:
        dataset = self.spec.read(
            self.folder,
            target,
            clips=self.clips,
            features={**dict(self.places), **self._locations(extractors)},
            label_folder=self.label_folder,
            feature_folder=self.feature_folder,
            needs=tuple(extractors) or ("visual",),
            crops=self.crops,
        )
        if not dataset.simulated:
            self._check_widths(extractors, dataset.train.widths)
        return dataset

    def _locations(self, extractors: Mapping[str, str]) -> dict[str, Locations | None]:
        """Where features lie that are not in the dataset's usual locations."""
        if not extractors:
            return {}
        own = [modality for modality in MODALITIES if modality in self.spec.features]
        missing = [modality for modality in extractors if modality not in own]
        if missing:
            raise DataError(f"{self.spec.name} has no {missing[0]} features: choose other rows")
        locations: dict[str, Locations | None] = {modality: None for modality in own if modality not in extractors}
        base = self.feature_folder or self.folder
        released = RELEASED_EXTRACTORS_OF.get(self.spec.name, RELEASED_EXTRACTORS)
        for modality, extractor in extractors.items():
            folder = f"{FOLDERS[modality]}_{extractor}"
            if modality in dict(self.places):
                continue
            if (base / folder).exists():
                locations[modality] = folder if base == self.folder else base / folder
            elif released[modality] != extractor:
                raise DataError(
                    f"there is no folder {base / folder}: put the {extractor} features there, or choose other rows"
                )
        return locations

    def _check_widths(self, extractors: Mapping[str, str], widths: Mapping[str, int]) -> None:
        for modality, extractor in extractors.items():
            width = EXTRACTOR_WIDTHS[extractor]
            if widths[modality] != width:
                raise DataError(
                    f"the {modality} features in {self.folder} are {widths[modality]} wide, {extractor} has {width}: "
                    f"put {extractor} features into {FOLDERS[modality]}_{extractor}, or choose other rows"
                )


@dataclass(frozen=True)
class ShippedProvider:
    """A dataset that ships with the library."""

    spec: DatasetSpec
    clips: int | None = None

    def dataset(self, target: str, extractors: Mapping[str, str] = {}) -> Dataset:
        """Read it for one target."""
        if extractors:
            raise DataError(f"the features of {self.spec.name} are of no network: choose rows that name none")
        return self.spec.read_shipped(target, clips=self.clips)


@dataclass(frozen=True)
class SimulationProvider:
    """A simulated dataset; where `labels` names the folder of the real scores (Fis-V), only features are simulated.

    Where that folder has the executed elements too, features are simulated around the real programmes.

    With `top1` it is aligned: it has vision_language features, which name that share of the actions.
    """

    spec: SimulatableSpec
    clips: int
    train: int
    test: int
    length: tuple[int, int]
    width: int
    seed: int = 0
    labels: Path | None = None
    top1: float | None = None

    def __post_init__(self) -> None:
        """Take the real elements that lie beside real labels."""
        if self.labels is not None and type(self.spec) is FisV and (self.labels / ELEMENTS).is_file():
            object.__setattr__(self, "spec", FisVProgrammes.with_elements(self.labels))

    def dataset(self, target: str, extractors: Mapping[str, str] = {}) -> Dataset:
        """Simulate it for one target."""
        return self.simulation(extractors).dataset(target, clips=self.clips)

    def simulation(self, extractors: Mapping[str, str] = {}) -> Simulation:
        """The simulation itself, made once a process."""
        widths = {modality: EXTRACTOR_WIDTHS[name] // NARROWER for modality, name in extractors.items()}
        if not extractors:
            widths = dict.fromkeys(self.spec.widths, self.width)
        if self.top1 is not None:
            widths["visual"] = max(widths["visual"], ALIGNED_WIDTH)
        return _simulation(self, tuple(widths.items()))


@cache
def _simulation(provider: SimulationProvider, widths: tuple[tuple[str, int], ...]) -> Simulation:
    texts = TextFeatures.for_sport(provider.spec.sport)
    options: dict[str, Any] = {"length": provider.length, "seed": provider.seed, "widths": dict(widths)}
    if provider.top1 is not None:
        options |= {"aligned": True, "top1": provider.top1}
    if provider.labels is not None:
        elements = isinstance(provider.spec, FisVProgrammes)
        return simulate_fisv(texts, labels=provider.labels, elements=elements, **options)
    return simulate(texts, spec=provider.spec, train=provider.train, test=provider.test, **options)


def simulation_provider(name: str, **changed: Any) -> SimulationProvider:
    """The simulated dataset of that name, of a size for two cores unless `changed` says otherwise."""
    return SimulationProvider(**({"spec": simulatable(DATASETS[name])} | SIZES | SIZES_OF.get(name, {}) | changed))


def read_once(provider: DatasetProvider, target: str, extractors: Mapping[str, str] = {}) -> Dataset:
    """`provider.dataset(target, extractors)`, once a process for equal arguments, until `forget_datasets`."""
    return _read(provider, target, tuple(extractors.items()))


def forget_datasets() -> None:
    """Let `read_once` read everything anew."""
    _read.cache_clear()


@cache
def _read(provider: DatasetProvider, target: str, extractors: tuple[tuple[str, str], ...]) -> Dataset:
    return provider.dataset(target, dict(extractors))
