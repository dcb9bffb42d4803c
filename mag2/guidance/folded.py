"""A trained guide with its texts folded into constants."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mag2.guidance.action_graph import SageLayer, checked_clips, clip_rows
from mag2.nn.dropout import check_probability, dropout
from mag2.nn.pretrained import Pretrained

__all__ = ["FoldedGuidance"]


class FoldedGuidance(Pretrained):
    """A trained `ActionGraphGuidance` with its texts folded into constants; `ActionGraphGuidance.fold` makes it.

    Clips of the complete graph receive nothing of the texts but their sum and their number. So it keeps the sums of the
    rows that enter layer 1 and layer 2, and M.

    Shapes: clips (B, T, d), clip_mask (B, T), True where a clip is real; returns (B, T, d).

    Args:
        dim, hidden, dropout: as in `ActionGraphGuidance`. Weights, sums and M come with the state.

    Raises:
        ValueError: clips or mask of another shape or width.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"clip_mask"})
    refuses: ClassVar[Mapping[str, str]] = {"edge_weight": "of its texts it keeps the sum alone"}

    def __init__(self, dim: int = 256, *, hidden: int | None = None, dropout: float = 0.3):
        super().__init__()
        check_probability(dropout)
        self.dim, self.hidden, self.dropout = dim, hidden or dim // 2, dropout
        self.n_texts = 0
        self.conv1, self.conv2 = SageLayer(dim, self.hidden), SageLayer(self.hidden, dim)
        self.text_sum1: Tensor
        self.text_sum2: Tensor
        self.register_buffer("text_sum1", torch.zeros(dim))
        self.register_buffer("text_sum2", torch.zeros(self.hidden))

    def forward(self, clips: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Guide the clips."""
        clips = checked_clips(clips, clip_mask, self.dim)
        first = clip_rows(self.conv1, clips, self.text_sum1, self.n_texts, clip_mask)
        first = dropout(first, self.dropout, self.training).relu()
        return clip_rows(self.conv2, first, self.text_sum2, self.n_texts, clip_mask)

    @property
    def config(self) -> dict[str, Any]:
        """What builds it again, for JSON."""
        return {"dim": self.dim, "hidden": self.hidden, "dropout": self.dropout}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FoldedGuidance":
        """A guidance to load weights, sums and their number into."""
        return cls(**config)

    # The sums are of no use without their count: M travels with the state, and stays a Python number for `T - 1 + M`.
    def get_extra_state(self) -> Tensor:
        """M, for the state."""
        return torch.tensor(self.n_texts)

    def set_extra_state(self, state: Tensor) -> None:
        """M, from a state."""
        self.n_texts = int(state)

    def extra_repr(self) -> str:
        """Its sizes, for print(model)."""
        return f"dim={self.dim}, hidden={self.hidden}, dropout={self.dropout}, n_texts={self.n_texts}"
