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
from mag2.saving.full_disk import naming_full_disk
from mag2.training.request import Request
from mag2.training.target import Target
from mag2.training.threads import THREADS

__all__ = ["describe_call", "recorded"]

# Of results that were written before a setting was recorded.
_FORMERLY = {"threads": THREADS}


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
        ValueError: the folder has results of other settings, data or texts, or another run holds it.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder with --out")
    path = out / "settings.json"
    _earlier(path, settings, fingerprints)
    with naming_full_disk(out):
        out.mkdir(parents=True, exist_ok=True)
    with alone_in(out):
        remove_leftovers(out)
        remove_leftovers(out / "cells", below=True)
        before = _earlier(path, settings, fingerprints)
        known = before.get("fingerprints", {}) | dict(fingerprints)
        manifest = {"settings": settings, "fingerprints": known, "runs": [*before.get("runs", []), call]}
        write_atomically(json.dumps(manifest, indent=1) + "\n", path)
        yield


def describe_call(options: Namespace, request: Request, epochs: Mapping[Target, int]) -> dict[str, Any]:
    """What a call requested, and everything that is needed to repeat it."""
    return {
        "command": options.command,
        "data": options.data,
        "rows": list(request.rows),
        "seeds": options.seeds,
        "epochs": {str(target): count for target, count in epochs.items()},
        "device": options.device,
        "workers": options.workers,
        "compile": options.compile,
        "recipes": {key: asdict(row.recipe) for key, row in request.rows.items()},
        "versions": {name: importlib.metadata.version(name) for name in ("mag2", "torch", "torch-geometric", "numpy")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _earlier(path: Path, settings: Mapping[str, Any], fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """The manifest of earlier runs, of the same settings and data; empty where there is none."""
    if not path.is_file():
        return {}
    before, out = read_json(path, "settings", "fingerprints", "runs"), path.parent
    for name in {**settings, **before["settings"]}:
        held, own = before["settings"].get(name, _FORMERLY.get(name)), settings.get(name)
        if held != own:
            raise ValueError(f"{out} holds results with {name} {held}, this run has {own}; give another --out")
    known = before["fingerprints"]
    other = [name for name, value in fingerprints.items() if known.get(name, value) != value]
    if other:
        raise ValueError(f"{out} holds results of other data, crops or texts ({other[0]}); give another --out")
    return before
