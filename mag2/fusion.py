"""AVCF, audio-visual cross-modal fusion, and the designs that Table 3 compares it with."""

from typing import Any

import torch
from torch import Tensor, nn

from mag2.nn.masks import blanked, check_some_real, checked_mask
from mag2.nn.transformer import DecoderLayer
from mag2.projection import TokenProjection

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
    """Fuse audio into visual clips: a global decoder over all clips plus a clip-wise mixture (supplement, AVCF).

    Global: a transformer decoder whose queries are the visual and whose memory the audio clips. Clip-wise:
    [visual; audio] of the same moment through 1x1 conv 2d -> d, BN, ReLU, 1x1 conv d -> d, BN. The output is their
    sum.

    Shapes: visual (B, T, d), audio (B, T, d) -> (B, T, d).

    Args:
        dim: d, 256 (released).
        n_heads: 8 (supplement).
        n_layers: 2 decoder layers (released), post-norm, feed-forward 3d, with a last LayerNorm.
        dropout: 0.3 (released training command).

    Raises:
        ValueError: visual and audio differ in shape; a mask of another shape or type, or without a real clip.
    """

    def __init__(self, dim: int = 256, *, n_heads: int = 8, n_layers: int = 2, dropout: float = 0.3):
        super().__init__()
        self.decoder = make_decoder(dim, n_heads, n_layers, dropout)
        self.clip_wise = ClipWiseFusion(dim)

    def forward(self, visual: Tensor, audio: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Fuse; `clip_mask` (B, T) is True where a clip is real."""
        visual, audio = _checked_pair(visual, audio, clip_mask)
        return self.decoder(visual, audio, **_masks(clip_mask)) + self.clip_wise(visual, audio, clip_mask)


class ClipWiseFusion(nn.Module):
    """The clip-wise half of AVCF: video and audio of the same clip, mixed by a two-layer projection.

    A `TokenProjection` of the pair: 2d -> d, BN, ReLU, d -> d, BN.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.mix = TokenProjection(2 * dim, dim)

    def forward(self, visual: Tensor, audio: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """(B, T, d) and (B, T, d) -> (B, T, d)."""
        return self.mix(torch.cat([visual, audio], dim=-1), clip_mask)


class DecoderFusion(nn.Module):
    """Table 3 (a): the global decoder alone, visual queries over audio memory. Shapes as `AudioVisualFusion`."""

    def __init__(self, dim: int = 256, *, n_heads: int = 8, n_layers: int = 2, dropout: float = 0.3):
        super().__init__()
        self.decoder = make_decoder(dim, n_heads, n_layers, dropout)

    def forward(self, visual: Tensor, audio: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Fuse."""
        visual, audio = _checked_pair(visual, audio, clip_mask)
        return self.decoder(visual, audio, **_masks(clip_mask))


class DualDecoderFusion(nn.Module):
    """Table 3 (b): two decoders, one from visual to audio and one from audio to visual, summed.

    The paper names the design only; the sum is our reading. Shapes as `AudioVisualFusion`.
    """

    def __init__(self, dim: int = 256, *, n_heads: int = 8, n_layers: int = 2, dropout: float = 0.3):
        super().__init__()
        self.visual_decoder = make_decoder(dim, n_heads, n_layers, dropout)
        self.audio_decoder = make_decoder(dim, n_heads, n_layers, dropout)

    def forward(self, visual: Tensor, audio: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Fuse."""
        visual, audio = _checked_pair(visual, audio, clip_mask)
        masks = _masks(clip_mask)
        return self.visual_decoder(visual, audio, **masks) + self.audio_decoder(audio, visual, **masks)


class SharedCrossAttentionFusion(nn.Module):
    """Table 3 (c): one cross-attention, shared by both directions, with residual and norm; the two are summed.

    The paper names the design only; residual, norm and sum are our reading. Shapes as `AudioVisualFusion`.
    """

    def __init__(self, dim: int = 256, *, n_heads: int = 8, n_layers: int = 2, dropout: float = 0.3):
        super().__init__()
        self.attention = nn.ModuleList(
            nn.MultiheadAttention(dim, n_heads, dropout, batch_first=True) for _ in range(n_layers)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(dim) for _ in range(n_layers))

    def forward(self, visual: Tensor, audio: Tensor, clip_mask: Tensor | None = None) -> Tensor:
        """Fuse."""
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
    """The fusion of that name (Table 3): avcf, decoder, dual_decoder or shared_cross_attention.

    Raises:
        ValueError: another name.
    """
    if name not in FUSIONS:
        raise ValueError(f"unknown fusion {name!r}; there are {', '.join(FUSIONS)}")
    return FUSIONS[name](dim, **sizes)


def make_decoder(dim: int, n_heads: int, n_layers: int, dropout: float) -> nn.TransformerDecoder:
    """torch's transformer decoder as the paper uses it: post-norm, ReLU, feed-forward 3d, a last LayerNorm."""
    layer = DecoderLayer(dim, n_heads, 3 * dim, dropout)
    return nn.TransformerDecoder(layer, n_layers, nn.LayerNorm(dim))


def _masks(clip_mask: Tensor | None) -> dict[str, Tensor | None]:
    padding = None if clip_mask is None else ~clip_mask
    return {"tgt_key_padding_mask": padding, "memory_key_padding_mask": padding}


def _checked_pair(visual: Tensor, audio: Tensor, clip_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both, with zeros where the mask is False."""
    if visual.shape != audio.shape:
        raise ValueError(
            f"fusion wants visual and audio of one shape (B, T, d), got {tuple(visual.shape)} and {tuple(audio.shape)}"
        )
    mask = checked_mask(clip_mask, visual.shape[:2])
    check_some_real(mask)
    return blanked(visual, mask), blanked(audio, mask)
