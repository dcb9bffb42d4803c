"""Places in a model: submodules by their dotted paths, whatever wraps them."""

import difflib
from typing import Any

from torch import nn

from mag2.plugin.wrappers import base_of, walk

__all__ = ["joined", "listed", "path_of", "paths", "submodule"]


_PREFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "base_model.model.", "module.")


def paths(model: nn.Module) -> dict[str, nn.Module]:
    """Return all submodules by their dotted paths; names that wrappers of submodules add are left out."""
    found: dict[str, nn.Module] = {}
    others: dict[str, nn.Module] = {}
    for path, part, stands in walk(model):
        (found if stands else others).setdefault(path, part)
    return {**others, **found}


def submodule(model: nn.Module, path: str) -> nn.Module:
    """Return the submodule of a model at a dotted path.

    Args:
        model: the model, wrapped or not.
        path: with or without the names that wrappers add ("module.", "_orig_mod."), as `named_modules` gives it.

    Raises:
        ValueError: there is none; the message names similar paths that exist.
    """
    parts = paths(model)
    raw = dict(model.named_modules(remove_duplicate=False))
    name = path
    while name not in parts and name not in raw:
        # The names of what wraps the whole model stand at the beginning.
        plain = next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), None)
        if plain is None:
            break
        name = plain
    if name in parts or name in raw:
        return parts[name] if name in parts else raw[name]
    near = difflib.get_close_matches(path, parts, n=4, cutoff=0.5) or [name for name in parts if name][:8]
    raise ValueError(f"{type(base_of(model)).__name__} has no submodule {path!r}; it has {listed(near)}")


def path_of(model: nn.Module, part: nn.Module) -> str | None:
    """Return the path of a module in a model; None if the model does not contain it."""
    return next((path for path, inner in paths(model).items() if inner is part), None)


def joined(*parts: str) -> str:
    """Join parts to a dotted path; empty parts are left out."""
    return ".".join(part for part in parts if part)


def listed(names: Any) -> str:
    """Return names as a list for an error sentence."""
    return ", ".join(repr(name) for name in names) or "none"
