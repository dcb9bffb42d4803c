"""The feature store: raw files are read once, averaged, and kept as one memory map per modality."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures, FeatureDigest
from mag2.data.npy_header import map_npy
from mag2.data.raw_features import RawFeatures, check_shapes, mean_over_views
from mag2.saving.atomic_io import holding, remove_leftovers, replacing
from mag2.saving.bounded_json import load_json
from mag2.saving.full_disk import is_full
from mag2.saving.sentences import reason_of

__all__ = ["STORE_VERSION", "default_cache_folders", "short_hash", "stored_features"]

# Raise it when the stored numbers or the fields of the fingerprint change: older stores are then rebuilt.
STORE_VERSION = 1

# What builders of version 0.1.0 left when they were killed.
_OLD_LEFTOVER = re.compile(r".+-[0-9a-f]{16}\.(npy|json)\.part-[0-9a-f]{16}")


def stored_features(
    raw: Sequence[RawFeatures], *, name: str, folders: Sequence[Path], progress: Callable[[int], None]
) -> ClipFeatures:
    """The features of all videos, from the store where it is current, else read and stored first.

    The store is `<name>.npy` (sum T, D) float32 beside `<name>.json`: name, size and modification time of
    every raw file, the lengths, and size and time of the `.npy` itself. Both are written to a temporary file
    and moved into place, the `.json` last, so a build that was killed leaves no valid store. A raw file or
    store that changed in any way leads to a new build. One build runs at a time; the others wait and use it.

    Args:
        raw: the videos, in the order to keep.
        name: of the store within its folder.
        folders: to keep it in. A current store is used from any of them; a new one is built in the first that can be
            written.
        progress: called with the number of videos that are ready.

    Raises:
        DataError: a raw file is faulty, or no folder can be written.
    """
    fingerprint = _fingerprint(raw)
    for folder in folders:
        found = _open_current(folder, name, fingerprint)
        if found is not None:
            progress(len(raw))
            return found
    reason, full = "", False
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _only_builder(folder):
                found = _open_current(folder, name, fingerprint)  # another process may just have built it
                if found is not None:
                    progress(len(raw))
                    return found
                return _build(folder, name, fingerprint, raw, progress)
        except OSError as fault:
            reason, full = reason_of(fault), full or is_full(fault)
    tried = " or ".join(str(folder) for folder in folders)
    if full:
        raise DataError(f"no space is left for the feature store in {tried}: make room, or give another cache folder")
    raise DataError(f"the feature store cannot be written in {tried} ({reason}): give a writable cache folder")


def default_cache_folders(folder: Path) -> list[Path]:
    """Return the folders for the store of a dataset: in the data's folder or, if it is read-only, the user's cache."""
    folders = [folder / ".mag2-cache"]
    with contextlib.suppress(RuntimeError):  # a user without a home
        home = os.environ.get("XDG_CACHE_HOME")
        user = Path(home) if home else Path.home() / ".cache"
        folders.append(user / "mag2" / short_hash(str(folder.resolve())))
    return folders


def short_hash(text: str) -> str:
    """Return sixteen hexadecimal digits, a hash of a text for file names."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fingerprint(raw: Sequence[RawFeatures]) -> dict[str, Any]:
    """What the store was made from. A file whose size and time are the same is taken to be the same.

    The keys are those of every store that exists already.
    """
    rows = []
    for each in raw:
        try:
            stat = each.file.stat()
        except OSError as fault:
            raise DataError(f"{each} cannot be read ({reason_of(fault)}): put the features there") from fault
        rows.append([each.name, each.file.name, stat.st_size, stat.st_mtime_ns])
    return {"layout": STORE_VERSION, "sources": rows}


def _open_current(folder: Path, name: str, fingerprint: dict[str, Any]) -> ClipFeatures | None:
    """The store, if it is whole and made from these files."""
    data_file = folder / f"{name}.npy"
    try:
        note = load_json(folder / f"{name}.json")
        if any(note[key] != value for key, value in fingerprint.items()):
            return None
        if note["itself"] != _size_and_time(data_file):
            return None
        data = map_npy(data_file)
        # Another process may have replaced the file before it was mapped. What is mapped stays.
        if note["itself"] != _size_and_time(data_file):
            return None
        offsets = np.cumsum([0, *note["lengths"]])
        if data.shape != (offsets[-1], note["width"]):
            return None
        return ClipFeatures(data, offsets, digest=note["digest"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError):
        return None  # missing, half-written or damaged: build it anew


def _build(
    folder: Path, name: str, fingerprint: dict[str, Any], raw: Sequence[RawFeatures], progress: Callable[[int], None]
) -> ClipFeatures:
    lengths, width = check_shapes(raw)
    digest = FeatureDigest()
    with replacing(folder / f"{name}.npy") as partial:
        # Plain writes, no writable memory map: a full disk is then an error and not a crash.
        with partial.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (sum(lengths), width)}
            np.lib.format.write_array_header_1_0(file, header)
            for ready, (each, length) in enumerate(zip(raw, lengths, strict=True), 1):
                clips = mean_over_views(each)
                if clips.shape != (length, width):
                    raise DataError(f"{each} changed while it was read: run again when nothing writes to it")
                digest.add(clips)
                file.write(clips.astype("<f4", copy=False).data)
                progress(ready)
            file.flush()
            os.fsync(file.fileno())
        itself = _size_and_time(partial)
        data = map_npy(partial)
    note = {**fingerprint, "itself": itself, "lengths": lengths, "width": width, "digest": digest.text()}
    with replacing(folder / f"{name}.json") as partial:
        partial.write_bytes(json.dumps(note).encode())
    return ClipFeatures(data, np.cumsum([0, *lengths]), digest=note["digest"])


def _size_and_time(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]


@contextlib.contextmanager
def _only_builder(folder: Path) -> Iterator[None]:
    """Build alone inside a `with`, after what killed builders left is removed.

    Where the folder cannot be locked (its file system has no locks, or `lock` is a file of the user's) nothing is
    removed and the `with` runs all the same: two builders at once then build twice, and either store is whole.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(holding(folder / "lock"))
        except (OSError, ValueError, NotImplementedError):
            pass
        else:
            remove_leftovers(folder)
            for old in folder.glob("*.part-*"):
                if _OLD_LEFTOVER.fullmatch(old.name):  # and no file of the user's
                    old.unlink(missing_ok=True)
        yield
