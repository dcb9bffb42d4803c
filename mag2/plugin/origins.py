"""Where text features came from: remembered beside the tensors, so that whoever is given rows can say whose they are.

`ActionGraphGuidance(256, texts.visual)` takes a bare tensor. What made it is looked up here by the tensor itself, and
written down when a plug or a model is saved. A tensor computed from another one is another one, of unknown origin.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


@dataclass(frozen=True)
class Origin:
    """The prompts of text features, row by row, the sport, and the encoder or file that the features came from."""

    prompts: tuple[str, ...] | None = None
    source: str = "given"
    sport: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"source": self.source, "sport": self.sport, "prompts": self.prompts and list(self.prompts)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Origin":
        """From what `config` gave."""
        prompts = config.get("prompts")
        return cls(None if prompts is None else tuple(prompts), config.get("source", "given"), config.get("sport"))


_origins = WeakTensorKeyDictionary()


def remember(rows: Tensor, origin: Origin) -> None:
    """Note where rows came from; the first note of a tensor stays."""
    _origins.setdefault(rows, origin)


def origin(rows: Tensor) -> Origin:
    """Where rows came from, or `Origin()` where nobody noted it."""
    return _origins.get(rows, Origin())
