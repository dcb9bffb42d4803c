"""Places in a model: submodules by their dotted paths, whatever wraps them."""

import difflib
from typing import Any

from torch import nn

__all__ = ["joined", "listed", "paths", "plain", "submodule"]


def paths(model: nn.Module) -> dict[str, nn.Module]:
    """The submodules by their dotted paths, all of them; what `torch.compile` wrapped stands for its inside."""
    return {plain(path): part for path, part in model.named_modules(remove_duplicate=False)}


def plain(path: str) -> str:
    """A path or a key without what `torch.compile` adds to it."""
    return ".".join(name for name in path.split(".") if name != "_orig_mod")


def submodule(model: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path.

    Raises:
        ValueError: there is none; paths that would work are named.
    """
    parts = paths(model)
    if plain(path) in parts:
        return parts[plain(path)]
    near = difflib.get_close_matches(path, parts, n=4, cutoff=0.5) or [name for name in parts if name][:8]
    raise ValueError(f"{type(model).__name__} has no submodule {path!r}; it has {listed(near)}")


def joined(*parts: str) -> str:
    """A dotted path from its parts, of which some may be empty."""
    return ".".join(part for part in parts if part)


def listed(names: Any) -> str:
    """Names for a sentence."""
    return ", ".join(repr(name) for name in names) or "none"
