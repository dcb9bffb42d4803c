"""`settings.json` of a table's results: what they depend on, and the calls that made them."""

import contextlib
import importlib.metadata
import json
import os
import platform
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mag2.saving.atomic_io import alone_in, read_json, remove_leftovers, write_atomically
from mag2.saving.places import make_folder
from mag2.training.recipe import Recipe
from mag2.training.recipes.model_recipe import SMALL_BATCH
from mag2.training.request import Request
from mag2.training.threads import THREADS

__all__ = ["describe_call", "recorded"]

# Of results that were written before a setting was recorded.
_FORMERLY = {"start": "residual", "threads": THREADS}


@contextlib.contextmanager
def recorded(
    out: Path, settings: Mapping[str, Any], fingerprints: Mapping[str, str], call: Mapping[str, Any]
) -> Iterator[None]:
    """Hold the folder of results inside a `with`, one run at a time, and add this call to its manifest.

    Args:
        out: the folder, made where it does not exist.
        settings: all results of the folder have the same ones. fingerprints: of data and texts, likewise.
        call: how to repeat this run, as `describe_call` says it.

    Raises:
        ValueError: the folder has results of other settings, recipes, data or texts, or another run holds it.
    """
    path = out / "settings.json"
    _earlier(path, settings, fingerprints, call)
    make_folder(out, " with --out")
    with alone_in(out):
        remove_leftovers(out)
        remove_leftovers(out / "cells", below=True)
        before = _earlier(path, settings, fingerprints, call)
        known = before.get("fingerprints", {}) | dict(fingerprints)
        manifest = {"settings": settings, "fingerprints": known, "runs": [*before.get("runs", []), call]}
        write_atomically(json.dumps(manifest, indent=1) + "\n", path)
        yield


def describe_call(options: Namespace, request: Request) -> dict[str, Any]:
    """What a call requested, and everything that is needed to repeat it.

    "recipes" are those that were used, by row and target: batches, epochs and sizes of narrow models too.
    """
    recipes = request.recipes()
    return {
        "command": options.command,
        "data": options.data,
        "rows": list(request.rows),
        "seeds": options.seeds,
        "epochs": {key: {target: own["epochs"] for target, own in row.items()} for key, row in recipes.items()},
        "device": options.device,
        "workers": options.workers,
        "compile": options.compile,
        "recipes": recipes,
        "versions": {name: importlib.metadata.version(name) for name in ("mag2", "torch", "torch-geometric", "numpy")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _earlier(
    path: Path, settings: Mapping[str, Any], fingerprints: Mapping[str, str], call: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest of earlier runs, of the same settings, recipes and data; empty where there is none."""
    if not path.is_file():
        return {}
    before, out = read_json(path, "settings", "fingerprints", "runs"), path.parent
    for name in {**settings, **before["settings"]}:
        held, own = (given.get(name, _FORMERLY.get(name)) for given in (before["settings"], settings))
        if held != own:
            raise ValueError(f"{out} holds results with {name} {held}, this run has {own}; give another --out")
    known = before["fingerprints"]
    other = [name for name, value in fingerprints.items() if known.get(name, value) != value]
    if other:
        raise ValueError(f"{out} holds results of other data, crops or texts ({other[0]}); give another --out")
    for run in before["runs"]:
        _check_recipes(out, before["settings"], run, call)
    return before


def _check_recipes(out: Path, settings: Mapping[str, Any], run: Mapping[str, Any], call: Mapping[str, Any]) -> None:
    """Refuse to train a row for a target on another recipe than the results that are there."""
    for key, row in call["recipes"].items():
        for target, own in row.items():
            held = run.get("recipes", {}).get(key, {})
            if "optimizer" in held:  # written by version 0.1: of the row, for all targets of the call
                held = _used_before(held, settings, run["epochs"].get(target))
            else:
                held = held.get(target, {})
            own = json.loads(json.dumps(own))
            differing = [name for name, value in held.items() if own.get(name) != value]
            if differing:
                name = differing[0]
                raise ValueError(
                    f"{out} holds results of row {key} on {target} with {name} {held[name]}, this run has "
                    f"{own.get(name)}; give another --out"
                )


def _used_before(recipe: Mapping[str, Any], settings: Mapping[str, Any], epochs: int | None) -> dict[str, Any]:
    """What a run of version 0.1 really used for a target; nothing where it did not train on that."""
    if epochs is None:
        return {}
    used = {**asdict(Recipe(**recipe)), "epochs": epochs, "evaluation": "crops"}
    # It recorded the batch of its recipe for narrow models too.
    return json.loads(json.dumps(used | ({"batch": SMALL_BATCH} if settings.get("size") == "small" else {})))
