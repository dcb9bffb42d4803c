"""The designs of Table 1: the action graph, and what the paper compares it with."""

import torch
from torch import Tensor, nn

from mag2.guidance.graph import ActionGraphGuidance
from mag2.nn.feature_rows import check_floating
from mag2.nn.masks import blanked, checked_mask
from mag2.saving.sentences import check_name

__all__ = ["GUIDES", "MLPGuidance", "TransformerGuidance", "make_guides"]


class MLPGuidance(nn.Module):
    """Table 1, "MLP": two linear maps of each clip joined with the mean of all texts, with ReLU between.

    The paper gives only the name of the design. Our choice: 2d -> d, ReLU, dropout, d -> d. In the complete graph, too,
    a clip receives the mean of the texts.

    Shapes: clips (B, T, d), texts (M, d) -> (B, T, d).

    Args:
        dim: d, 256 (released).
        n_heads: not used; every design accepts it.
        dropout: 0.3 (released training command).

    Raises:
        ValueError: in `forward`: clips, texts or mask of another shape, width or type.
    """

    def __init__(self, dim: int = 256, *, n_heads: int = 8, dropout: float = 0.3):
        super().__init__()
        self.dim = dim
        self.mix = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim))

    def forward(self, clips: Tensor, texts: Tensor, *, clip_mask: Tensor | None = None) -> Tensor:
        """Guide clips (B, T, d) by texts (M, d).

        `clip_mask` (B, T) is True where a clip is real. No clip receives from another one, so the mask changes no real
        clip.
        """
        _check(clips, texts, self.dim)
        clips = blanked(clips, checked_mask(clip_mask, clips.shape[:2]))  # 0 * nan is nan in a gradient
        return self.mix(torch.cat([clips, texts.mean(dim=0).expand_as(clips)], dim=-1))


class TransformerGuidance(nn.Module):
    """Table 1, "Shared-Transformer" and "Dual-Transformer": clips and texts as one sequence of an encoder.

    Every clip attends to every clip, itself included, and to every text. Only the clip rows are the output, so texts
    attend to nothing. "Shared" is one module for both modalities, "Dual" one for each (`make_guides`).

    The paper gives only the names of the designs, and 1.20 M parameters and 0.59 G operations for the dual one. Our
    choice is one layer of the form of the context encoder: post-norm, ReLU, feed-forward 3d, a last LayerNorm.

    Shapes: clips (B, T, d), texts (M, d), clip_mask (B, T), True where a clip is real; returns (B, T, d).

    Args:
        dim: d, 256 (released).
        n_heads: attention heads; 8 (supplement).
        dropout: 0.3 (released training command).

    Raises:
        ValueError: in `forward`: clips, texts or mask of another shape, width or type.
    """

    def __init__(self, dim: int = 256, *, n_heads: int = 8, dropout: float = 0.3):
        super().__init__()
        self.dim = dim
        self.attention = nn.MultiheadAttention(dim, n_heads, dropout, batch_first=True)
        self.widen, self.narrow = nn.Linear(dim, 3 * dim), nn.Linear(3 * dim, dim)
        self.norm1, self.norm2, self.last = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, clips: Tensor, texts: Tensor, *, clip_mask: Tensor | None = None) -> Tensor:
        """Guide clips (B, T, d) by texts (M, d); see the class for shapes."""
        _check(clips, texts, self.dim)
        clips = blanked(clips, checked_mask(clip_mask, clips.shape[:2]))
        keys = torch.cat([clips, texts.expand(len(clips), *texts.shape)], dim=1)
        padding = None
        if clip_mask is not None:
            padding = torch.cat([~clip_mask, clip_mask.new_zeros(len(clips), len(texts))], dim=1)
        attended, _ = self.attention(clips, keys, keys, key_padding_mask=padding, need_weights=False)
        rows = self.norm1(clips + self.dropout(attended))
        widened = self.dropout(self.widen(rows).relu())
        return self.last(self.norm2(rows + self.dropout(self.narrow(widened))))


GUIDES: dict[str, type[nn.Module]] = {
    "graph": ActionGraphGuidance,
    "mlp": MLPGuidance,
    "shared_transformer": TransformerGuidance,
    "dual_transformer": TransformerGuidance,
}


def make_guides(
    name: str,
    dim: int = 256,
    *,
    n_heads: int = 8,
    dropout: float = 0.3,
    control: str | None = None,
    control_seed: int = 0,
) -> tuple[nn.Module, nn.Module | None]:
    """Build the guides of the visual and of the audio clips for a design of Table 1.

    Each is called as ``guide(clips, texts, clip_mask=)``, with clips (B, T, d) and texts (M, d).

    Args:
        name: "graph" (the paper's), "mlp", "shared_transformer" or "dual_transformer".
        dim: d, 256 (released).
        n_heads: attention heads of a transformer; 8 (supplement).
        dropout: 0.3 (released training command).
        control, control_seed: for "graph" alone, as in `ActionGraphGuidance`. The audio guide uses `control_seed` + 1.

    Returns:
        The guide of the visual clips, and that of the audio clips: None where the first guides both
        ("shared_transformer").

    Raises:
        ValueError: an unknown name, or a control with another design than "graph".
    """
    check_name("guidance", name, GUIDES)
    if name == "graph":
        visual = ActionGraphGuidance(dim, dropout=dropout, control=control, control_seed=control_seed)
        return visual, ActionGraphGuidance(dim, dropout=dropout, control=control, control_seed=control_seed + 1)
    if control is not None:
        raise ValueError(f"control {control!r} is for the graph; {name} has none")
    sizes = {"n_heads": n_heads, "dropout": dropout}
    return GUIDES[name](dim, **sizes), None if name == "shared_transformer" else GUIDES[name](dim, **sizes)


def _check(clips: Tensor, texts: Tensor, dim: int) -> None:
    if clips.dim() != 3 or texts.dim() != 2 or clips.shape[-1] != dim or texts.shape[-1] != dim:
        shapes = f"{tuple(clips.shape)} and {tuple(texts.shape)}"
        raise ValueError(f"clips want shape (B, T, {dim}) and texts (M, {dim}), got {shapes}")
    check_floating(clips=clips, texts=texts)
