"""Places in a model: submodules by their dotted paths, whatever wraps them."""

import difflib
from typing import Any

from torch import nn

from mag2.plugin.wrappers import ADAPTED, base_of, without_wrappers

__all__ = ["joined", "listed", "paths", "submodule"]


def paths(model: nn.Module) -> dict[str, nn.Module]:
    """The submodules by their dotted paths, all of them, without the names of wrappers of parts.

    What `torch.compile`, FSDP or an activation checkpoint wraps stands for its inside, an adapted layer of PEFT for the
    whole.
    """
    found: dict[str, nn.Module] = {}
    for path, part in model.named_modules(remove_duplicate=False):
        plain, last = without_wrappers(path), path.rpartition(".")[2]
        if plain not in found or not (last in ADAPTED or "modules_to_save" in path):
            found[plain] = part
    return found


def submodule(model: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path.

    Raises:
        ValueError: there is none; paths that would work are named.
    """
    raw = dict(model.named_modules(remove_duplicate=False))
    if path in raw and without_wrappers(path) == path:
        return paths(model)[path]
    if path in raw:
        return raw[path]
    parts = paths(model)
    if without_wrappers(path) in parts:
        return parts[without_wrappers(path)]
    near = difflib.get_close_matches(path, parts, n=4, cutoff=0.5) or [name for name in parts if name][:8]
    raise ValueError(f"{type(base_of(model)).__name__} has no submodule {path!r}; it has {listed(near)}")


def joined(*parts: str) -> str:
    """A dotted path from its parts, of which some may be empty."""
    return ".".join(part for part in parts if part)


def listed(names: Any) -> str:
    """Names for a sentence."""
    return ", ".join(repr(name) for name in names) or "none"
