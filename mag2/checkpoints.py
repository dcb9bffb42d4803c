"""Files that are never seen half-written."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import torch

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to inside a `with`; the file there takes the place of `path` when all went well, else it goes."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for one run, from a `with`; the hold ends with the process, however that ends.

    Raises:
        ValueError: another run holds it.
    """
    if fcntl is None:
        yield
        return
    with open(folder / ".lock", "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run is at work in {folder}; wait for it, or give another folder") from None
        except OSError:  # a file system without locks
            pass
        yield


def save_atomically(value: object, path: Path) -> None:
    """`torch.save` that leaves either the old file or the whole new one, whenever it is killed."""
    with replacing(path) as partial:
        torch.save(value, partial)


def write_atomically(text: str, path: Path) -> None:
    """Write a text file that is never seen half-written."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path, *keys: str) -> dict:
    """A JSON file of ours, with the keys that it must have.

    Raises:
        ValueError: it is damaged; the sentence names it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict) or not set(keys) <= value.keys():
        raise ValueError(f"{path} is damaged; delete it, or give another folder")
    return value
