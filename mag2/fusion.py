"""AVCF, audio-visual cross-modal fusion, and the designs that Table 3 compares it with."""

from typing import Any

import torch
from torch import Tensor, nn

from mag2.nn.feature_rows import check_tensors
from mag2.nn.masks import blanked, check_some_real, checked_mask
from mag2.nn.transformer import DecoderLayer
from mag2.projection import TokenProjection
from mag2.saving.sentences import check_name

__all__ = [
    "FUSIONS",
    "AudioVisualFusion",
    "ClipWiseFusion",
    "DecoderFusion",
    "DualDecoderFusion",
    "SharedCrossAttentionFusion",
    "make_decoder",
    "make_fusion",
]


class AudioVisualFusion(nn.Module):
    """Fuse visual and audio clips: a global decoder over all clips plus a clip-wise mixture (supplement, AVCF).

    Global: a transformer decoder with visual clips as queries and audio clips as memory. Clip-wise: [visual; audio] of
    the same clip through 1x1 conv 2d -> d, BN, ReLU, 1x1 conv d -> d, BN. The output is the sum of both.

    Shapes: visual (B, T, d), audio (B, T, d), clip_mask (B, T), True where a clip is real; returns (B, T, d).

    Args:
        dim: d, 256 (released).
        n_heads: attention heads; 8 (supplement).
        n_layers: decoder layers; 2 (released). They are post-norm, with feed-forward 3d and a last LayerNorm.
        dropout: 0.3 (released training command).

    Raises:
        ValueError: in `forward`: no tensors; visual and audio differ in shape; a mask of another shape or type; a video
            without a real clip in its mask.
    """

    def __init__(self, dim: int = 256, *, n_heads: int = 8, n_layers: int = 2, dropout: float = 0.3):
        super().__init__()
        self.decoder = make_decoder(dim, n_heads, n_layers, dropout)
        self.clip_wise = ClipWiseFusion(dim)

    def forward(self, visual: Tensor, audio: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Fuse visual (B, T, d) and audio (B, T, d); `clip_mask` (B, T) is True where a clip is real."""
        visual, audio = _checked_pair(visual, audio, clip_mask)
        return self.decoder(visual, audio, **_masks(clip_mask)) + self.clip_wise(visual, audio, clip_mask)


class ClipWiseFusion(nn.Module):
    """The clip-wise half of AVCF: visual and audio features of the same clip, joined and projected.

    A `TokenProjection` of the pair: 2d -> d, BN, ReLU, d -> d, BN.

    Shapes: visual (B, T, d), audio (B, T, d), clip_mask (B, T), True where a clip is real; returns (B, T, d).

    Args:
        dim: d.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.mix = TokenProjection(2 * dim, dim)

    def forward(self, visual: Tensor, audio: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Mix visual (B, T, d) and audio (B, T, d) clip by clip; returns (B, T, d)."""
        return self.mix(torch.cat([visual, audio], dim=-1), clip_mask)


class DecoderFusion(nn.Module):
    """Table 3 (a): the global decoder alone, with visual clips as queries and audio clips as memory.

    Shapes, arguments and errors are those of `AudioVisualFusion`.
    """

    def __init__(self, dim: int = 256, *, n_heads: int = 8, n_layers: int = 2, dropout: float = 0.3):
        super().__init__()
        self.decoder = make_decoder(dim, n_heads, n_layers, dropout)

    def forward(self, visual: Tensor, audio: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Fuse visual (B, T, d) and audio (B, T, d); `clip_mask` (B, T) is True where a clip is real."""
        visual, audio = _checked_pair(visual, audio, clip_mask)
        return self.decoder(visual, audio, **_masks(clip_mask))


class DualDecoderFusion(nn.Module):
    """Table 3 (b): the sum of two decoders: visual queries over audio memory, and audio queries over visual memory.

    The paper gives only the name of the design; the sum is our choice. Shapes, arguments and errors are those of
    `AudioVisualFusion`.
    """

    def __init__(self, dim: int = 256, *, n_heads: int = 8, n_layers: int = 2, dropout: float = 0.3):
        super().__init__()
        self.visual_decoder = make_decoder(dim, n_heads, n_layers, dropout)
        self.audio_decoder = make_decoder(dim, n_heads, n_layers, dropout)

    def forward(self, visual: Tensor, audio: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Fuse visual (B, T, d) and audio (B, T, d); `clip_mask` (B, T) is True where a clip is real."""
        visual, audio = _checked_pair(visual, audio, clip_mask)
        masks = _masks(clip_mask)
        return self.visual_decoder(visual, audio, **masks) + self.audio_decoder(audio, visual, **masks)


class SharedCrossAttentionFusion(nn.Module):
    """Table 3 (c): one cross-attention for both directions, with residual and norm; both results are summed.

    The paper gives only the name of the design; residual, norm and sum are our choice. Shapes, arguments and errors are
    those of `AudioVisualFusion`; `n_layers` counts layers of cross-attention.
    """

    def __init__(self, dim: int = 256, *, n_heads: int = 8, n_layers: int = 2, dropout: float = 0.3):
        super().__init__()
        self.attention = nn.ModuleList(
            nn.MultiheadAttention(dim, n_heads, dropout, batch_first=True) for _ in range(n_layers)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(dim) for _ in range(n_layers))

    def forward(self, visual: Tensor, audio: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Fuse visual (B, T, d) and audio (B, T, d); `clip_mask` (B, T) is True where a clip is real."""
        visual, audio = _checked_pair(visual, audio, clip_mask)
        padding = None if clip_mask is None else ~clip_mask
        for attention, norm in zip(self.attention, self.norm, strict=True):
            from_audio, _ = attention(visual, audio, audio, key_padding_mask=padding, need_weights=False)
            from_visual, _ = attention(audio, visual, visual, key_padding_mask=padding, need_weights=False)
            visual, audio = norm(visual + from_audio), norm(audio + from_visual)
        return visual + audio


FUSIONS: dict[str, type[nn.Module]] = {
    "avcf": AudioVisualFusion,
    "decoder": DecoderFusion,
    "dual_decoder": DualDecoderFusion,
    "shared_cross_attention": SharedCrossAttentionFusion,
}


def make_fusion(name: str, dim: int = 256, **sizes: Any) -> nn.Module:
    """Build a fusion of Table 3 by its name.

    Args:
        name: "avcf", "decoder", "dual_decoder" or "shared_cross_attention".
        dim: d, 256 (released).
        sizes: n_heads, n_layers and dropout, as in `AudioVisualFusion`.

    Returns:
        The module, called as ``fusion(visual, audio, clip_mask)``.

    Raises:
        ValueError: an unknown name.
    """
    check_name("fusion", name, FUSIONS)
    return FUSIONS[name](dim, **sizes)


def make_decoder(dim: int, n_heads: int, n_layers: int, dropout: float) -> nn.TransformerDecoder:
    """Build the transformer decoder of the paper: post-norm, ReLU, feed-forward 3d, a last LayerNorm.

    It is torch's `nn.TransformerDecoder`: queries (B, K, d) and memory (B, T, d) -> (B, K, d).

    Args:
        dim: d.
        n_heads: attention heads.
        n_layers: layers.
        dropout: probability of dropout in every layer.
    """
    layer = DecoderLayer(dim, n_heads, 3 * dim, dropout)
    return nn.TransformerDecoder(layer, n_layers, nn.LayerNorm(dim))


def _masks(clip_mask: Tensor | None) -> dict[str, Tensor | None]:
    padding = None if clip_mask is None else ~clip_mask
    return {"tgt_key_padding_mask": padding, "memory_key_padding_mask": padding}


def _checked_pair(visual: Tensor, audio: Tensor, clip_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both, with zeros where the mask is False."""
    check_tensors(visual=visual, audio=audio)
    if visual.shape != audio.shape:
        raise ValueError(
            f"fusion wants visual and audio of one shape (B, T, d), got {tuple(visual.shape)} and {tuple(audio.shape)}"
        )
    mask = checked_mask(clip_mask, visual.shape[:2])
    check_some_real(mask)
    return blanked(visual, mask), blanked(audio, mask)
