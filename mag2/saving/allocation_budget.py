"""Bound what a constructor may allocate: sizes that a file gives are refused before memory is taken for them."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mag2.saving.bounded_json import is_number

__all__ = ["AllocationBudget", "OverBudgetError"]

# Operators that make numbers of a size that is among their arguments; others make as many as they are given, broadcast.
_FACTORIES = (
    "empty",
    "empty_strided",
    "zeros",
    "ones",
    "full",
    "rand",
    "randn",
    "randint",
    "eye",
    "arange",
    "linspace",
)
_FREE = 2**22  # numbers that every module may have beside its weights: tables of positions, masks
_FREE_STEPS = 2048


class OverBudgetError(ValueError):
    """A module would take far more memory than its weights."""


class AllocationBudget(TorchDispatchMode):
    """Inside a `with`, tensors may have about as many numbers as the weights that are to be loaded.

    Args:
        weights: that are to be loaded. What is made and thrown away while a module is built counts too.

    Raises:
        OverBudgetError: from the operator that goes beyond, before it runs.
    """

    def __init__(self, weights: Mapping[str, Tensor]):
        super().__init__()
        self.left = 8 * sum(value.numel() for value in weights.values()) + _FREE
        self.steps = 24 * len(weights) + _FREE_STEPS  # layers of few numbers take time alone

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, then run."""
        self._spend(func._schema.name.partition("::")[2], args)
        return func(*args, **(kwargs or {}))

    def _spend(self, name: str, args: Any) -> None:
        if name in _FACTORIES or name.startswith("new_"):
            count = _requested(name, args)
            self.left -= count
        else:
            count = _broadcast(args)
        self.steps -= 1
        if count > self.left or self.left < 0 or self.steps < 0:
            raise OverBudgetError("its sizes are far beyond those of its weights")


def _requested(name: str, args: Any) -> int:
    numbers = [value for value in args if is_number(value)]
    sizes = [value for value in args if isinstance(value, list | tuple)]
    if sizes:
        return math.prod(max(int(size), 0) for size in sizes[0])
    if name == "eye":
        return math.prod(max(int(number), 0) for number in (numbers * 2)[:2])
    return int(max(map(abs, numbers), default=0))  # of a range


def _broadcast(args: Any) -> int:
    shapes = [value.shape for value in args if isinstance(value, Tensor)]
    try:
        return math.prod(torch.broadcast_shapes(*shapes)) if len(shapes) > 1 else 0
    except RuntimeError:  # a product of matrices, or a mistake that the operator reports
        return shapes[0].numel() // max(shapes[0][-1], 1) * shapes[1][-1] if all(map(len, shapes[:2])) else 0
