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
    """A trained `ActionGraphGuidance` without texts: constants replace them. `ActionGraphGuidance.fold` makes it.

    In the complete graph a clip depends on the texts through their sum and their number alone. So this module keeps two
    sums, of the text rows that enter layer 1 and layer 2, and the number M of texts.

    Shapes: clips (B, T, d), clip_mask (B, T), True where a clip is real; returns (B, T, d).

    Args:
        dim, hidden, dropout: as in `ActionGraphGuidance`. Weights, sums and M are loaded with the state_dict.

    Raises:
        ValueError: in `forward`: clips or mask of another shape, width or type.
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
        """Guide clips (B, T, d); see the class for shapes and errors."""
        clips = checked_clips(clips, clip_mask, self.dim)
        first = clip_rows(self.conv1, clips, self.text_sum1, self.n_texts, clip_mask)
        first = dropout(first, self.dropout, self.training).relu()
        return clip_rows(self.conv2, first, self.text_sum2, self.n_texts, clip_mask)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build this module again, as plain values for JSON."""
        return {"dim": self.dim, "hidden": self.hidden, "dropout": self.dropout}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FoldedGuidance":
        """Build the module that `config` describes; load weights, sums and M afterwards."""
        return cls(**config)

    # The sums are of no use without their count: M travels with the state, and stays a Python number for `T - 1 + M`.
    def get_extra_state(self) -> Tensor:
        """M as an entry of the state_dict."""
        return torch.tensor(self.n_texts)

    def set_extra_state(self, state: Tensor) -> None:
        """Set M from an entry of a state_dict."""
        self.n_texts = int(state)

    def extra_repr(self) -> str:
        """Sizes, for print(model)."""
        return f"dim={self.dim}, hidden={self.hidden}, dropout={self.dropout}, n_texts={self.n_texts}"
