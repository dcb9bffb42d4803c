"""A plug: something that sits at a place in a model, through forward hooks."""

from typing import Any

from torch import nn

from mag2.nn.modules import uncompiled
from mag2.plugin.places import submodule

__all__ = ["Plug", "occupant", "title"]


class Plug:
    """Something that sits at a place in a model, through forward hooks. Subclasses say which.

    `module` holds what it learns (registered under `model.mag2.guides`), `enabled` is what `disabled` turns off. The
    hooks are bound methods of this plain object, which deepcopy and pickle copy together with the module that it
    calls; a closure would keep pointing at the original.
    """

    def __init__(self, at: str, module: nn.Module):
        self.at, self.module, self.enabled = at, module, True
        self.handles: list[Any] = []

    @property
    def config(self) -> dict[str, Any]:
        """What it was built with beside its place and its module, for JSON."""
        return {}

    @classmethod
    def from_config(cls, at: str, module: nn.Module, config: dict[str, Any]) -> "Plug":
        """The plug that `config` describes."""
        return cls(at, module, **config)

    @property
    def spot(self) -> tuple:
        """What of the module at its path it takes: only one plug may."""
        return (type(self),)

    def check(self, model: nn.Module) -> None:
        """Raise a ValueError where the plug cannot sit in the model, which is not touched."""
        submodule(model, self.at)

    def hooks(self, model: nn.Module) -> list[Any]:
        """Hook into the model; returns the handles of the hooks."""
        raise NotImplementedError

    def insert(self, model: nn.Module) -> None:
        """Take the place in the model."""
        self.handles = self.hooks(model)

    def remove(self, model: nn.Module) -> None:
        """Leave the model as `insert` found it."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def switch(self, model: nn.Module, on: bool) -> None:
        """Turn the plug on or off in the model that it was inserted into."""
        self.enabled = on

    def describe(self, at: str) -> str:
        """In words, seen from a module from which the path to the place is `at`."""
        return f"{title(self.module)} at {at or 'the model itself'!r}"

    def __repr__(self) -> str:
        return self.describe(self.at)


def occupant(model: nn.Module, plug: Plug) -> Plug | None:
    """The plug that sits at the place of this one already, whichever module it was attached to."""
    target = submodule(model, plug.at)
    for hook in (*target._forward_hooks.values(), *target._forward_pre_hooks.values()):
        owner = getattr(hook, "__self__", None)
        if isinstance(owner, Plug) and owner.spot == plug.spot:
            return owner
    return None


def title(module: nn.Module) -> str:
    """The name of a guide: its own `name`, or that of its class."""
    module = uncompiled(module)
    name = getattr(module, "name", None)
    return name if isinstance(name, str) else type(module).__name__
