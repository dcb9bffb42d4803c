"""Outputs of several parts: read a part, and make an output of the same type with another part in its place."""

import copy
import dataclasses
from typing import Any

from torch import Tensor

from mag2.plugin.signature import Index

__all__ = ["entries", "pick", "put", "rebuilt"]


def pick(output: Any, item: Index) -> Any:
    """Return the part of an output at a name or a position.

    Raises:
        LookupError: there is none.
    """
    by_name = isinstance(item, str) and not isinstance(output, dict)
    try:
        return getattr(output, str(item)) if by_name else output[item]
    except (KeyError, IndexError, TypeError, AttributeError):
        raise LookupError(item) from None


def put(output: Any, item: Any, part: Tensor) -> Any:
    """Return an output like this one with another part at a name or a position; the given output is not changed."""
    if type(output) is dict:
        return {**output, item: part}
    if isinstance(output, dict):
        changed = copy.copy(output)
        # Outputs of Hugging Face models are dicts that may be read by position as well.
        changed[list(output)[item] if isinstance(item, int) and item not in output else item] = part
        return changed
    if isinstance(item, str):
        return output._replace(**{item: part}) if hasattr(output, "_replace") else _replaced(output, item, part)
    position = range(len(output))[item]
    return rebuilt(output, [part if i == position else value for i, value in enumerate(output)])


def rebuilt(output: Any, values: list) -> Any:
    """Return a list, tuple or named tuple of the type of `output`, with other values."""
    return type(output)(*values) if hasattr(output, "_fields") else type(output)(values)


def entries(output: Any) -> list[Index]:
    """Return the names or positions of the parts of an output; none where it has no parts."""
    if isinstance(output, dict):
        return list(output)
    if hasattr(output, "_fields"):
        return list(output._fields)
    if isinstance(output, (tuple, list)):
        return list(range(len(output)))
    return [field.name for field in dataclasses.fields(output)] if dataclasses.is_dataclass(output) else []


def _replaced(output: Any, item: str, part: Tensor) -> Any:
    changed = copy.copy(output)
    # Frozen dataclasses too: the copy is ours.
    object.__setattr__(changed, item, part)
    return changed
