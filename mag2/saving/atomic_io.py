"""Files that are never seen half-written, and folders that one process holds at a time."""

import contextlib
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from mag2.saving.bounded_json import load_json
from mag2.saving.full_disk import KeptFault, naming_full_disk

__all__ = ["alone_in", "holding", "read_json", "remove_leftovers", "replacing", "save_atomically", "write_atomically"]

_LEFTOVER = re.compile(r".+\.[0-9a-f]{16}\.partial")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to inside a `with`; the file there takes the place of `path` when all went well, else it goes.

    Its name cannot be guessed and its file is new, so that nothing that was put there before is written through.

    Raises:
        DiskFullError: the disk is full; nothing is left of the new file.
        ValueError: there is a folder at the path.
    """
    if path.is_dir() and not path.is_symlink():
        raise ValueError(f"{path} is a folder; move it away, or give another path")
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with naming_full_disk(path):
            partial.open("xb").close()
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_leftovers(folder: Path, below: bool = False) -> None:
    """Remove what processes that were killed inside `replacing` left in a folder. Call it while holding the folder.

    Args:
        folder: that may not exist. below: whether to clear the folders in it too; links to folders are left alone.
    """
    for path in folder.rglob("*.partial") if below else folder.glob("*.partial"):
        if _LEFTOVER.fullmatch(path.name):  # and no file of the user's
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def holding(lock: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock file inside a `with`; the hold ends with the process, however that ends.

    Args:
        lock: an empty file, made where it is not there. Nothing is ever written to it.
        timeout: how many seconds to wait for another holder; -1 for as long as it takes.

    Raises:
        Timeout: another process holds it.
        ValueError: the path is a link, or a file with content: not a lock file.
    """
    if lock.is_symlink() or (lock.exists() and (not lock.is_file() or lock.stat().st_size)):
        raise ValueError(f"{lock} is no lock file of mag2; move it away")
    with FileLock(lock, timeout=timeout):
        yield


@contextlib.contextmanager
def alone_in(folder: Path, wait: float = 0) -> Iterator[None]:
    """Hold a folder for one run, from a `with`.

    Args:
        folder: that exists. wait: so many seconds for another run to let go of it.

    Raises:
        ValueError: another run holds it.
        DiskFullError: there is no space for the lock file.
    """
    try:
        with naming_full_disk(folder), holding(folder / ".lock", timeout=wait):
            yield
    except Timeout:
        raise ValueError(f"another run is at work in {folder}; wait for it, or give another folder") from None


def save_atomically(value: object, path: Path) -> None:
    """`torch.save` that leaves either the old file or the whole new one, whenever it is killed."""
    with replacing(path) as partial, partial.open("wb") as file:
        kept = KeptFault(file)
        try:
            torch.save(value, kept)  # type: ignore[arg-type]  # it writes and flushes, which is all that torch needs
        except RuntimeError:  # torch's own, for a write that failed
            if kept.fault is None:
                raise
            raise kept.fault from None


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
        value = load_json(path)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not set(keys) <= value.keys():
        raise ValueError(f"{path} is damaged; delete it, or give another folder")
    return value
