"""The arguments that a module may be called with, and the attributes by which a guide declares what it accepts."""

import inspect
from typing import Any

from torch import nn

from mag2.nn.modules import uncompiled

__all__ = ["Index", "Signature", "accepts", "n_texts_of", "refusal", "title"]

# An argument or an entry, by name or by position.
Index = int | str


class Signature:
    """The arguments of a module's `forward`: positional names in order, keyword-only names, `*args` and `**kwargs`."""

    def __init__(self, target: nn.Module):
        try:
            taken = list(inspect.signature(target.forward).parameters.values())
        except (TypeError, ValueError):
            taken = [*inspect.signature(lambda *args, **kwargs: None).parameters.values()]
        kinds = {parameter.kind for parameter in taken}
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.in_order = tuple(parameter.name for parameter in taken if parameter.kind in positional)
        self.by_name = tuple(p.name for p in taken if p.kind is inspect.Parameter.KEYWORD_ONLY)
        self.any_name = inspect.Parameter.VAR_KEYWORD in kinds
        self.any_number = inspect.Parameter.VAR_POSITIONAL in kinds

    def has(self, index: Index) -> bool:
        """Whether `forward` accepts an argument of this name or at this position."""
        if isinstance(index, str):
            return self.any_name or index in (*self.in_order, *self.by_name)
        return index >= 0 and (self.any_number or index < len(self.in_order))


def accepts(guide: nn.Module, name: str) -> bool:
    """Whether a guide accepts an argument besides the clips: "clip_mask" or "edge_weight".

    A guide declares such arguments by an attribute `accepts`, a set of names. For a module without it the signature of
    its `forward` decides.
    """
    guide = uncompiled(guide)
    declared: Any = getattr(guide, "accepts", None)
    if declared is not None:
        return name in declared
    taken = Signature(guide)
    return name in (*taken.in_order, *taken.by_name) or (name == "clip_mask" and taken.any_name)


def refusal(guide: nn.Module, name: str) -> str | None:
    """Return the reason why a guide refuses an argument, from its attribute `refuses`; None if there is none."""
    declared: Any = getattr(uncompiled(guide), "refuses", {})
    return declared.get(name)


def n_texts_of(guide: nn.Module) -> int | None:
    """Return the number of texts that a guide's edge weights are for (its attribute `n_texts`); None for any number."""
    return getattr(uncompiled(guide), "n_texts", None)


def title(guide: nn.Module) -> str:
    """Return the name of a guide for error sentences: its attribute `title`, or the name of its class."""
    guide = uncompiled(guide)
    own = getattr(guide, "title", None)
    return own if isinstance(own, str) else type(guide).__name__
