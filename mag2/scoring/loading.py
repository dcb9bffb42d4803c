"""Load a trained model from the folder of a training, or of a run of many."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mag2.nn.devices import checked_device
from mag2.saving.folders import check_readable, read_json, read_weights
from mag2.saving.places import absence_of
from mag2.scoring.trained import Trained
from mag2.texts import TextFeatures
from mag2.training.model_files import Builder, build_model
from mag2.training.trained_folder import ABOUT, KEYS, TEXTS, WEIGHTS

__all__ = ["find_trained", "load_trained"]

_WRITER = "a training"


def load_trained(
    folder: str | Path,
    *,
    row: str | None = None,
    target: str | None = None,
    seed: int | None = None,
    build: Builder | None = None,
    guides: Sequence[nn.Module] = (),
    device: str = "cpu",
) -> Trained:
    """Load the trained model of a folder, in evaluation mode, with its texts, target, scale and crop.

    Args:
        folder: the folder of one training (a cell of a run, or one that `fit(..., keep_model=True)` or `save_trained`
            wrote); or of a run, of which row, target and seed select one training.
        row, target, seed: of the training, if the folder has several; a row is its key or method, a target "TES" or
            "FS1000/TES".
        build: a function that makes a model of your own class, with any weights; not needed for registered classes.
        guides: attached modules of your own classes, as in `mag2.load_plugin`.
        device: the device for the model.

    Returns:
        A `Trained`.

    Raises:
        ValueError: no such folder; none or several trainings in it that fit; weights that were not saved, or do not fit
            the model; a model of your own class without `build`; a damaged file, or one of another version; or no such
            device.
    """
    place_of_model = checked_device(device)
    if isinstance(build, nn.Module):
        name = type(build).__name__
        raise ValueError(f"build is a {name}; give a function that makes one: build=lambda: {name}(...)")
    found = find_trained(folder, row=row, target=target, seed=seed)
    if len(found) > 1:
        shown = list(dict.fromkeys(map(_name, found)))
        apart = len(shown) == len(found)
        advice = "row, target and seed of one of them" if apart else "the folder of one of them"
        shown = shown if apart else [str(path.relative_to(folder)) for path in found]
        some = ", ".join(shown[:4]) + (" and so on" if len(shown) > 4 else "")
        raise ValueError(f"{folder} holds {len(found)} trained models that fit ({some}); give {advice}")
    place = found[0]
    about = _about(place / ABOUT)
    if not about["weights"]:
        raise ValueError(f"{place} holds no weights; train again without --no-weights, into another folder")
    weights = read_weights(place / WEIGHTS, about["sha256"])
    try:
        model = build_model(about["model"], weights, place, build, guides)
    except (KeyError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(
            f"{place / ABOUT} describes a model that this version of mag2 cannot build: {why}; "
            f"mag2 {about['mag2']} wrote it"
        ) from None
    texts = None if about["texts"] is None else TextFeatures.from_saved(place / TEXTS)
    return Trained(place, model.to(place_of_model), texts, about)


def find_trained(
    folder: str | Path, *, row: str | None = None, target: str | None = None, seed: int | None = None
) -> list[Path]:
    """Return the folders of all trained models in a folder.

    Args:
        folder: of a run or of one training; it is searched with its subfolders.
        row, target, seed: only those of this row, target and seed, as in `load_trained`.

    Raises:
        ValueError: no such folder, or no trained model that fits; the message lists rows, targets and seeds.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{absence_of(folder)}; give the folder of a run or of one training")
    places = sorted({path.parent for path in folder.rglob(ABOUT)}, key=_order)
    if not places:
        raise ValueError(
            f"no {ABOUT} in {folder}: it holds no trained model; version 0.1 kept none, train again into another folder"
        )
    wanted = {"row": row, "target": target, "seed": seed}
    labels = {place: _labels(place / ABOUT) for place in places}
    fitting = [place for place in places if all(_fits(labels[place][k], v) for k, v in wanted.items())]
    if not fitting:
        asked = ", ".join(f"{key} {value}" for key, value in wanted.items() if value is not None)
        there = "; ".join(
            f"{key} {', '.join(sorted({str(each[key][-1]) for each in labels.values()}))}" for key in wanted
        )
        raise ValueError(f"{folder} has no trained model of {asked}; there are {there}")
    return fitting


def _labels(path: Path) -> dict[str, tuple[Any, ...]]:
    """The names by which each of row, target and seed may be asked for."""
    about = read_json(path, _WRITER)
    row = about.get("row") or {}
    target = about.get("target")
    return {
        "row": (row.get("method"), row.get("key")),
        "target": (f"{about.get('dataset')}/{target}", target),
        "seed": (about.get("seed"),),
    }


def _fits(names: tuple[Any, ...], wanted: Any) -> bool:
    return wanted is None or str(wanted) in map(str, names)


def _name(place: Path) -> str:
    labels = _labels(place / ABOUT)
    return f"row {labels['row'][-1]}, {labels['target'][-1]}, seed {labels['seed'][-1]}"


def _order(place: Path) -> list[tuple[int, int | str]]:
    """Seed 10 comes after seed 2."""
    parts = [piece for part in place.parts for piece in part.split("-")]
    return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in parts]


def _about(path: Path) -> dict[str, Any]:
    """What `trained.json` says, complete."""
    about = read_json(path, _WRITER)
    check_readable(about, KEYS, path)
    missing = sorted(KEYS - set(about))
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(map(json.dumps, missing))}; mag2 {about.get('mag2', 'unknown')} wrote it; "
            f"train again, or load it with that version"
        )
    return about
