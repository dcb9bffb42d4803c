"""Atomic writes of files, and locks of folders for one process at a time."""

import contextlib
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import torch
from filelock import FileLock, Timeout

from mag2.saving.bounded_json import load_json
from mag2.saving.full_disk import KeptFault, naming_full_disk

__all__ = ["alone_in", "holding", "read_json", "remove_leftovers", "replacing", "save_atomically", "write_atomically"]

_LEFTOVER = re.compile(r".+\.[0-9a-f]{16}\.partial")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; at the end of the `with` block its file replaces `path`, or is deleted after an error.

    The name of the new file cannot be guessed, so that no file or link that was put there before is written to.

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
    """Remove files that processes left in a folder when they were killed inside `replacing`; lock the folder before.

    Args:
        folder: need not exist.
        below: whether to clear its subfolders too; links to folders are not followed.
    """
    for path in folder.rglob("*.partial") if below else folder.glob("*.partial"):
        if _LEFTOVER.fullmatch(path.name):  # and no file of the user's
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def holding(lock: Path, timeout: float = -1) -> Iterator[None]:
    """Lock a lock file inside a `with` block; the lock ends with the process, even if that is killed.

    Args:
        lock: an empty file, made if it does not exist. Nothing is ever written to it.
        timeout: seconds to wait for another process; -1 for no limit.

    Raises:
        Timeout: another process has the lock.
        ValueError: the path is a link, or a file with content: not a lock file.
    """
    if lock.is_symlink() or (lock.exists() and (not lock.is_file() or lock.stat().st_size)):
        raise ValueError(f"{lock} is no lock file of mag2; move it away")
    with FileLock(lock, timeout=timeout):
        yield


@contextlib.contextmanager
def alone_in(folder: Path, wait: float = 0) -> Iterator[None]:
    """Lock a folder for one run inside a `with` block.

    Args:
        folder: an existing folder.
        wait: seconds to wait for another run to end.

    Raises:
        ValueError: another run has locked it.
        DiskFullError: there is no space for the lock file.
    """
    try:
        with naming_full_disk(folder), holding(folder / ".lock", timeout=wait):
            yield
    except Timeout:
        raise ValueError(f"another run is at work in {folder}; wait for it, or give another folder") from None


def save_atomically(value: object, path: Path) -> None:
    """Write a value with `torch.save`, atomically: after a kill the file is the old or the complete new one."""
    with replacing(path) as partial, partial.open("wb") as file:
        kept = KeptFault(file)
        try:
            torch.save(value, cast(BinaryIO, kept))
        except RuntimeError:  # torch's own, for a write that failed
            if kept.fault is None:
                raise
            raise kept.fault from None


def write_atomically(text: str, path: Path) -> None:
    """Write a text file atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path, *keys: str) -> dict:
    """Read a JSON file that the library wrote, and check its keys.

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
