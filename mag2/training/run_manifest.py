"""The folder of a table's results: what they are of, how to repeat them, and one run at a time."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mag2.saving.atomic_io import alone_in, read_json, write_atomically


@contextlib.contextmanager
def claimed(out: Path, settings: dict[str, Any], prints: Mapping[str, str], asked: dict[str, Any]) -> Iterator[None]:
    """Hold the folder and add to it how to repeat this run; refuse one of other settings, or where a run is at work."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder with --out")
    path = out / "settings.json"
    _check_settings(path, settings, prints)
    out.mkdir(parents=True, exist_ok=True)
    with alone_in(out):
        before = _check_settings(path, settings, prints)
        fingerprints = before.get("fingerprints", {}) | dict(prints)
        record = {"settings": settings, "fingerprints": fingerprints, "runs": [*before.get("runs", []), asked]}
        write_atomically(json.dumps(record, indent=1) + "\n", path)
        yield


def _check_settings(path: Path, settings: dict[str, Any], prints: Mapping[str, str]) -> dict[str, Any]:
    """What an earlier run left in the file, which must be of the same settings and data."""
    if not path.is_file():
        return {}
    before, out = read_json(path, "settings", "fingerprints", "runs"), path.parent
    for name in {**settings, **before["settings"]}:
        held, wanted = before["settings"].get(name), settings.get(name)
        if held != wanted:
            raise ValueError(f"{out} holds results with {name} {held}, this run has {wanted}; give another --out")
    known = before["fingerprints"]
    other = [name for name, value in prints.items() if known.get(name, value) != value]
    if other:
        raise ValueError(f"{out} holds results of other data, crops or texts ({other[0]}); give another --out")
    return before
