"""From the arguments of a table's command to what it requests; a wrong argument is one sentence."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mag2.data import DATASETS, TARGETS
from mag2.saving.sentences import check_name, unknown_name
from mag2.training.apart import folders_apart, refuse_apart
from mag2.training.dataset_providers import DatasetProvider, FolderProvider, ShippedProvider, simulation_provider
from mag2.training.options import model_size
from mag2.training.request import Request
from mag2.training.tables import Row, Table
from mag2.training.target import Target

__all__ = ["resolve"]


def resolve(table: Table, options: argparse.Namespace) -> Request:
    """What the call requests.

    Raises:
        ValueError: an argument that names nothing, or that does not go with another.
    """
    rows, providers = _rows(table, options), _providers(table, options)
    targets, encoders = _targets(table, options, providers), _encoders(options, providers)
    return Request(
        rows,
        tuple(targets),
        providers,
        encoders,
        small=model_size(options) == "small",
        epochs=options.epochs,
        clips=options.clips,
        evaluation=options.evaluation,
        start=options.start,
    )


def _chosen(kind: str, requested: Sequence[str] | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """The requested entries of `known`, in its order; all of them where nothing is requested."""
    for name in requested or ():
        check_name(kind, name, known)
    return {name: value for name, value in known.items() if not requested or name in requested}


def _rows(table: Table, options: argparse.Namespace) -> dict[str, Row]:
    """The rows to train, by key, each followed by its controls where these are requested."""
    chosen = _chosen("row", options.rows, {row.heading.key: row for row in table.rows}).values()
    rows = []
    for row in chosen:
        rows += [row, *(row.controls() if options.controls else ()), *(row.weighted() if options.weighted else ())]
    return {row.heading.key: row for row in rows}


def _providers(table: Table, options: argparse.Namespace) -> dict[str, DatasetProvider]:
    """The datasets: those whose folders are given or, without folders, the table's, simulated."""
    first = next(iter(table.targets))
    clips = {} if options.clips is None else {"clips": options.clips}
    if not options.data:
        refuse_apart(options)
        names = _chosen("dataset", options.datasets or list(table.simulated or table.targets), DATASETS)
        if options.labels is not None and "Fis-V" not in names:
            raise ValueError("--labels are Fis-V's real scores; ask for them with --datasets Fis-V")
        top1 = None if options.weighted is None else options.weighted / 100
        return {
            name: ShippedProvider(spec, options.clips)
            if spec.shipped
            else simulation_provider(name, labels=options.labels if name == "Fis-V" else None, top1=top1, **clips)
            for name, spec in names.items()
        }
    if options.labels is not None:
        raise ValueError("--labels are for simulated features; with --data the labels lie in the folder")
    folders: dict[str, Path] = {}
    for given in options.data:
        name, equals, folder = given.partition("=")
        if equals and name not in DATASETS and "/" not in name and not Path(given).exists():
            raise ValueError(f"--data {given}: {unknown_name('dataset', name, DATASETS)}")
        name, folder = (name, folder) if equals and name in DATASETS else (first, given)
        if not folder.strip():  # it would be the current folder
            raise ValueError(f"--data {given!r} names no folder; write --data {name}=FOLDER")
        if name in folders:
            raise ValueError(f"{name} is given twice, {folders[name]} and {folder}; write --data {name}=FOLDER once")
        folders[name] = Path(folder)
    if options.datasets is not None and set(options.datasets) - set(folders):
        missing = sorted(set(options.datasets) - set(folders))[0]
        raise ValueError(f"no folder of {missing}; add {missing}=FOLDER to --data")
    apart = folders_apart(options, folders, first)
    return {
        name: FolderProvider(DATASETS[name], folder, options.clips, crops=options.crops, **apart[name])
        for name, folder in folders.items()
        if options.datasets is None or name in options.datasets
    }


def _encoders(options: argparse.Namespace, names: Iterable[str]) -> dict[str, str]:
    """The text encoder of each dataset: its own, DATASET=ENCODER, or the one that is given without a dataset."""
    encoders = dict.fromkeys(names, "shipped")
    for given in sorted(options.texts, key=lambda given: given.partition("=")[0] in DATASETS):
        name, equals, encoder = given.partition("=")
        if equals and name in DATASETS:
            if name not in encoders:
                raise ValueError(f"--texts {given}, and {name} is not trained here; there is {', '.join(encoders)}")
            encoders[name] = encoder
        else:
            if equals and not set("/:") & set(name) and not Path(given).exists():
                raise ValueError(f"--texts {given}: {unknown_name('dataset', name, DATASETS)}")
            encoders = dict.fromkeys(encoders, given)
    return encoders


def _targets(table: Table, options: argparse.Namespace, names: Iterable[str]) -> list[Target]:
    """The targets to train; those of the table where none are requested."""
    by_dataset = {name: TARGETS[name] for name in names}
    if not options.targets:
        usual = {**table.targets, **(table.simulated or {})}
        return [Target(name, each) for name, known in by_dataset.items() for each in usual.get(name, known)]
    everything = dict.fromkeys(each for known in by_dataset.values() for each in known)
    chosen = _chosen("target", options.targets, everything)
    return [Target(name, each) for name, known in by_dataset.items() for each in known if each in chosen]
