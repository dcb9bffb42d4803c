"""Names of videos, which come from label files and become names of files."""

import re

from mag2.data.errors import DataError
from mag2.saving.sentences import printable, shortened

__all__ = ["require_inner_name"]

LONGEST = 240  # bytes of a part of a name: a file name has 255 at most on most systems, and the ending is part of it
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")


def require_inner_name(name: str, where: str) -> None:
    """Refuse a name whose file would be outside its folder, or cannot exist.

    Args:
        name: as a label file or annotation gives it.
        where: the file and line, for the error.

    Raises:
        DataError: it is absolute, goes up with "..", has control characters, or is too long.
    """
    parts = re.split(r"[/\\]", name)
    if _ABSOLUTE.match(name) or ".." in parts:
        raise DataError(f"{where} names {shortened(name)}, which leads out of the folder of features: correct the name")
    if printable(name) != name or not name:
        raise DataError(f"{where} names {shortened(name)}, which has characters that no name has: correct the name")
    if any(len(part.encode()) > LONGEST for part in parts):
        raise DataError(f"{where} names {shortened(name)}, which is too long for a file: {LONGEST} bytes at most")
