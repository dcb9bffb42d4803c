"""Build a module from a `config.json`: every value is checked before anything is built or allocated for it."""

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from mag2.saving.allocation_budget import AllocationBudget
from mag2.saving.bounded_json import is_number
from mag2.saving.registry import KINDS, class_of, name_of_class
from mag2.saving.sentences import one_line, shortened

__all__ = ["build_checked", "check_arguments", "check_description", "check_plain", "expected_arguments"]

Built = TypeVar("Built")
MAX_LAYERS = 1000
_STACKS = ("n_layers", "n_joint", "n_context", "n_fusion", "n_grading", "n_encoder", "n_decoder", "depth")
_PLAIN = (int, float, bool, str)


def build_checked(build: Callable[[], Built], cls: type, weights: Mapping[str, Tensor]) -> Built:
    """What `build()` makes, a module of a class, where it takes not far more memory than the weights that it will load.

    The global random state stays as it is: initial weights are replaced by those.

    Raises:
        ValueError: why it could not be built, for the end of a sentence that begins with the file.
    """
    with torch.random.fork_rng(devices=[]), AllocationBudget(weights):
        try:
            return build()
        except Exception as fault:  # a constructor can fail in any way on what it does not expect
            raise ValueError(f"describes a {cls.__name__} that cannot be built: {why_not_built(fault)}") from fault


def check_arguments(cls: type, config: Any) -> None:
    """Refuse arguments that are not of the kinds that the constructor of a class takes.

    Raises:
        ValueError: what is wrong, for the end of a sentence that begins with the file.
    """
    if not isinstance(config, dict):
        raise ValueError(f"has {shortened(config)} where the arguments of {cls.__name__} belong")
    check_plain(config)
    kinds = _kinds_of(cls)
    for name, value in config.items():
        if name in kinds and not any(_is(value, kind) for kind in kinds[name]):
            wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds[name])
            raise ValueError(f"has {shortened(value)} as the {name} of {cls.__name__}; it is {wanted}")


def check_description(description: Any) -> None:
    """`check_arguments` for a module of any kind as `mag2.saving.registry.describe` gives it, and for those inside."""
    if isinstance(description, dict) and description.get("kind") is not None:
        config = description.get("config")
        check_arguments(class_of(description["kind"]), config)
        for part in config.values() if isinstance(config, dict) else ():
            check_description(part)


def expected_arguments(cls: type) -> set[str]:
    """Those that a file always has for a class whose constructor does not name them."""
    named = inspect.signature(_constructor(cls)).parameters.values()
    return set(_kinds_of(cls)) if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in named) else set()


def check_plain(value: Any, name: str = "a value") -> None:
    """Refuse numbers that no argument can have: not finite, a whole number below 0 or above 31 bits, a dropout above 1.

    Lists and objects are checked recursively. A seed may have 64 bits.

    Raises:
        ValueError: naming it, for the end of a sentence.
    """
    if isinstance(value, dict):
        for key, part in value.items():
            check_plain(part, str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            check_plain(part, name)
    elif is_number(value):
        seed = name.endswith("seed")
        if not math.isfinite(value) or not (-(2**63) if seed else -(2**31)) <= value < (2**64 if seed else 2**31):
            raise ValueError(f"has {shortened(value)} as the {one_line(name):.40}")
        if isinstance(value, int) and value < 0 and not seed:
            raise ValueError(f"has {value} as the {one_line(name):.40}; it is not below 0")
        if name in _STACKS and value > MAX_LAYERS:  # weights that layers share say nothing of their number
            raise ValueError(f"has {value} as the {name}; that is {MAX_LAYERS:,} layers at most")
        if name.endswith("dropout") and not 0 <= value <= 1:
            raise ValueError(f"has {value} as the {one_line(name):.40}; a dropout is from 0 to 1")


def why_not_built(fault: Exception) -> str:
    """The reason of a constructor, in one line."""
    line = one_line(str(fault).strip().partition("\n")[0])
    return f"{line} is missing" if isinstance(fault, KeyError) else line or "it takes other values"


def _kinds_of(cls: type) -> dict[str, tuple[type, ...]]:
    """Of each argument of a constructor that takes plain values alone, their kinds."""
    parameters = inspect.signature(_constructor(cls)).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        like = (name_of_class(cls) or "").removeprefix("folded_")  # it takes the arguments of what it was folded from
        return _kinds_of(class_of(like)) if like in KINDS and class_of(like) is not cls else {}
    found = {}
    for name, hint in get_type_hints(_constructor(cls)).items():
        choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        # JSON has one kind of sequence.
        choices = tuple(list if get_origin(kind) in (Sequence, list, tuple) else kind for kind in choices)
        known = tuple(kind for kind in choices if kind in _PLAIN or kind in (list, type(None)))
        # What is no plain value in a constructor (a function, a tensor) is never in a file.
        if name != "return" and set(known) - {type(None)}:
            found[name] = known
    return found


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return is_number(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _constructor(cls: Any) -> Callable[..., None]:
    return cls.__init__
