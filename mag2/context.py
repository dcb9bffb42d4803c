"""Shared-specific context encoder: one set of weights for the context of every modality."""

import math

import torch
from torch import Tensor, nn

from mag2.nn.masks import blanked, check_some_real, checked_mask
from mag2.nn.transformer import EncoderLayer

__all__ = ["SharedSpecificContextEncoder", "sinusoidal_code"]


class SharedSpecificContextEncoder(nn.Module):
    """A transformer encoder with a residual around the whole: E(x) + x (released code).

    The same module is called on the visual and on the audio clips: its weights are shared, its input is specific.
    Layers are torch's (`mag2.nn.transformer`), post-norm, ReLU, feed-forward 3d, with a last LayerNorm.

    Shapes: (B, T, d) -> (B, T, d); clip_mask (B, T), True where a clip is real.

    Args:
        dim: d, 256 (released).
        n_heads: 8 (supplement).
        n_layers: 1 (released).
        dropout: 0.3 (released training command).
    """

    def __init__(self, dim: int = 256, *, n_heads: int = 8, n_layers: int = 1, dropout: float = 0.3):
        super().__init__()
        layer = EncoderLayer(dim, n_heads, 3 * dim, dropout)
        self.encoder = nn.TransformerEncoder(layer, n_layers, nn.LayerNorm(dim), enable_nested_tensor=False)

    def forward(self, clips: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Add its context to every clip."""
        mask = checked_mask(clip_mask, clips.shape[:2])
        check_some_real(mask)
        clips, padding = blanked(clips, mask), None if mask is None else ~mask
        return self.encoder(clips, src_key_padding_mask=padding) + clips


def sinusoidal_code(length: int, dim: int) -> Tensor:
    """The transformer's fixed position code (length, dim): sine in even columns, cosine in odd ones."""
    position = torch.arange(length)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    code = torch.zeros(length, dim)
    code[:, 0::2] = torch.sin(position * rate)
    code[:, 1::2] = torch.cos(position * rate)[:, : dim // 2]
    return code
