"""Fold every guide of a model."""

from typing import Any

from torch import nn

from mag2.guidance import ActionGraphGuidance
from mag2.plugin.attaching import forget_compiled
from mag2.plugin.wrappers import base_of

__all__ = ["fold"]


def fold(model: nn.Module) -> nn.Module:
    """Fold every guide of a model, attached or its own; the model is changed in place and returned.

    `detach` still takes folded guides out again. Either all guides fold, or the model stays as it was. A bare guide,
    and a model with a `fold` of its own (`MLAVL`), are not changed: their folded copy is returned.

    Raises:
        ValueError: a guide that does not fold or owns no texts (see `ActionGraphGuidance.fold`), or no guide at all.
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
