"""Weights by name: prefixes of wrappers stripped, former keys renamed, sizes read off, every key and shape checked."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

__all__ = [
    "accept_former_keys",
    "check_names",
    "count_layers",
    "load_strictly",
    "need",
    "rename_former_keys",
    "without_prefix",
]


def without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by their plain names, without what DDP (``module.``) and torch.compile (``_orig_mod.``) add."""
    plain = {}
    for key, value in state_dict.items():
        while key.startswith(("module.", "_orig_mod.")):
            key = key.partition(".")[2]
        plain[key] = value
    return plain


def check_names(given: Collection[str], known: Collection[str], what: str) -> None:
    """Refuse arguments by names that a call does not know, which would have no effect; what the call is, in words.

    Raises:
        TypeError: as Python does for the arguments of a function, with the names that there are.
    """
    unknown = [name for name in given if name not in known]
    if unknown:
        raise TypeError(f"{what} takes no argument {unknown[0]!r}; there are {', '.join(known)}")


def need(weights: Mapping[str, Tensor], key: str) -> Tensor:
    """The weight of that name; a ValueError where a size cannot be read because it is missing."""
    if key not in weights:
        raise ValueError(f"the state dict has no {key}; give the state_dict of the released model itself")
    return weights[key]


def count_layers(weights: Mapping[str, Tensor], stack: str) -> int:
    """Return the number of layers of a released stack, at least 1, so that missing weights are reported by key."""
    prefix = f"{stack}.layers."
    return max((int(key[len(prefix) :].split(".")[0]) for key in weights if key.startswith(prefix)), default=0) + 1


def load_strictly(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights that must fit in every key and shape. Former keys of the model's parts are renamed first.

    Raises:
        ValueError: naming the keys that are missing, unexpected or of another shape.
    """
    own, present = model.state_dict(), dict(weights)
    for path, part in model.named_modules():
        rename_former_keys(part, present, f"{path}." if path else "")
    faults = {
        "missing": own.keys() - present.keys(),
        "unexpected": present.keys() - own.keys(),
        "of another shape": {k for k in own.keys() & present.keys() if own[k].shape != present[k].shape},
    }
    found = [f"{what}: {_listed(keys)}" for what, keys in faults.items() if keys]
    if found:
        raise ValueError(f"the state dict does not fit {type(model).__name__} ({'; '.join(found)})")
    model.load_state_dict(present)


def accept_former_keys(module: nn.Module, former: Mapping[str, str]) -> None:
    """Let a module load state dicts in which some keys have the names of an earlier version.

    Args:
        module: calls this in its constructor.
        former: former name -> present name, relative to the module; of a weight, or of a part, without a dot at the
            end.
    """
    module.former_keys = dict(former)  # type: ignore[assignment]
    module.register_load_state_dict_pre_hook(rename_former_keys)


def rename_former_keys(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename the former keys of one module in a state dict, in place."""
    former: Mapping[str, str] = getattr(module, "former_keys", {})
    for old, new in former.items():
        for key in [key for key in state_dict if key == prefix + old or key.startswith(f"{prefix}{old}.")]:
            state_dict[f"{prefix}{new}{key[len(prefix) + len(old) :]}"] = state_dict.pop(key)


def _listed(keys: set[str], most: int = 5) -> str:
    shown = ", ".join(sorted(keys)[:most])
    return shown if len(keys) <= most else f"{shown} and {len(keys) - most} more"
