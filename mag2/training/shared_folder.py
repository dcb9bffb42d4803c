"""Check that the machines of a cluster share a folder: this process writes a mark there, and the others search it."""

import contextlib
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from mag2.saving.atomic_io import write_atomically
from mag2.saving.full_disk import naming_full_disk

__all__ = ["marked", "unseen"]


@contextlib.contextmanager
def marked(folder: Path) -> Iterator[Path]:
    """A mark in a folder, made where it is not there, that is removed after the `with`; marks of killed runs go too.

    Raises:
        DiskFullError: there is no space for it.
    """
    with naming_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(".shared-*"):
        old.unlink(missing_ok=True)
    mark = folder / f".shared-{secrets.token_hex(8)}"
    write_atomically("This file shows to other machines that they see this folder.\n", mark)
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def unseen(mark: Path) -> str | None:
    """Return one sentence about the fault if this machine does not find the mark; None if it does."""
    if mark.is_file():
        return None
    return (
        f"the machine {socket.gethostname()} does not see the folder {mark.parent} of the machine that started the "
        f"run: give an --out on a disk that all machines share, under the same path"
    )
