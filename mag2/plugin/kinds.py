"""What JSON may name: kinds of plugs and modules that are described as plain values and built again from them.

A kind is written as the dotted name of its class. Reading a file runs no code but that of registered classes: other
names are refused, and to look for one only modules of this library are imported.
"""

import contextlib
import importlib
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from torch import nn

_KINDS: dict[str, Any] = {}
_OURS = re.compile(r"mag2(\.[a-z_]\w*)+\.[A-Z]\w*")
Class = TypeVar("Class", bound=type)


def kind(cls: Class) -> Class:
    """Register a class, as a decorator.

    Of a module, the property `config` holds what `from_config` builds it again from: plain values, and modules that
    are of a kind themselves. Of a plug, `config` holds the arguments beside its place and its module.
    """
    _KINDS[_name(cls)] = cls
    return cls


def known(name: Any) -> Any:
    """The registered class of a name.

    Raises:
        ValueError: nothing of that name is registered.
    """
    if isinstance(name, str) and name not in _KINDS and _OURS.fullmatch(name):
        # Kinds register when their module is imported, which need not have happened.
        with contextlib.suppress(ImportError):
            importlib.import_module(name.rpartition(".")[0])
    if not isinstance(name, str) or name not in _KINDS:
        raise ValueError(f"unknown kind {name!r}; this version of mag2 knows {', '.join(sorted(_KINDS))}")
    return _KINDS[name]


def name_of(value: object) -> str | None:
    """The name under which the class of a value is registered; None where it is not."""
    name = _name(type(value))
    return name if _KINDS.get(name) is type(value) else None


def described(module: nn.Module) -> dict[str, Any]:
    """How a module was built; of one that cannot say so only the name of its class, to ask for it by."""
    inner: Any = uncompiled(module)
    name = name_of(inner)
    config = None if name is None else inner.config
    if config is None:
        return {"kind": None, "class": type(inner).__name__}
    return {"kind": name, "config": {k: described(v) if isinstance(v, nn.Module) else v for k, v in config.items()}}


def build(description: dict[str, Any], given: Iterator[nn.Module]) -> nn.Module:
    """The module that was described; in the place of one that is of no kind the next of those given.

    Raises:
        ValueError: an unknown kind, or none given any more.
    """
    if description["kind"] is None:
        module = next(given, None)
        if module is None:
            raise ValueError(f"a {description['class']} of your own is wanted; build it and give it with guides=[...]")
        return module
    cls = known(description["kind"])
    config = {k: build(v, given) if _is_module(v) else v for k, v in description["config"].items()}
    return cls.from_config(config)


def uncompiled(module: nn.Module) -> nn.Module:
    """The module inside what `torch.compile` returns."""
    return getattr(module, "_orig_mod", module)


def _is_module(value: Any) -> bool:
    return isinstance(value, dict) and "kind" in value


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
