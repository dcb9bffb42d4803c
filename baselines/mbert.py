"""M-BERT, late fusion (Lee et al., "Parameter Efficient Multimodal Transformers for Video Representation Learning",
ICLR 2021), as the comparisons of figure skating scores use it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.baselines.inputs import at_least_one, sight_and_sound
from mag2.baselines.transformer import one_per_video

PAPER_RANK = 128
"""The rank at which the decomposed matrices of three transformers count the paper's 4 million parameters."""


class Bert(nn.Module):
    """One transformer: a single layer, applied `n_layers` times, whose matrices are ``U diag(s) V^T``.

    U is the caller's, the same for all transformers; s and V are this transformer's own. Pre-norm layers with GELU,
    and a LayerNorm at the end. No bias on the keys: the soft-max would not see it.

    Shapes:
        tokens (B, S, d); shared as `shared_factors` makes it; real (B, S), True where a token may be listened to;
        returns (B, S, d).
    """

    def __init__(self, *, dim: int, n_heads: int, n_layers: int, feed_forward: int, rank: int, dropout: float):
        super().__init__()
        self.n_heads, self.n_layers = n_heads, n_layers
        shapes = matrix_shapes(dim, feed_forward)
        # The same layer adds to the tokens time and again, and in the same direction: together as much as one would.
        adds = {"out": 1 / n_layers, "down": 1 / n_layers}
        self.scales = nn.ParameterDict({name: torch.full((rank,), adds.get(name, 1.0)) for name in shapes})
        self.factors = nn.ParameterDict(
            {name: torch.randn(width, rank) / width**0.5 for name, (_, width) in shapes.items()}
        )
        self.biases = nn.ParameterDict({name: torch.zeros(out) for name, (out, _) in shapes.items() if name != "key"})
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def matrices(self, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each matrix of the layer, (out, in)."""
        return {name: (shared[name] * self.scales[name]) @ factor.T for name, factor in self.factors.items()}

    def forward(self, tokens: Tensor, shared: Mapping[str, Tensor], real: Tensor | None = None) -> Tensor:
        """Encode."""
        matrices = self.matrices(shared)
        heard = None if real is None else real[:, None, None]  # (B, 1, 1, S), for all heads and queries
        for _ in range(self.n_layers):
            tokens = tokens + self.dropout(self._attend(self.attention_norm(tokens), matrices, heard))
            hidden = F.gelu(self._linear("up", self.feed_forward_norm(tokens), matrices))
            tokens = tokens + self.dropout(self._linear("down", hidden, matrices))
        return self.norm(tokens)

    def _linear(self, name: str, x: Tensor, matrices: Mapping[str, Tensor]) -> Tensor:
        return F.linear(x, matrices[name], self.biases.get(name))

    def _attend(self, x: Tensor, matrices: Mapping[str, Tensor], heard: Tensor | None) -> Tensor:
        query, key, value = (
            self._linear(name, x, matrices).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, h, S, d / h)
            for name in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(query, key, value, heard)
        return self._linear("out", attended.transpose(1, 2).flatten(2), matrices)


class MBertLate(nn.Module):
    """One transformer for sight, one for sound, then a third for the tokens of both; two summary tokens give the score.

    Each modality's clips are projected, get a code of their place and stand behind a learnable summary token; the
    joint transformer hears all 2 (T + 1) encoded tokens, marked by their modality. The score is a sigmoid of a linear
    map of its two summary tokens.

    From the paper, as we know it: the three transformers and their size (6 layers, width 768, 12 heads), summary
    tokens, a code of place; matrices decomposed as ``U diag(s) V^T`` with U shared by all three transformers and s
    and V by the layers of one, which takes their 128 million parameters to some 4 million.
    Ours, as the details of the comparison were not at hand: that "late" means joint layers on separately encoded
    modalities (with ``n_joint=0`` they meet at the score alone); the rank, which is the one that gives 4 million; a
    diagonal s, norms and biases shared by a transformer's layers; pre-norm, which trains without warm-up; the same
    codes of place for both modalities; training for the score from scratch, where the paper pre-trains on
    unlabelled video.

    Shapes:
        visual (B, T, visual_dim), audio (B, T, audio_dim), 1 <= T <= max_len; flow is taken, as every model takes
        it, and not read. clip_mask (B, T), True where a clip is real: no token listens to another. Returns

        - score (B,): in [0, 1];
        - visual_summary, audio_summary (B, d): the summary tokens that the score is read from.

    Args:
        visual_dim, audio_dim: widths of a clip; 768 and 768, TimeSformer and AST features.
        dim: model width d; 768 (paper).
        n_heads: attention heads; 12 (paper).
        n_layers: layers of the visual and of the audio transformer; 6 (paper).
        n_joint: layers of the joint transformer; 6 (paper). 0 leaves it out.
        feed_forward: hidden width of the feed-forward part; 4 dim, as in BERT.
        rank: of every matrix; 128, or dim where that is less.
        max_len: places there are codes for; 512, as in BERT.
        dropout: 0.1, as in BERT: on the tokens and on what a layer adds to them. None on the attention (ours): torch
            has no fused attention with it on a CPU.

    Raises:
        ValueError: no audio; clips of another shape, or too many; audio and visual of different length; a size that
            cannot be built.
    """

    def __init__(
        self,
        *,
        visual_dim: int = 768,
        audio_dim: int = 768,
        dim: int = 768,
        n_heads: int = 12,
        n_layers: int = 6,
        n_joint: int = 6,
        feed_forward: int | None = None,
        rank: int | None = None,
        max_len: int = 512,
        dropout: float = 0.1,
    ):
        super().__init__()
        feed_forward = 4 * dim if feed_forward is None else feed_forward
        rank = min(dim, PAPER_RANK) if rank is None else rank
        at_least_one(dim=dim, n_heads=n_heads, n_layers=n_layers, feed_forward=feed_forward, rank=rank, max_len=max_len)
        if n_joint < 0:
            raise ValueError(f"n_joint is {n_joint}; give 0 for no joint layers, or how many")
        if dim % n_heads:
            raise ValueError(f"dim {dim} does not divide into {n_heads} heads; give n_heads that divides dim")
        self.visual_dim, self.audio_dim, self.max_len = visual_dim, audio_dim, max_len

        def bert(n_layers: int) -> Bert:
            return Bert(
                dim=dim, n_heads=n_heads, n_layers=n_layers, feed_forward=feed_forward, rank=rank, dropout=dropout
            )

        self.shared = shared_factors(dim, feed_forward, rank)
        self.embed_visual, self.embed_audio = nn.Linear(visual_dim, dim), nn.Linear(audio_dim, dim)
        self.summaries = nn.Parameter(0.02 * torch.randn(2, dim))
        self.places = nn.Parameter(0.02 * torch.randn(max_len, dim))
        self.encode_visual, self.encode_audio = bert(n_layers), bert(n_layers)
        self.encode_both = bert(n_joint) if n_joint else None
        self.modalities = nn.Parameter(0.02 * torch.randn(2, 1, dim)) if n_joint else None
        self.dropout = nn.Dropout(dropout)
        self.regressor = nn.Linear(2 * dim, 1)

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
        if visual.shape[1] > self.max_len:
            raise ValueError(f"MBertLate got {visual.shape[1]} clips and knows {self.max_len} places; give max_len")
        # The summary token is always there.
        real = None if clip_mask is None else F.pad(clip_mask, (1, 0), value=True)
        seen = self.encode_visual(self._tokens(self.embed_visual(visual), self.summaries[0]), self.shared, real)
        heard = self.encode_audio(self._tokens(self.embed_audio(audio), self.summaries[1]), self.shared, real)
        if self.encode_both is not None and self.modalities is not None:
            both = torch.cat([seen + self.modalities[0], heard + self.modalities[1]], dim=1)
            both = self.encode_both(both, self.shared, None if real is None else real.repeat(1, 2))
            seen, heard = both.chunk(2, dim=1)
        summaries = torch.cat([seen[:, 0], heard[:, 0]], dim=-1)
        score = self.regressor(self.dropout(summaries)).flatten().sigmoid()
        return {"score": score, "visual_summary": seen[:, 0], "audio_summary": heard[:, 0]}

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """The squared error of the score, ``mse``, which is all of ``total``.

        Raises:
            ValueError: label is not (B,).
        """
        mse = F.mse_loss(output["score"], one_per_video(label, output["score"]))
        return {"total": mse, "mse": mse}

    def _tokens(self, clips: Tensor, summary: Tensor) -> Tensor:
        """(B, T, d) -> (B, T + 1, d): the summary token, then the clips with their places."""
        placed = clips + self.places[: clips.shape[1]]
        return self.dropout(torch.cat([summary.expand(len(clips), 1, -1), placed], dim=1))


def matrix_shapes(dim: int, feed_forward: int) -> dict[str, tuple[int, int]]:
    """The matrices of a layer, (out, in)."""
    attention = dict.fromkeys(("query", "key", "value", "out"), (dim, dim))
    return {**attention, "up": (feed_forward, dim), "down": (dim, feed_forward)}


def shared_factors(dim: int, feed_forward: int, rank: int) -> nn.ParameterDict:
    """U (out, rank) of every matrix: with a scale of 1 and V as `Bert` starts it, entries have variance 1 / in."""
    shapes = matrix_shapes(dim, feed_forward)
    return nn.ParameterDict({name: torch.randn(out, rank) / rank**0.5 for name, (out, _) in shapes.items()})
