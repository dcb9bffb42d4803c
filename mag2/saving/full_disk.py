"""Report a full disk as one sentence with the path, in every place that writes."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["DiskFullError", "KeptFault", "append_whole", "is_full", "naming_full_disk"]

_REASONS = {
    errno.ENOSPC: "no space is left on the disk for {path}: make room, and run again",
    errno.EDQUOT: "the disk quota is used up at {path}: make room, and run again",
    errno.EFBIG: "{path} becomes larger than its disk or the limit of this process (ulimit -f) allows: "
    "raise the limit or give a folder on another disk, and run again",
}
# NumPy's words for a file that took a part of an array only; it drops the reason.
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


class DiskFullError(OSError):
    """The error of a full disk: a file did not fit. Nothing of it is left, and an earlier file is unchanged."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextlib.contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Inside a `with`, turn the errors of a full disk into one sentence that names what was being written.

    Raises:
        DiskFullError: no space is left, a quota is used up, or the file is larger than allowed.
    """
    try:
        yield
    except DiskFullError:
        raise
    except OSError as fault:
        number = errno.ENOSPC if fault.errno is None and _SHORT_WRITE.search(str(fault)) else fault.errno
        if number not in _REASONS:
            raise
        raise DiskFullError(number, _REASONS[number].format(path=path)) from None


def is_full(fault: OSError) -> bool:
    """Whether a fault is that of a full disk."""
    return fault.errno in _REASONS


class KeptFault:
    """A file to write to that keeps the fault of a failed write, for writers that replace it by another error.

    Args:
        file: opened for writing in binary.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self.fault: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write to the file."""
        try:
            return self._file.write(data)
        except OSError as fault:
            self.fault = fault
            raise

    def flush(self) -> None:
        """Flush the file."""
        try:
            self._file.flush()
        except OSError as fault:
            self.fault = fault
            raise


def append_whole(data: bytes, path: Path) -> None:
    """Add bytes to the end of a file: all of them or none.

    Raises:
        DiskFullError: they do not fit.
        ValueError: the path is a link, or the file has another name too, so that another file would change.
    """
    if path.is_symlink():
        raise ValueError(f"{path} is a link to another file; move it away")
    with naming_full_disk(path), open(path, "ab", buffering=0, opener=_without_links) as file:
        about = os.fstat(file.fileno())
        if about.st_nlink > 1:
            raise ValueError(f"{path} is a link to another file; move it away")
        before = about.st_size
        try:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
        except OSError:
            os.ftruncate(file.fileno(), before)
            raise


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
