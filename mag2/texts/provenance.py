"""Provenance (origin) of text features: their prompts, the encoder or file that made them, and the sport."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Provenance", "TextRows", "provenance_of"]


@dataclass(frozen=True)
class Provenance:
    """Origin of text features.

    Attributes:
        prompts: the prompt of each row; None where they are not known.
        source: the encoder or file that made the features, in words.
        sport: the sport; None where it is not known.
    """

    prompts: tuple[str, ...] | None = None
    source: str = "given"
    sport: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The attributes as plain values for JSON."""
        return {"source": self.source, "sport": self.sport, "prompts": self.prompts and list(self.prompts)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Provenance":
        """Build the provenance that `config` describes."""
        prompts = config.get("prompts")
        return cls(None if prompts is None else tuple(prompts), config.get("source", "given"), config.get("sport"))


class TextRows(Tensor):
    """A tensor of text features (R, D) with an attribute `provenance`.

    By it ``ActionGraphGuidance(256, texts.visual)`` saves where its texts are from. Copies (`clone`, `detach`) and
    moves to another device or dtype keep the attribute. Every other operation returns a plain tensor, because its
    values have another origin. Pickles hold a plain tensor.
    """

    provenance: Provenance

    @classmethod
    def of(cls, rows: Tensor, provenance: Provenance) -> "TextRows":
        """Return rows (R, D), in the same memory, with a provenance."""
        marked = rows.as_subclass(cls)
        marked.provenance = provenance
        return marked

    @property
    def plain(self) -> Tensor:
        """The same rows as an ordinary tensor."""
        return self.as_subclass(Tensor)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():  # the documented way to call the operation of plain tensors
            result = func(*args, **(kwargs or {}))
            if func in _COPIES and isinstance(args[0], cls):
                return cls.of(result, args[0].provenance)
            return result.as_subclass(Tensor) if type(result) is cls and func not in _IN_PLACE else result

    def __deepcopy__(self, memo: dict[int, Any]) -> "TextRows":
        return type(self).of(copy.deepcopy(self.plain, memo), self.provenance)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.plain.__reduce_ex__(protocol)


# Operations that return the same numbers, and those that return the tensor itself.
_COPIES: frozenset[Any] = frozenset(
    getattr(Tensor, name)
    for name in ("clone", "detach", "contiguous", "to", "cpu", "cuda", "float", "double", "half", "bfloat16")
) | {torch.clone, torch.detach}
_IN_PLACE: frozenset[Any] = frozenset(
    getattr(Tensor, name) for name in ("requires_grad_", "detach_", "share_memory_", "pin_memory")
)


def provenance_of(rows: Tensor) -> Provenance:
    """Return the provenance of text rows (R, D); for a plain tensor an empty one, of source "given"."""
    return rows.provenance if isinstance(rows, TextRows) else Provenance()
