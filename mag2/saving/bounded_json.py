"""Read JSON from unknown sources within bounds of size and depth."""

import json
import os
import stat
from pathlib import Path
from typing import Any

__all__ = ["MAX_JSON_BYTES", "is_number", "load_json"]

# Far above what folders of weights, stores and results have: a store has about a hundred bytes for each video.
MAX_JSON_BYTES = 32 * 2**20
MAX_JSON_DEPTH = 60  # of lists and objects in one another


def load_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, no JSON in UTF-8, too large or too deep; the reason, for the end of a
            sentence that begins with the file.
    """
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:  # a pipe is not waited for
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("is no regular file")
        raw = file.read(MAX_JSON_BYTES + 1)
    if len(raw) > MAX_JSON_BYTES:
        raise ValueError(f"has more than {MAX_JSON_BYTES // 2**20} MiB")
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("is no text in UTF-8") from None
    except RecursionError:
        raise ValueError(f"nests more than {MAX_JSON_DEPTH} levels deep") from None
    except ValueError as fault:  # its text may be that of Python's limit for whole numbers
        where = f", at line {fault.lineno}" if isinstance(fault, json.JSONDecodeError) else ""
        raise ValueError(f"is no JSON{where}") from None
    _check_depth(value)
    return value


def is_number(value: Any) -> bool:
    """Whether a value that was read is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [part for node in level for part in _parts(node) if isinstance(part, dict | list)]:
        depth += 1
        if depth >= MAX_JSON_DEPTH:
            raise ValueError(f"nests more than {MAX_JSON_DEPTH} levels deep")


def _parts(node: Any) -> Any:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
