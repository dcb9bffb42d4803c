"""Checks of features: they are tensors, and rows (R, D) of finite numbers."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["check_feature_rows", "check_floating", "check_tensors"]


def check_feature_rows(rows: Any, what: str) -> None:
    """Refuse rows that are no features, because a mean or product of them would be wrong without an error.

    Args:
        rows: the rows to check; on the meta device only their shape is checked.
        what: the beginning of error sentences, "texts want" for example.

    Raises:
        ValueError: no tensor (R, D) with a row and a column, truth values or complex numbers, NaN or infinity.
    """
    if not isinstance(rows, Tensor) or rows.dim() != 2 or 0 in rows.shape:
        given = f"shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else f"a {type(rows).__name__}"
        hint = "; torch.as_tensor makes one of an array" if hasattr(rows, "__array__") and given[:2] == "a " else ""
        raise ValueError(f"{what} a tensor (M, D) with at least one row and one column, got {given}{hint}")
    if rows.dtype == torch.bool or rows.is_complex():
        raise ValueError(f"{what} real numbers, got {str(rows.dtype).removeprefix('torch.')}")
    if rows.is_floating_point() and not rows.is_meta and not rows.isfinite().all():
        first = int((~rows.isfinite().all(dim=1)).nonzero()[0])
        raise ValueError(f"{what} finite numbers, and row {first} has NaN or infinity")


def check_tensors(**given: Any) -> None:
    """Refuse arrays and lists, and numbers that are not floating point, where features are expected.

    None is left to others.

    Raises:
        ValueError: naming the first that is no tensor, or no floating-point one.
    """
    for name, value in given.items():
        if value is not None and not isinstance(value, Tensor):
            hint = "; torch.from_numpy makes one of an array" if hasattr(value, "__array__") else ""
            raise ValueError(f"{name} is a {type(value).__name__}; give a tensor (videos, clips, width){hint}")
    check_floating(**given)


def check_floating(**given: Tensor | None) -> None:
    """Refuse integers, truth values and complex numbers: no model computes with them.

    Raises:
        ValueError: naming the first.
    """
    for name, value in given.items():
        if value is not None and not value.is_floating_point():
            integer = value.dtype != torch.bool and not value.is_complex()
            advice = f"{name}.float() makes them of integers" if integer else "give real numbers"
            kind = str(value.dtype).removeprefix("torch.")
            raise ValueError(f"{name} is a tensor of {kind}; features are floating-point numbers: {advice}")
