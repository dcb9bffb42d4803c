"""Shared-specific context encoder: one set of weights for the context of every modality."""

import math

import torch
from torch import Tensor, nn

from mag2.nn.masks import blanked, check_some_real, checked_mask
from mag2.nn.transformer import EncoderLayer

__all__ = ["SharedSpecificContextEncoder", "sinusoidal_code"]


class SharedSpecificContextEncoder(nn.Module):
    """Encode the clips of one modality by a transformer encoder E with a residual: E(x) + x (released code).

    One module with one set of weights is called on the visual and on the audio clips. Its layers are torch's
    (`mag2.nn.transformer`): post-norm, ReLU, feed-forward 3d, with a last LayerNorm.

    Shapes: clips (B, T, d), clip_mask (B, T), True where a clip is real; returns (B, T, d).

    Args:
        dim: d, 256 (released).
        n_heads: attention heads; 8 (supplement).
        n_layers: encoder layers; 1 (released).
        dropout: 0.3 (released training command).

    Raises:
        ValueError: in `forward`: a mask of another shape or type, or a video without a real clip in its mask.
    """

    def __init__(self, dim: int = 256, *, n_heads: int = 8, n_layers: int = 1, dropout: float = 0.3):
        super().__init__()
        layer = EncoderLayer(dim, n_heads, 3 * dim, dropout)
        self.encoder = nn.TransformerEncoder(layer, n_layers, nn.LayerNorm(dim), enable_nested_tensor=False)

    def forward(self, clips: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Add to every clip (B, T, d) its encoding among the other clips."""
        mask = checked_mask(clip_mask, clips.shape[:2])
        check_some_real(mask)
        clips, padding = blanked(clips, mask), None if mask is None else ~mask
        return self.encoder(clips, src_key_padding_mask=padding) + clips


def sinusoidal_code(length: int, dim: int) -> Tensor:
    """Return the fixed position code of transformers (length, dim): sine in even columns, cosine in odd ones."""
    position = torch.arange(length)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    code = torch.zeros(length, dim)
    code[:, 0::2] = torch.sin(position * rate)
    code[:, 1::2] = torch.cos(position * rate)[:, : dim // 2]
    return code
