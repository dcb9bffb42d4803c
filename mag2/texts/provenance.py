"""Where text features come from: their prompts, the encoder or file that made them, and the sport."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Provenance", "TextRows", "provenance_of"]


@dataclass(frozen=True)
class Provenance:
    """The prompts of text features, row by row, the encoder or file that made the features, and the sport."""

    prompts: tuple[str, ...] | None = None
    source: str = "given"
    sport: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """Its parts, as JSON has them."""
        return {"source": self.source, "sport": self.sport, "prompts": self.prompts and list(self.prompts)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Provenance":
        """The provenance of a `config`."""
        prompts = config.get("prompts")
        return cls(None if prompts is None else tuple(prompts), config.get("source", "given"), config.get("sport"))


class TextRows(Tensor):
    """Text features (R, D) that carry their provenance, so that ``ActionGraphGuidance(256, texts.visual)`` can save it.

    Copies (`clone`, `detach`) and moves to another device or dtype carry it too. Every other operation returns a plain
    tensor: new values have another origin. Pickles hold a plain tensor.
    """

    provenance: Provenance

    @classmethod
    def of(cls, rows: Tensor, provenance: Provenance) -> "TextRows":
        """The rows, in the same memory, with a provenance."""
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
    """The provenance of text rows; `Provenance()`, source "given", of a plain tensor."""
    return rows.provenance if isinstance(rows, TextRows) else Provenance()
