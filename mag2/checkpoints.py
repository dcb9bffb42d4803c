"""Checkpoints: prefixes stripped, keys renamed, every miss an error, every write atomic."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


def without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without what wrappers put before every key: `module.` (DDP) and `_orig_mod.` (torch.compile)."""
    plain = {}
    for key, value in state_dict.items():
        plain[key.replace("_orig_mod.", "").removeprefix("module.")] = value
    return plain


def load_exactly(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load a state that must fit key by key and shape by shape.

    Raises:
        ValueError: names the missing, the unknown and the misshapen keys in one sentence.
    """
    own = model.state_dict()
    missing = sorted(own.keys() - state_dict.keys())
    unknown = sorted(state_dict.keys() - own.keys())
    shapes = [k for k in own.keys() & state_dict.keys() if own[k].shape != state_dict[k].shape]
    if missing or unknown or shapes:
        told = [("missing", missing), ("unknown", unknown), ("of another shape", sorted(shapes))]
        parts = [f"{len(keys)} {what} ({_first(keys)})" for what, keys in told if keys]
        raise ValueError(f"the weights do not fit {type(model).__name__}: {'; '.join(parts)}")
    model.load_state_dict(state_dict)


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


def _first(keys: list[str], most: int = 3) -> str:
    return ", ".join(keys[:most]) + (", ..." if len(keys) > most else "")
