"""Reading released weights: wrapper prefixes stripped, sizes counted, every key and shape accounted for."""

from collections.abc import Mapping

from torch import Tensor, nn


def without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by their plain names, without what DDP (``module.``) and torch.compile (``_orig_mod.``) add."""
    plain = {}
    for key, value in state_dict.items():
        while key.startswith(("module.", "_orig_mod.")):
            key = key.partition(".")[2]
        plain[key] = value
    return plain


def need(weights: Mapping[str, Tensor], key: str) -> Tensor:
    """The weight of that name; a ValueError where a size cannot be read because it is missing."""
    if key not in weights:
        raise ValueError(f"the state dict has no {key}; give the state_dict of the released model itself")
    return weights[key]


def count_layers(weights: Mapping[str, Tensor], stack: str) -> int:
    """How many layers the released stack of that name has; one at least, so that what it lacks is reported by key."""
    prefix = f"{stack}.layers."
    return max((int(key[len(prefix) :].split(".")[0]) for key in weights if key.startswith(prefix)), default=0) + 1


def load_strictly(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights that must fit in every key and shape.

    Raises:
        ValueError: naming the keys that are missing, unexpected or of another shape.
    """
    own = model.state_dict()
    faults = {
        "missing": own.keys() - weights.keys(),
        "unexpected": weights.keys() - own.keys(),
        "of another shape": {k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape},
    }
    found = [f"{what}: {_listed(keys)}" for what, keys in faults.items() if keys]
    if found:
        raise ValueError(f"the state dict does not fit {type(model).__name__} ({'; '.join(found)})")
    model.load_state_dict(dict(weights))


def _listed(keys: set[str], most: int = 5) -> str:
    shown = ", ".join(sorted(keys)[:most])
    return shown if len(keys) <= most else f"{shown} and {len(keys) - most} more"
