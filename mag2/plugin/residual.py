"""A guide that changes nothing at the start of training."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mag2.nn.modules import first_floating, uncompiled
from mag2.plugin.signature import accepts, n_texts_of, refusal

__all__ = ["Residual"]


class Residual(nn.Module):
    """A guide that starts as the identity: ``clips + W guide(clips) + b`` with W and b of zeros.

    Shapes: clips (B, T, d); returns (B, T, d).

    Raises:
        ValueError: the guide does not say its width as `dim`.
    """

    def __init__(self, guide: nn.Module):
        super().__init__()
        dim = getattr(guide, "dim", None)
        if not isinstance(dim, int):
            raise ValueError(f"start='identity' wants the width of the guide; give {type(guide).__name__} a `dim`")
        self.dim, self.guide = dim, guide
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        like = first_floating(guide)
        if like is not None:
            self.out.to(like.device, like.dtype)

    def forward(self, clips: Tensor, **arguments: Tensor) -> Tensor:
        """Add the mapped output of the guide, which gets the same arguments beside the clips (a mask, edge weights)."""
        return clips + self.out(self.guide(clips, **arguments))

    @property
    def accepts(self) -> frozenset[str]:
        """What its guide accepts beside the clips."""
        return frozenset(name for name in ("clip_mask", "edge_weight") if accepts(self.guide, name))

    @property
    def refuses(self) -> Mapping[str, str]:
        """What its guide refuses, and why."""
        why = refusal(self.guide, "edge_weight")
        return {} if why is None else {"edge_weight": why}

    @property
    def n_texts(self) -> int | None:
        """How many texts its guide has."""
        return n_texts_of(self.guide)

    @property
    def name(self) -> str:
        """For lists of what is attached."""
        inner = uncompiled(self.guide)
        return f"residual {getattr(inner, 'name', type(inner).__name__)}"

    @property
    def config(self) -> dict[str, Any]:
        """The guide; its width is the guide's."""
        return {"guide": self.guide}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Residual":
        """Around a guide."""
        return cls(config["guide"])
