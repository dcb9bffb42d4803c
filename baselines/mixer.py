"""Skating-Mixer (Xia et al., "Skating-Mixer: Long-Term Sport Audio-Visual Modeling with MLPs", AAAI 2023)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.baselines.inputs import at_least_one, sight_and_sound
from mag2.baselines.transformer import one_per_video


class MixerLayer(nn.Module):
    """One MLP along the tokens, one along the channels, each behind a LayerNorm and beside a residual (MLP-Mixer).

    Shapes: (B, n_tokens, dim) -> the same; `n_tokens` is fixed by the weights.
    """

    def __init__(self, n_tokens: int, dim: int, token_mlp: int, channel_mlp: int, dropout: float):
        super().__init__()
        self.token_norm, self.channel_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mix_tokens = mlp(n_tokens, token_mlp, dropout)
        self.mix_channels = mlp(dim, channel_mlp, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix."""
        tokens = tokens + self.mix_tokens(self.token_norm(tokens).transpose(1, 2)).transpose(1, 2)
        return tokens + self.mix_channels(self.channel_norm(tokens))


class MemoryRecurrentUnit(nn.Module):
    """One step through a performance: a segment's clips and sounds are mixed with what is remembered so far.

    Shapes:
        visual, audio (B, S, d), memory (B, R, d); returns the mixed clips (B, 2S, d), visual first, and the memory
        for the next step (B, R, d).
    """

    def __init__(
        self, *, segment: int, n_memory: int, dim: int, n_layers: int, token_mlp: int, channel_mlp: int, dropout: float
    ):
        super().__init__()
        n_tokens = 2 * segment + n_memory
        self.layers = nn.ModuleList(
            [MixerLayer(n_tokens, dim, token_mlp, channel_mlp, dropout) for _ in range(n_layers)]
        )
        # The layers only add: without it, the memory of a long performance would grow from step to step.
        self.norm = nn.LayerNorm(dim)

    def forward(self, visual: Tensor, audio: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a segment with the memory."""
        tokens = torch.cat([visual, audio, memory], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        mixed = self.norm(tokens)
        clips = visual.shape[1] + audio.shape[1]
        return mixed[:, :clips], mixed[:, clips:]


class SkatingMixer(nn.Module):
    """Mix sight, sound and memory by MLPs, segment after segment; score by the memory and by what was mixed.

    The clips are cut into segments of S. In step i one `MemoryRecurrentUnit` mixes the S visual clips, the S audio
    clips and R memory tokens; the memory tokens go on to step i + 1. The score is a sigmoid of a linear map of two
    vectors: the mean of the last memory, and the mean of all mixed clips.

    From the paper, as we know it: an audio-visual model of mixer layers alone (LayerNorm, GELU, residuals), the
    recurrent unit whose memory is mixed with the clips of both modalities, regression of the score. Ours, as the
    details were not at hand: one joint token MLP for all tokens of a step, the LayerNorm before the memory is handed
    on, what the score reads, and every size below. The ratios of the two MLPs are those of MLP-Mixer.

    Shapes:
        visual (B, T, visual_dim), audio (B, T, audio_dim), of any length T from 1; flow is taken, as every model
        takes it, and not read. clip_mask (B, T), True where a clip is real: a padded clip counts as one past the end,
        and a segment without a real clip leaves the memory alone. Returns

        - score (B,): in [0, 1];
        - segments (B, ceil(T / S), d): the mean of each segment's mixed clips; 0 where none is real;
        - memory (B, R, d): what is remembered at the end.

    Args:
        visual_dim, audio_dim: widths of a clip; 768 and 768, TimeSformer and AST features.
        dim: model width d; 256.
        segment: clips a step, S; 8. A last, shorter segment is filled up with zeros.
        n_memory: memory tokens R; 4.
        n_layers: mixer layers of a step; 2.
        token_mlp, channel_mlp: hidden widths of the MLPs; dim / 2 and 4 dim.
        dropout: after each GELU of the mixer layers and before the score; 0.3, the recipe of the MLAVL paper.

    Raises:
        ValueError: no audio; clips of another shape; audio and visual of different length; a size below 1.
    """

    def __init__(
        self,
        *,
        visual_dim: int = 768,
        audio_dim: int = 768,
        dim: int = 256,
        segment: int = 8,
        n_memory: int = 4,
        n_layers: int = 2,
        token_mlp: int | None = None,
        channel_mlp: int | None = None,
        dropout: float = 0.3,
    ):
        super().__init__()
        token_mlp = max(1, dim // 2) if token_mlp is None else token_mlp
        channel_mlp = 4 * dim if channel_mlp is None else channel_mlp
        at_least_one(
            dim=dim,
            segment=segment,
            n_memory=n_memory,
            n_layers=n_layers,
            token_mlp=token_mlp,
            channel_mlp=channel_mlp,
        )
        self.visual_dim, self.audio_dim, self.segment = visual_dim, audio_dim, segment
        self.embed_visual = nn.Sequential(nn.Linear(visual_dim, dim), nn.LayerNorm(dim))
        self.embed_audio = nn.Sequential(nn.Linear(audio_dim, dim), nn.LayerNorm(dim))
        self.memory = nn.Parameter(torch.randn(n_memory, dim))
        self.unit = MemoryRecurrentUnit(
            segment=segment,
            n_memory=n_memory,
            dim=dim,
            n_layers=n_layers,
            token_mlp=token_mlp,
            channel_mlp=channel_mlp,
            dropout=dropout,
        )
        self.regressor = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * dim, 1))

    def forward(
        self,
        visual: Tensor,
        audio: Tensor | None = None,
        flow: Tensor | None = None,
        *,
        clip_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score a batch of videos; see the class for the entries."""
        visual, audio = sight_and_sound(self, visual, audio, clip_mask)
        real = visual.new_ones(visual.shape[:2]) if clip_mask is None else clip_mask.to(visual.dtype)
        sights = self._segments(self.embed_visual(visual) * real[..., None])  # (B, n, S, d)
        sounds = self._segments(self.embed_audio(audio) * real[..., None])
        share = self._segments(real[..., None])  # (B, n, S, 1)
        memory = self.memory.expand(len(visual), -1, -1)
        totals = []
        for i in range(sights.shape[1]):
            mixed, updated = self.unit(sights[:, i], sounds[:, i], memory)
            if clip_mask is not None:
                updated = torch.where(share[:, i].any(dim=1, keepdim=True), updated, memory)
            memory = updated
            totals.append((mixed * share[:, i].repeat(1, 2, 1)).sum(dim=1))
        total = torch.stack(totals, dim=1)  # (B, n, d)
        count = 2 * share.sum(dim=2)  # (B, n, 1)
        pooled = total.sum(dim=1) / count.sum(dim=1).clamp(min=1)
        logit = self.regressor(torch.cat([memory.mean(dim=1), pooled], dim=-1))
        return {"score": logit.flatten().sigmoid(), "segments": total / count.clamp(min=1), "memory": memory}

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """The squared error of the score, ``mse``, which is all of ``total``.

        Raises:
            ValueError: label is not (B,).
        """
        mse = F.mse_loss(output["score"], one_per_video(label, output["score"]))
        return {"total": mse, "mse": mse}

    def _segments(self, clips: Tensor) -> Tensor:
        """(B, T, d) -> (B, ceil(T / S), S, d), filled up with zeros."""
        missing = -clips.shape[1] % self.segment
        return F.pad(clips, (0, 0, 0, missing)).unflatten(1, (-1, self.segment))


def mlp(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """``width -> hidden -> width`` with a GELU between."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))
