"""Faults that a table's command finds before it trains or writes anything."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from mag2.data import Dataset
from mag2.nn.devices import checked_device
from mag2.training.request import DatasetKey, Request

__all__ = ["check_device", "check_models", "check_one_kind", "rows_with_features"]


def check_device(name: str) -> None:
    """Refuse a device that does not exist or computes nothing."""
    checked_device(name)


def check_one_kind(datasets: Iterable[Dataset]) -> None:
    """Refuse simulated beside real data."""
    kinds = dict.fromkeys((dataset.name, dataset.simulated) for dataset in datasets)
    if len({simulated for _, simulated in kinds}) > 1:
        names = ", ".join(f"{name} {'is' if simulated else 'is not'}" for name, simulated in kinds)
        raise ValueError(f"simulated and real data do not stand in one table, and here {names} simulated")


def rows_with_features(request: Request, datasets: Mapping[DatasetKey, Dataset]) -> tuple[Request, str | None]:
    """Return the request without the rows whose features no dataset has, and a sentence about these rows.

    If no row would be left, the request is returned unchanged.
    """
    there = {name for each in datasets.values() for name in each.train.widths}
    lacking = {key: row for key, row in request.rows.items() if not set(row.needs) <= there}
    if not lacking or len(lacking) == len(request.rows):
        return request, None
    names = " and ".join(dict.fromkeys(each.name for each in datasets.values()))
    missing = " and ".join(sorted({need for row in lacking.values() for need in row.needs} - there))
    rows = {key: row for key, row in request.rows.items() if key not in lacking}
    sentence = f"Rows {', '.join(lacking)} are left out: {names} has no {missing} features."
    return replace(request, rows=rows), sentence


def check_models(request: Request, datasets: Mapping[DatasetKey, Dataset]) -> None:
    """Build every model once, so that features or texts that do not fit raise an error before any training."""
    seen = set()
    for key, dataset in datasets.items():
        widths = dataset.train.widths
        for row in request.rows.values():
            case = (dataset.name, row.heading.key, *widths.items())
            if key.extractors != tuple(row.extractors.items()) or case in seen:
                continue
            seen.add(case)
            missing = [modality for modality in row.needs if modality not in widths]
            if missing:
                raise ValueError(
                    f"row {row.heading.key} ({row.heading.name}) needs {missing[0]} features, and {dataset.name} here "
                    f"has {', '.join(widths)}; add their folder, or choose other rows with --rows"
                )
            try:
                with torch.random.fork_rng():
                    row.build(request.model_inputs(row, dataset))
            except ValueError:
                raise
            except Exception:  # not a fault of the input: the row's own cells report it, and the others go on
                continue
