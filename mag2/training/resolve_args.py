"""What a call of a table's command asks for, found out and checked before anything is trained or written."""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mag2.data import DATASETS, TARGETS, Dataset
from mag2.training.dataset_providers import DatasetProvider, FolderProvider, simulation_provider
from mag2.training.tables import Inputs, Row, Table, key, parts


def _chosen(kind: str, asked: Sequence[str] | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """The asked entries of `known`, in its order; all of them where nothing was asked."""
    unknown = [name for name in asked or () if name not in known]
    if unknown:
        raise ValueError(f"unknown {kind} {unknown[0]!r}; there are {', '.join(known)}")
    return {name: value for name, value in known.items() if not asked or name in asked}


def asked_rows(table: Table, options: argparse.Namespace) -> dict[str, Row]:
    """The rows to train, by key, each followed by its controls where these are asked for."""
    chosen = _chosen("row", options.rows, {row.line.key: row for row in table.rows}).values()
    wanted = []
    for row in chosen:
        wanted += [row, *(row.controls() if options.controls else ()), *(row.weighted() if options.weighted else ())]
    return {row.line.key: row for row in wanted}


def asked_sources(table: Table, options: argparse.Namespace) -> dict[str, DatasetProvider]:
    """Where each dataset comes from; of those that are given as folders, or of the table's, simulated."""
    first = next(iter(table.targets))
    clips = {} if options.clips is None else {"clips": options.clips}
    if not options.data:
        names = _chosen("dataset", options.datasets or list(table.targets), DATASETS)
        if options.labels is not None and "Fis-V" not in names:
            raise ValueError("--labels are Fis-V's real scores; ask for them with --datasets Fis-V")
        top1 = None if options.weighted is None else options.weighted / 100
        return {
            name: simulation_provider(name, labels=options.labels if name == "Fis-V" else None, top1=top1, **clips)
            for name in names
        }
    if options.labels is not None:
        raise ValueError("--labels are for simulated features; with --data the labels lie in the folder")
    folders: dict[str, Path] = {}
    for given in options.data:
        name, equals, folder = given.partition("=")
        name, folder = (name, folder) if equals and name in DATASETS else (first, given)
        if name in folders:
            raise ValueError(f"{name} is given twice, {folders[name]} and {folder}; write --data {name}=FOLDER once")
        folders[name] = Path(folder)
    if options.datasets is not None and set(options.datasets) - set(folders):
        missing = sorted(set(options.datasets) - set(folders))[0]
        raise ValueError(f"no folder of {missing}; add {missing}=FOLDER to --data")
    return {
        name: FolderProvider(DATASETS[name], folder, options.clips)
        for name, folder in folders.items()
        if options.datasets is None or name in options.datasets
    }


def asked_texts(options: argparse.Namespace, sources: Mapping[str, DatasetProvider]) -> dict[str, str]:
    """The text encoder of each dataset: its own, DATASET=ENCODER, or the one that is named without a dataset."""
    encoders = dict.fromkeys(sources, "shipped")
    for given in sorted(options.texts, key=lambda given: given.partition("=")[0] in DATASETS):
        name, equals, encoder = given.partition("=")
        if equals and name in DATASETS:
            encoders |= {name: encoder} if name in sources else {}
        else:
            encoders = dict.fromkeys(sources, given)
    return encoders


def asked_targets(table: Table, options: argparse.Namespace, sources: Mapping[str, DatasetProvider]) -> list[str]:
    """The targets to train, "FS1000/TES"; those of the table where none are asked for."""
    if not options.targets:
        return [key(name, target) for name in sources for target in table.targets.get(name, TARGETS[name])]
    there = list(dict.fromkeys(target for name in sources for target in TARGETS[name]))
    asked = _chosen("target", options.targets, dict.fromkeys(there))
    return [key(name, target) for name in sources for target in TARGETS[name] if target in asked]


def asked_datasets(
    rows: Mapping[str, Row], sources: Mapping[str, DatasetProvider], targets: Sequence[str]
) -> dict[str, Dataset]:
    """Every dataset that the rows want, by target and kinds of features."""
    kinds = {tuple(row.extractors.items()): row for row in rows.values()}.values()
    return {
        _wanted(key(name, target), row): sources[name].dataset(target, row.extractors)
        for name, target in map(parts, targets)
        for row in kinds
    }


def _wanted(target: str, row: Row) -> str:
    return " ".join([target, *row.extractors.values()])


def check_device(name: str) -> None:
    """Refuse a device that is not there."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here: {reason}") from None


def check_kinds(datasets: Mapping[str, Dataset]) -> None:
    """Refuse simulated beside real data."""
    if len({dataset.simulated for dataset in datasets.values()}) > 1:
        names = [f"{dataset.name} {'is' if dataset.simulated else 'is not'}" for dataset in datasets.values()]
        raise ValueError(
            f"simulated and real data do not stand in one table, and here {', '.join(dict.fromkeys(names))} simulated"
        )


def check_models(
    rows: Mapping[str, Row], datasets: Mapping[str, Dataset], encoders: Mapping[str, str], small: bool
) -> None:
    """Build every model once: features or texts that it cannot take show here, and not after hours of other rows."""
    seen = set()
    for wanted, dataset in datasets.items():
        for row in rows.values():
            widths = dataset.train.widths
            place = (dataset.name, row.line.key, *widths.items())
            if wanted != _wanted(key(dataset.name, dataset.target), row) or place in seen:
                continue
            seen.add(place)
            missing = [name for name in row.needs if name not in widths]
            if missing:
                raise ValueError(
                    f"row {row.line.key} ({row.line.name}) needs {missing[0]} features, and {dataset.name} here has "
                    f"{', '.join(widths)}; add their folder, or choose other rows with --rows"
                )
            try:
                with torch.random.fork_rng():
                    row.build(inputs_of(row, dataset, encoders, small))
            except ValueError:
                raise
            except Exception:  # no fault of the input: the row's own cells will say it, and stop no other
                continue


def inputs_of(row: Row, dataset: Dataset, encoders: Mapping[str, str], small: bool) -> Inputs:
    """What a row's model is built for on a dataset."""
    sport = DATASETS[dataset.name].sport
    return Inputs(sport, dataset.train.widths, small, row.control, encoders[dataset.name])


def fingerprints(datasets: Mapping[str, Dataset], encoders: Mapping[str, str]) -> dict[str, str]:
    """What data and texts the results are of, in a few letters each."""
    texts = {}
    for name, encoder in encoders.items():
        rows = Inputs(DATASETS[name].sport, {}, encoder=encoder).texts().rows
        texts[f"texts of {name}"] = hashlib.sha256(rows.contiguous().numpy().tobytes()).hexdigest()[:16]
    data = {f"{part} of {name}": print_ for name, d in datasets.items() for part, print_ in d.fingerprints.items()}
    return texts | data
