"""The feature store: raw files are read once, averaged, and kept as one memory map per modality."""

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures, FeatureDigest
from mag2.data.raw_features import Source, averaged, want_shapes

try:
    import fcntl
except ImportError:  # Windows has no flock; two builders at once then cost a second build, nothing else
    fcntl = None  # type: ignore[assignment]

# Raise it whenever the stored numbers or the fields of the fingerprint change: older stores are then rebuilt.
LAYOUT = 1

_LEFTOVER = re.compile(r".+-[0-9a-f]{16}\.(npy|json)\.part-[0-9a-f]{16}")


def stored(
    sources: Sequence[Source], *, stem: str, places: Sequence[Path], progress: Callable[[int], None]
) -> ClipFeatures:
    """The features of all sources, from the store where it is current, else read and stored first.

    The store is `<stem>.npy` (sum T, D) float32 beside `<stem>.json`: name, size and modification time of
    every source, the lengths, and size and time of the `.npy` itself. Both are written to a temporary file
    and moved into place, the `.json` last, so a build that was killed leaves no valid store. A source or
    store that changed in any way leads to a new build. One build runs at a time; the others wait and use it.

    Args:
        sources: the videos, in the order to keep.
        stem: the name of the store within its folder.
        places: folders to keep it in. A current store is used from whichever has it, a new one is built in
            the first that can be written.
        progress: called with the number of videos that are ready.

    Raises:
        DataError: a source is faulty, or no place can be written.
    """
    fingerprint = _fingerprint(sources)
    for place in places:
        found = _open(place, stem, fingerprint)
        if found is not None:
            progress(len(sources))
            return found
    reason = ""
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            with _lock(place):
                found = _open(place, stem, fingerprint)  # another process may just have built it
                if found is not None:
                    progress(len(sources))
                    return found
                return _build(place, stem, fingerprint, sources, progress)
        except OSError as fault:
            reason = fault.strerror or type(fault).__name__
    tried = " or ".join(str(place) for place in places)
    raise DataError(f"the feature store cannot be written in {tried} ({reason}): give a writable cache folder")


def default_places(folder: Path) -> list[Path]:
    """Where the store of a dataset lies: beside the data or, where that is read-only, in the user's cache."""
    places = [folder / ".mag2-cache"]
    with contextlib.suppress(RuntimeError):  # a user without a home
        home = os.environ.get("XDG_CACHE_HOME")
        user = Path(home) if home else Path.home() / ".cache"
        places.append(user / "mag2" / short_hash(str(folder.resolve())))
    return places


def short_hash(text: str) -> str:
    """Sixteen hexadecimal digits that stand for a text in a file name."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fingerprint(sources: Sequence[Source]) -> dict:
    """What the store was made from; a file's content is taken to be what its size and time say."""
    rows = []
    for source in sources:
        try:
            stat = source.file.stat()
        except OSError as fault:
            raise DataError(f"{source} cannot be read ({fault.strerror}): put the features there") from fault
        rows.append([source.name, source.file.name, stat.st_size, stat.st_mtime_ns])
    return {"layout": LAYOUT, "sources": rows}


def _open(place: Path, stem: str, fingerprint: dict) -> ClipFeatures | None:
    """The store, if it is whole and made from these sources."""
    data_file = place / f"{stem}.npy"
    try:
        note = json.loads((place / f"{stem}.json").read_text(encoding="utf-8"))
        if any(note[key] != value for key, value in fingerprint.items()):
            return None
        if note["itself"] != _identity(data_file):
            return None
        data = np.load(data_file, mmap_mode="r", allow_pickle=False)
        # Another process may have put another store in its place before it was mapped; now nobody can any more.
        if note["itself"] != _identity(data_file):
            return None
        offsets = np.cumsum([0, *note["lengths"]])
        if data.shape != (offsets[-1], note["width"]):
            return None
        return ClipFeatures(data, offsets, digest=note["digest"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None  # missing, half-written or damaged: build it anew


def _build(
    place: Path, stem: str, fingerprint: dict, sources: Sequence[Source], progress: Callable[[int], None]
) -> ClipFeatures:
    lengths, width = want_shapes(sources)
    digest = FeatureDigest()
    with _replacing(place / f"{stem}.npy") as file:
        # Plain writes, no writable memory map: a full disk is then an error and not a crash.
        shape = (sum(lengths), width)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for ready, (source, length) in enumerate(zip(sources, lengths, strict=True), 1):
            clips = averaged(source)
            if clips.shape != (length, width):
                raise DataError(f"{source} changed while it was read: run again when nothing writes to it")
            digest.add(clips)
            file.write(clips.astype("<f4", copy=False).data)
            progress(ready)
        file.flush()
        os.fsync(file.fileno())
        itself = [os.fstat(file.fileno()).st_size, os.fstat(file.fileno()).st_mtime_ns]
        data = np.load(file.name, mmap_mode="r", allow_pickle=False)
    note = {**fingerprint, "itself": itself, "lengths": lengths, "width": width, "digest": digest.text()}
    with _replacing(place / f"{stem}.json") as file:
        file.write(json.dumps(note).encode())
    return ClipFeatures(data, np.cumsum([0, *lengths]), digest=note["digest"])


def _identity(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator:
    """A temporary file that takes the target's place when all went well, and vanishes when not."""
    part = target.with_name(f"{target.name}.part-{secrets.token_hex(8)}")
    try:
        with open(part, "xb") as file:
            yield file
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _lock(place: Path) -> Iterator[None]:
    """One builder at a time; whoever holds the lock clears away what killed builders left behind."""
    with open(place / "lock", "wb") as file:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks: see above
                fcntl.flock(file, fcntl.LOCK_EX)
                for leftover in place.glob("*.part-*"):
                    if _LEFTOVER.fullmatch(leftover.name):  # and no file of the user's
                        leftover.unlink(missing_ok=True)
        yield
