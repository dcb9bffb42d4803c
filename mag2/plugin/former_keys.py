"""State dicts of version 0.1, which registered guides at the root: "mag2.guides.0.conv1.lin_l.weight"."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from mag2.nn.state_dicts import rename_former_keys
from mag2.plugin.plug import OutsideHook, Plug

__all__ = ["FormerKeys", "present_names"]


class FormerKeys(OutsideHook):
    """A hook that runs before `load_state_dict` of a model with plugs and renames the keys of version 0.1.

    There guides were numbered in the order in which they were attached; one that was attached twice had one number.
    """

    def __call__(self, model: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Rename the keys of `state_dict` in place; torch calls it."""
        former = f"{prefix}mag2.guides."
        found = [key for key in state_dict if key.startswith(former)]
        if not found:
            return
        names = {plug: name for name, plug in model.named_modules() if isinstance(plug, Plug)}
        plugs = sorted(names, key=lambda plug: plug.order)
        guides = list(dict.fromkeys(plug.guide for plug in plugs))
        for key in found:
            number, _, name = key[len(former) :].partition(".")
            value = state_dict.pop(key)
            if number.isdecimal() and int(number) < len(guides):
                for plug in plugs:
                    if plug.guide is guides[int(number)]:
                        state_dict[f"{prefix}{names[plug]}.guide.{name}"] = value


def present_names(model: nn.Module, names: Sequence[str]) -> list[str]:
    """Return the present names of the entries of a state dict that an earlier version saved, in the same order."""
    state: dict[str, Any] = {name: number for number, name in enumerate(names)}
    for path, part in model.named_modules():
        prefix = f"{path}." if path else ""
        FormerKeys()(part, state, prefix)
        rename_former_keys(part, state, prefix)
    return sorted(state, key=lambda name: state[name])
