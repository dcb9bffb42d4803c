"""Register a plug in its home, and remove it."""

import copy
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mag2.plugin.containers import leave_container, make_container
from mag2.plugin.plug import HOME, OutsideHook, Plug, Plugs, plugs_in

__all__ = ["move_in", "move_out", "separate", "unhook"]

_TABLES = (
    *("_modules", "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_load_state_dict_pre_hooks"),
)


def move_in(root: nn.Module, plug: Plug) -> None:
    """Register a plug and its hooks in its home, a submodule of the model `root` that it is attached to."""
    home = plug.home(root)
    _follow(plug, home, root)
    plugs = plugs_in(home)
    if plugs is None:
        plugs = Plugs(home).train(home.training)
        # Not add_module: a wrapper that forwards attributes seems to have the name already.
        home._modules[HOME] = plugs
        make_container(home)
    plugs._modules[plug.key] = plug
    plug.root = weakref.ref(root)
    for hook in plug.hooks():
        hook.register(home)
    plug.enter(home, root)


def move_out(home: nn.Module, plug: Plug, root: nn.Module) -> None:
    """Undo `move_in`; nothing happens where the plug is not registered in the home."""
    plugs = plugs_in(home)
    if plugs is None or plugs._modules.get(plug.key) is not plug:
        return
    unhook(home, lambda hook: getattr(hook, "key", None) == plug.key)
    plug.leave(home, root)
    left = {key: other for key, other in plugs._modules.items() if other is not plug}
    if left:
        plugs._modules = left
    else:
        leave_container(home)
        del home._modules[HOME]


def unhook(part: nn.Module, chosen: Callable[[Any], bool]) -> None:
    """Remove the hooks of a module for which `chosen` returns True: those of its call and of loading a state."""
    tables: list[tuple[dict[int, Any], dict[int, bool]]] = [
        (part._forward_hooks, part._forward_hooks_with_kwargs),
        (part._forward_pre_hooks, part._forward_pre_hooks_with_kwargs),
        (part._load_state_dict_pre_hooks, {}),
    ]
    for hooks, names in tables:
        for number, hook in list(hooks.items()):
            hook = getattr(hook, "hook", hook)
            if chosen(hook):
                if isinstance(hook, OutsideHook):
                    hook.undo(part)
                del hooks[number]
                names.pop(number, None)


def separate(base: nn.Module) -> None:
    """Copy the modules between a shallow copy of a model (`copy.copy`) and its plugs.

    A shallow copy shares its submodules with the original. After this, removing plugs from the copy does not change the
    original. Parameters stay shared.
    """
    for name in _TABLES:
        table = base.__dict__[name]
        base.__dict__[name] = type(table)(table)
    for name, part in base._modules.items():
        if isinstance(part, Plugs):
            apart = Plugs(base).train(part.training)
            apart._modules = dict(part._modules)
            base._modules[name] = apart
        elif part is not None and any(isinstance(inner, Plugs) for inner in part.modules()):
            base._modules[name] = copy.copy(part)
            separate(base._modules[name])  # type: ignore[arg-type]


def _follow(plug: Plug, home: nn.Module, root: nn.Module) -> None:
    """Give a guide the mode, the device and the precision of its place; a model may have several of each.

    A guide that is in the model already, at another place, stays as it is.
    """
    plug.train(home.training)
    if any(part is plug.guide for part in root.modules()):
        return
    like = _first_floating(home, root)
    if like is None:
        return
    device = like.device
    if device.type == "meta":
        # Weights of a guide are real: they go where an offloaded module runs, as accelerate's hook says, or stay.
        there = getattr(getattr(home, "_hf_hook", None), "execution_device", None)
        own = _first_floating(plug.guide)
        device = torch.device(there if there is not None else "cpu" if own is None else own.device)
    plug.to(device, like.dtype)


def _first_floating(*modules: nn.Module) -> nn.Parameter | None:
    found = (each for module in modules for each in module.parameters())
    return next((each for each in found if each.dtype.is_floating_point), None)
