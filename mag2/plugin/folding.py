"""Fold every guide of a model."""

from typing import Any

from torch import nn

from mag2.guidance import ActionGraphGuidance
from mag2.plugin.attaching import forget_compiled
from mag2.plugin.wrappers import base_of

__all__ = ["fold"]


def fold(model: nn.Module) -> nn.Module:
    """Replace every `ActionGraphGuidance` in a model by its folded copy, which needs no texts.

    The model is changed in place and returned; `detach` still removes folded guides. If one guide cannot be folded, the
    model is not changed. A module with a `fold` of its own (`ActionGraphGuidance`, `MLAVL`) is not changed: its folded
    copy is returned.

    Raises:
        ValueError: there is no `ActionGraphGuidance`; or one owns no texts, has another convolution than "sage", or the
            control "no_edges".
    """
    inner: Any = base_of(model)
    if hasattr(inner, "fold"):
        return inner.fold()
    folded = {part: part.fold() for part in inner.modules() if isinstance(part, ActionGraphGuidance)}
    if not folded:
        raise ValueError(f"{type(inner).__name__} has no ActionGraphGuidance to fold")
    for parent in list(inner.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ActionGraphGuidance):
                setattr(parent, name, folded[child])
    forget_compiled()
    return model
