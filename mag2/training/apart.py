"""The options that say where labels and features lie apart: DATASET=FOLDER, or DATASET.MODALITY=PATH."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mag2.data.performances import MODALITIES, VISION_LANGUAGE
from mag2.saving.sentences import unknown_name

__all__ = ["folders_apart", "refuse_apart"]

PARTS = (*MODALITIES, VISION_LANGUAGE)


def refuse_apart(options: argparse.Namespace) -> None:
    """Refuse the options where no folder of files is given."""
    for name in ("label_folder", "feature_folder"):
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} is for files; give --data too")
    if options.crops != "shortest":
        raise ValueError("--crops is for files, whose modalities may differ in length; give --data too")


def folders_apart(options: argparse.Namespace, datasets: Collection[str], first: str) -> dict[str, dict[str, Any]]:
    """For each dataset of --data what `FolderProvider` gets: `label_folder`, `feature_folder`, `places`.

    Args:
        options: of a table's command. datasets: those of --data. first: the dataset that a folder without a name is of.

    Raises:
        ValueError: a dataset that --data does not name, an unknown modality, or a place that is given twice or does not
            exist.
    """
    apart: dict[str, dict[str, Any]] = {name: {} for name in datasets}
    for given in options.label_folder or ():
        name, _, folder = _split(given, "--label-folder", datasets, first)
        _set_once(apart[name], "label_folder", folder, f"the labels of {name}")
    for given in options.feature_folder or ():
        name, modality, path = _split(given, "--feature-folder", datasets, first)
        if not modality:
            _set_once(apart[name], "feature_folder", path, f"the features of {name}")
            continue
        if modality not in PARTS:
            raise ValueError(f"--feature-folder {given}: {unknown_name('modality', modality, PARTS)}")
        places = dict(apart[name].get("places", ()))
        _set_once(places, modality, path, f"the {modality} features of {name}")
        apart[name]["places"] = tuple((each, str(place)) for each, place in places.items())
    return apart


def _split(given: str, option: str, datasets: Collection[str], first: str) -> tuple[str, str, Path]:
    """Dataset, modality or "", and path, which is made absolute: it is not one in the dataset's folder."""
    said, equals, path = given.partition("=")
    if not equals:
        said, path = first, given
    name, _, modality = (said, "", "") if said in datasets else said.rpartition(".")
    if name not in datasets:
        raise ValueError(f"{option} {given}: --data has no folder of {name or said}; it has {', '.join(datasets)}")
    return name, modality, Path(path).absolute()


def _set_once(known: dict[str, Any], key: str, path: Path, what: str) -> None:
    if key in known:
        raise ValueError(f"{what} are given twice, {known[key]} and {path}; give one place")
    if not path.exists():
        raise ValueError(f"{path} for {what} does not exist: give a folder or file that does")
    known[key] = path
