"""The origin of a trained model's data, as plain values, and the same data again from these."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from mag2.data import DATASETS, DataError, Dataset, DatasetSpec
from mag2.data.simulate import simulatable
from mag2.training import dataset_providers
from mag2.training.dataset_providers import DatasetProvider, read_once

__all__ = ["describe_source", "open_source"]


def describe_source(provider: DatasetProvider, extractors: Mapping[str, str]) -> dict[str, Any] | None:
    """A provider by its class and attributes, for JSON; None of one that is no class of `dataset_providers`."""
    kind = type(provider).__name__
    if not is_dataclass(provider) or getattr(dataset_providers, kind, None) is not type(provider):
        return None
    values = {field.name: _plain(getattr(provider, field.name)) for field in fields(provider)}
    return {"provider": kind, **values, "extractors": dict(extractors)}


def open_source(source: Mapping[str, Any], target: str, folder: str | Path | None = None) -> Dataset:
    """The dataset that `describe_source` described, for one target.

    Args:
        source: from `describe_source`.
        target: a target of the dataset.
        folder: the present folder of its files, if they have moved.

    Raises:
        DataError: files that do not exist, or a dataset or provider that this version does not have.
    """
    values = dict(source)
    kind, extractors = values.pop("provider"), values.pop("extractors", {})
    provider: Any = getattr(dataset_providers, str(kind), None)
    if not isinstance(provider, type) or not is_dataclass(provider) or not str(kind).endswith("Provider"):
        raise DataError(f"this version of mag2 does not know the provider {kind!r} of the data: give their folder")
    name = values.pop("spec", None)
    if name is not None:
        if name not in DATASETS:
            raise DataError(f"there is no dataset {name!r} here: register it with mag2.data.register first")
        spec: DatasetSpec = DATASETS[name]
        values["spec"] = simulatable(spec) if kind == "SimulationProvider" else spec
    if folder is not None:
        if "folder" not in values:
            raise DataError("these data were simulated in memory: there is no folder to give")
        values["folder"] = folder
    known = {field.name: field.type for field in fields(provider)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise DataError(f"the data are described by {unknown[0]!r}, which this version of mag2 does not know")
    given = {each: _restored(value, str(known[each])) for each, value in values.items()}
    opened: Any = provider(**given)
    return read_once(opened, target, extractors)


def _plain(value: Any) -> Any:
    if isinstance(value, DatasetSpec):
        return value.name
    if isinstance(value, Path):
        return str(value.resolve())
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _restored(value: Any, kind: str) -> Any:
    if isinstance(value, list):
        return tuple(_restored(each, "") for each in value)
    return Path(value) if "Path" in kind and isinstance(value, str | Path) else value
