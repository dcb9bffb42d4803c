"""The arguments that a module may be called with, and what a guide says of itself."""

import inspect
from typing import Any

from torch import nn

from mag2.nn.modules import uncompiled

__all__ = ["Index", "Signature", "accepts", "n_texts_of", "refusal", "title"]

# An argument or an entry, by name or by position.
Index = int | str


class Signature:
    """The arguments of a module's `forward`: names in their order, names that go by name only, any more of either."""

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
        """Can an argument be there?"""
        if isinstance(index, str):
            return self.any_name or index in (*self.in_order, *self.by_name)
        return index >= 0 and (self.any_number or index < len(self.in_order))


def accepts(guide: nn.Module, name: str) -> bool:
    """Whether a guide accepts an argument beside the clips: "clip_mask" or "edge_weight".

    A guide declares it with an attribute `accepts`, a set of names. Of any other module the signature of its `forward`
    says it: an argument of that name.
    """
    guide = uncompiled(guide)
    declared: Any = getattr(guide, "accepts", None)
    if declared is not None:
        return name in declared
    taken = Signature(guide)
    return name in (*taken.in_order, *taken.by_name) or (name == "clip_mask" and taken.any_name)


def refusal(guide: nn.Module, name: str) -> str | None:
    """Why a guide refuses an argument that its kind usually accepts, as its attribute `refuses` declares; or None."""
    declared: Any = getattr(uncompiled(guide), "refuses", {})
    return declared.get(name)


def n_texts_of(guide: nn.Module) -> int | None:
    """How many texts the edge weights of a guide are for, as its attribute `n_texts` declares; None for any number."""
    return getattr(uncompiled(guide), "n_texts", None)


def title(guide: nn.Module) -> str:
    """What a guide is called in sentences: its own `title`, or the name of its class."""
    guide = uncompiled(guide)
    own = getattr(guide, "title", None)
    return own if isinstance(own, str) else type(guide).__name__
