"""A guide that changes nothing at the start of training."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mag2.nn.linear import Linear
from mag2.nn.modules import first_floating
from mag2.plugin.signature import accepts, n_texts_of, refusal, title

__all__ = ["IdentityStart", "around"]


class IdentityStart(nn.Module):
    """Wrap a guide so that it changes nothing at the start of training: ``clips + W guide(clips) + b``.

    W and b are learned and start at zeros. ``attach(..., start="identity")`` uses it.

    Shapes: clips (B, T, d); returns (B, T, d).

    Args:
        guide: maps clips (B, T, d) to clips (B, T, d), and has an attribute `dim`, d.

    Raises:
        ValueError: the guide has no whole number `dim`.
    """

    def __init__(self, guide: nn.Module):
        super().__init__()
        dim = getattr(guide, "dim", None)
        if not isinstance(dim, int):
            raise ValueError(f"start='identity' wants the width of the guide; give {type(guide).__name__} a `dim`")
        self.dim, self.guide = dim, guide
        self.out = Linear(dim, dim)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)
        like = first_floating(guide)
        if like is not None:
            self.out.to(like.device, like.dtype)

    def forward(self, clips: Tensor, **arguments: Tensor) -> Tensor:
        """Return clips (B, T, d) plus the mapped output of the guide, which gets `arguments` (mask, edge weights)."""
        return clips + self.out(self.guide(clips, **arguments))

    @property
    def accepts(self) -> frozenset[str]:
        """Arguments that the guide accepts besides the clips: "clip_mask", "edge_weight"."""
        return frozenset(name for name in ("clip_mask", "edge_weight") if accepts(self.guide, name))

    @property
    def refuses(self) -> Mapping[str, str]:
        """Arguments that the guide refuses, with the reason."""
        why = refusal(self.guide, "edge_weight")
        return {} if why is None else {"edge_weight": why}

    @property
    def n_texts(self) -> int | None:
        """The number of texts of the guide; None where each call gives its own."""
        return n_texts_of(self.guide)

    @property
    def title(self) -> str:
        """Name in lists of what is attached: that of the guide."""
        return title(self.guide)

    @property
    def config(self) -> dict[str, Any]:
        """The guide, from which `from_config` builds this module again."""
        return {"guide": self.guide}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "IdentityStart":
        """Build the module around the guide in `config`."""
        return cls(config["guide"])


def around(guides: list[nn.Module]) -> list[nn.Module]:
    """The guides, each to start as the identity; one that stands twice in the list is one again."""
    started = {guide: IdentityStart(guide) for guide in dict.fromkeys(guides)}
    return [started[guide] for guide in guides]
