"""Arguments of commands that name files and folders."""

import argparse
from pathlib import Path

__all__ = ["given_path"]


def given_path(text: str) -> Path:
    """Return the path that an argument names; an empty one is refused, because it would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no path; give a folder or a file")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path; it has a zero byte")
    return Path(text)
