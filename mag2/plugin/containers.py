"""Homes that are an `nn.Sequential` or another container: their plugs are no items of them.

A guided container gets a subclass whose length, items and children are those without the plugs. Computation,
state_dict, `to`, `train` and `apply` reach the plugs as in any other module.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Any

from torch import nn

from mag2.plugin.plug import HOME

__all__ = ["leave_container", "make_container"]

# Methods that change the items by what they find in `_modules`: they run while the plugs are set aside.
_MUTATORS = ("__setitem__", "__delitem__", "insert", "clear", "popitem")
# Methods that show the items.
_READERS = ("__len__", "__iter__", "__contains__", "__getitem__", "keys", "values", "items", "named_children")


def make_container(home: nn.Module) -> None:
    """Exclude the plugs of a module from its items, if it is a container."""
    if isinstance(home, (nn.Sequential, nn.ModuleList, nn.ModuleDict)) and not isinstance(home, _Guided):
        home.__class__ = _guided(type(home))  # type: ignore[arg-type]


def leave_container(home: nn.Module) -> None:
    """Undo `make_container`."""
    if isinstance(home, _Guided):
        home.__class__ = _plain(type(home))


class _Guided(nn.Module):
    """What guided containers add to their class."""

    _plain: type

    @property
    def _items(self) -> dict[str, nn.Module]:
        return {name: part for name, part in self._modules.items() if name != HOME and part is not None}

    def __len__(self) -> int:
        return len(self._modules) - (HOME in self._modules)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """The items alone."""
        return ((name, part) for name, part in super().named_children() if name != HOME)

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        # `to`, `half` and others go over the children, among which plugs do not show.
        if recurse:
            self._modules[HOME]._apply(fn)  # type: ignore[union-attr]
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> "_Guided":
        """Set the mode, of the plugs too."""
        super().train(mode)
        self._modules[HOME].train(mode)  # type: ignore[union-attr]
        return self

    def apply(self, fn: Callable) -> "_Guided":
        """Apply to every part, to those of the plugs too."""
        self._modules[HOME].apply(fn)  # type: ignore[union-attr]
        super().apply(fn)
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made at run time: a copy is made from the plain one.
        state = (
            self.__getstate__() if hasattr(self, "__getstate__") else self.__dict__
        )  # Python 3.10 has no such method
        return _empty, (self._plain,), state


class _GuidedList(_Guided):
    """An `nn.Sequential` or an `nn.ModuleList`."""

    def __iter__(self) -> Iterator[nn.Module]:
        return iter([part for name, part in self._modules.items() if name != HOME and part is not None])

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return list(self._items.values())[index]
        items = list(self._items.items())[index]
        return self._plain(OrderedDict(items) if isinstance(self, nn.Sequential) else [part for _, part in items])


class _GuidedDict(_Guided):
    """An `nn.ModuleDict`."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def keys(self) -> Any:
        """The names of the items."""
        return self._items.keys()

    def values(self) -> Any:
        """The items."""
        return self._items.values()

    def items(self) -> Any:
        """The items by name."""
        return self._items.items()


@cache
def _guided(plain: type) -> type:
    """The subclass of a container class for guided ones."""
    around = _GuidedDict if issubclass(plain, nn.ModuleDict) else _GuidedList
    mutators = {name: _aside(getattr(plain, name)) for name in _MUTATORS if hasattr(plain, name)}
    # What a container of somebody's own does otherwise than torch's stays so.
    torchs = next(cls for cls in plain.__mro__ if cls in (nn.Sequential, nn.ModuleList, nn.ModuleDict))
    own = {name: getattr(plain, name) for name in _READERS if getattr(plain, name, 0) is not getattr(torchs, name, 0)}
    names = {"_plain": plain, "__module__": plain.__module__, "__qualname__": plain.__qualname__}
    return type(plain.__name__, (around, plain), {**mutators, **own, **names})


def _plain(cls: type) -> type:
    """A class without what guided containers add; others may have made a subclass since, as `fully_shard` does."""
    if not issubclass(cls, _Guided):
        return cls
    if "_plain" in vars(cls):
        return cls._plain
    names = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    return type(cls.__name__, tuple(map(_plain, cls.__bases__)), names)


def _empty(plain: type) -> nn.Module:
    """A guided container without a state, for pickle and deepcopy."""
    cls: Any = _guided(plain)
    return cls.__new__(cls)


def _aside(method: Callable) -> Callable:
    """A method of a container, run while its plugs are not in it."""

    @wraps(method)
    def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        plugs = self._modules.pop(HOME)
        try:
            return method(self, *args, **kwargs)
        finally:
            self._modules[HOME] = plugs

    return run
