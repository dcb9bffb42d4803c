"""Files that are never seen half-written."""

import json
import os
from pathlib import Path

import torch


def save_atomically(value: object, path: Path) -> None:
    """`torch.save` that leaves either the old file or the whole new one, whenever it is killed."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        torch.save(value, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(text: str, path: Path) -> None:
    """Write a text file that is never seen half-written."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
