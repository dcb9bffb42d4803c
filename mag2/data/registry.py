"""The datasets by name; `register` adds another one."""

from collections.abc import Mapping

from mag2.data.fisv import FisV
from mag2.data.fs1000 import FS1000
from mag2.data.isu import ISU
from mag2.data.isu_simulated import SimulatedISU
from mag2.data.logo import LOGO
from mag2.data.rg import RG
from mag2.data.spec import DatasetSpec

__all__ = ["DATASETS", "SCALES", "TARGETS", "register"]

REQUIRED = ("name", "sport", "scales", "clips", "label_files", "features")

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in (FS1000(), FisV(), RG(), LOGO(), ISU(), SimulatedISU())}
# Label scales: label = score / scale, in [0, 1]. FS1000's PCS is first divided by the program factor of its label row.
SCALES: dict[str, Mapping[str, float]] = {name: spec.scales for name, spec in DATASETS.items()}
TARGETS: dict[str, tuple[str, ...]] = {name: spec.targets for name, spec in DATASETS.items()}


def register(spec: DatasetSpec) -> None:
    """Add a dataset to `DATASETS`, `SCALES` and `TARGETS`, so that the command of every table accepts its name.

    A class of the same name and module that was registered before is replaced (a notebook cell that is run twice).

    Args:
        spec: an instance of a subclass of `DatasetSpec`, or of `SimulatableSpec` if it can be simulated too.

    Raises:
        ValueError: no such instance, a missing attribute, no targets, a scale that is not above 0, or another dataset
            has the name.
    """
    if not isinstance(spec, DatasetSpec):
        given = f"the class {spec.__name__}" if isinstance(spec, type) else f"a {type(spec).__name__}"
        raise ValueError(f"register wants an instance of a subclass of DatasetSpec, got {given}")
    missing = [name for name in REQUIRED if not hasattr(spec, name)]
    if missing:
        raise ValueError(f"{type(spec).__name__} has no {missing[0]}; see DatasetSpec for what a dataset says")
    if not spec.scales or not all(scale > 0 for scale in spec.scales.values()):
        raise ValueError(f"{spec.name} wants scales of one target or more, all above zero, got {dict(spec.scales)}")
    if spec.name in DATASETS and _origin(DATASETS[spec.name]) != _origin(spec):
        raise ValueError(f"there is another dataset {spec.name}; give this one another name")
    DATASETS[spec.name] = spec
    SCALES[spec.name] = spec.scales
    TARGETS[spec.name] = spec.targets


def _origin(spec: DatasetSpec) -> tuple[str, str]:
    return type(spec).__module__, type(spec).__qualname__
