"""M-BERT (Lee et al., "Parameter Efficient Multimodal Transformers for Video Representation Learning", ICLR 2021).

As the comparisons of figure skating scores use it: fusion "late", on features that are extracted already.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.baselines.inputs import at_least_one, sight_and_sound
from mag2.baselines.mbert_layer import EPS, SharedLayer
from mag2.baselines.transformer import one_per_video
from mag2.nn.pretrained import Pretrained, arguments_of
from mag2.nn.state_dicts import check_names, load_strictly, need, without_prefix

FUSIONS = ("late", "mid")
STREAMS = ("visual", "audio")


class Embedding(nn.Module):
    """Turn clips of one modality into tokens: project, normalise, prepend a summary token, add positions, normalise.

    Shapes: (B, T, in_dim) -> (B, 1 + T, d), summary first.
    """

    def __init__(self, in_dim: int, dim: int, n_positions: int, dropout: float):
        super().__init__()
        self.project = nn.Linear(in_dim, dim)
        self.project_norm = nn.LayerNorm(dim, eps=EPS)
        self.summary = nn.Parameter(0.02 * torch.randn(dim))
        self.positions = nn.Parameter(0.02 * torch.randn(n_positions, dim))
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, clips: Tensor) -> Tensor:
        """Return tokens (B, 1 + T, d) of clips (B, T, in_dim)."""
        projected = self.project_norm(self.project(clips))
        tokens = torch.cat([self.summary.expand(len(clips), 1, -1), projected], dim=1)
        return self.dropout(self.norm(tokens + self.positions[: tokens.shape[1]]))


class MBertLate(Pretrained):
    """Encode video and audio in two streams of one BERT, and score from the summary tokens of both.

    Each modality's clips are embedded after a summary token of their own (`Embedding`). Then `n_layers` post-norm
    BERT layers encode them. All layers and both modalities share the weights of one layer except for factors: every
    matrix is ``x -> U Q_m (V_m x / |V_m x|) + b``, where each modality m has its own V_m and orthogonal Q_m
    (`FactorisedMap`).

    Up to the encoded tokens the model equals the released code number for number. No source says how the comparison of
    figure skating scores (Table 6) computed a score from them. Our choice: a sigmoid of a linear map of the two summary
    tokens, trained from scratch by its squared error. (The paper pre-trains on unlabelled video.)

    With ``fusion="mid"`` `n_joint` further layers encode the tokens of both modalities together, as a third stream
    of the same layer with factors of its own. Before that an embedding of the modality is added to the tokens, and they
    are normalised. That the joint stream shares U is from the paper; the addition and the norm are our choice.

    Shapes:
        visual (B, T, visual_dim), audio (B, T, audio_dim), 1 <= T <= max_len; flow is accepted and not used.
        clip_mask (B, T), True where a clip is real; no token attends to the others. Returns a dict:

        - score (B,): in [0, 1];
        - visual_tokens, audio_tokens (B, 1 + T, d): the encoded tokens, summary first.

    Args:
        visual_dim, audio_dim: widths of a clip; 768 and 768, TimeSformer and AST features.
        dim: model width d; 768 (released).
        n_heads: attention heads; 12 (released).
        n_layers: layers of each modality; 6 (released).
        feed_forward: hidden width of the feed-forward part; 4 dim, 3072 (released).
        rank: r of every matrix; 128 (released), or dim where that is less.
        max_len: largest number of clips, for which there are positions; 512, our choice.
        dropout: on the embedded tokens and on the output of each part of a layer; 0.1 (released).
        attention_dropout: on the attention weights; 0.1 (released).
        fusion: "late" (released), or "mid".
        n_joint: joint layers of "mid"; 6 (paper).

    Raises:
        ValueError: in the constructor: a size below 1, dim no multiple of n_heads, or an unknown fusion. In `forward`:
            no audio; clips or mask of another shape; more than `max_len` clips; audio and visual of different length.
    """

    def __init__(
        self,
        *,
        visual_dim: int = 768,
        audio_dim: int = 768,
        dim: int = 768,
        n_heads: int = 12,
        n_layers: int = 6,
        feed_forward: int | None = None,
        rank: int | None = None,
        max_len: int = 512,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        fusion: str = "late",
        n_joint: int = 6,
    ):
        arguments = arguments_of(locals())
        super().__init__()
        self.arguments = arguments
        feed_forward = 4 * dim if feed_forward is None else feed_forward
        rank = min(dim, 128) if rank is None else rank
        sizes = {"dim": dim, "n_heads": n_heads, "feed_forward": feed_forward, "rank": rank}
        at_least_one(**sizes, n_layers=n_layers, max_len=max_len, n_joint=n_joint)
        if dim % n_heads:
            raise ValueError(f"dim {dim} does not divide into {n_heads} heads; give n_heads that divides dim")
        if fusion not in FUSIONS:
            raise ValueError(f"fusion is {fusion!r}; give one of {', '.join(FUSIONS)}")
        self.visual_dim, self.audio_dim, self.max_len = visual_dim, audio_dim, max_len
        self.max_clips = max_len  # what scores whole videos looks up
        self.n_layers, self.n_joint, self.fusion = n_layers, n_joint, fusion
        self.embed_visual = Embedding(visual_dim, dim, max_len + 1, dropout)
        self.embed_audio = Embedding(audio_dim, dim, max_len + 1, dropout)
        n_streams = len(STREAMS) + (fusion == "mid")
        self.layer = SharedLayer(n_streams=n_streams, **sizes, dropout=dropout, attention_dropout=attention_dropout)
        if fusion == "mid":
            self.modalities = nn.Parameter(0.02 * torch.randn(len(STREAMS), 1, dim))
            self.joint_norm = nn.LayerNorm(dim, eps=EPS)
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
        """Score a batch of videos; see the class for shapes and the returned dict."""
        visual, audio = sight_and_sound(self, visual, audio, clip_mask)
        if visual.shape[1] > self.max_len:
            raise ValueError(f"MBertLate got {visual.shape[1]} clips and knows {self.max_len} places; give max_len")
        # The summary token is always there.
        real = None if clip_mask is None else F.pad(clip_mask, (1, 0), value=True)
        tokens = torch.stack([self.embed_visual(visual), self.embed_audio(audio)])  # (2, B, 1 + T, d)
        tokens = self.layer(tokens, self.n_layers, slice(0, 2), real)
        if self.fusion == "mid":
            tokens = self._joined(tokens, real)
        summaries = torch.cat([tokens[0, :, 0], tokens[1, :, 0]], dim=-1)
        score = self.regressor(self.dropout(summaries)).flatten().sigmoid()
        return {"score": score, "visual_tokens": tokens[0], "audio_tokens": tokens[1]}

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Compute the squared error of the score (our choice): ``mse``, equal to ``total``.

        `output` is what `forward` returned, `label` (B,) in [0, 1].

        Raises:
            ValueError: label is not (B,).
        """
        mse = F.mse_loss(output["score"], one_per_video(label, output["score"]))
        return {"total": mse, "mse": mse}

    def _joined(self, tokens: Tensor, real: Tensor | None) -> Tensor:
        """Encode the tokens of both modalities as one sequence, (2, B, S, d) -> the same."""
        marked = tokens + self.modalities[:, None]
        both = self.dropout(self.joint_norm(torch.cat(marked.unbind(), dim=1)))
        both = self.layer(both[None], self.n_joint, slice(2, 3), None if real is None else real.repeat(1, 2))
        return torch.stack(both[0].chunk(2, dim=1))

    @classmethod
    def from_released(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        n_heads: int = 12,
        n_layers: int = 6,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        **sizes: Any,
    ) -> "MBertLate":
        """Load the layers of a released `AVBert` with late fusion, in evaluation mode; the head is newly initialised.

        Keys of other parts, such as the convolutional networks before the layers, are left out with a warning that
        names them.

        Args:
            state_dict: the authors' weights, with or without the prefix ``module.``.
            n_heads, n_layers: must be given where they are not 12 and 6, because the weights do not show them.
            dropout, attention_dropout: used in further training alone.
            sizes: dim, feed_forward, rank, visual_dim, audio_dim; accepted and ignored: the shapes of the weights give
                them.

        Raises:
            ValueError: a key is missing or of another shape, or the checkpoint is of another fusion.
            TypeError: an argument of another name.
        """
        known = ("dim", "feed_forward", "rank", "visual_dim", "audio_dim")
        check_names(sizes, known, "MBertLate.from_released")
        weights = without_prefix(state_dict)
        ours, read = _our_weights(weights)
        left_out = sorted(weights.keys() - read)
        if left_out:
            warnings.warn(
                f"MBertLate left out {len(left_out)} weights that are not of the released trunk, such as {left_out[0]}",
                stacklevel=2,
            )
        dim, visual_dim = ours["embed_visual.project.weight"].shape
        model = cls(
            visual_dim=visual_dim,
            audio_dim=ours["embed_audio.project.weight"].shape[1],
            dim=dim,
            n_heads=n_heads,
            n_layers=n_layers,
            feed_forward=ours["layer.maps.up.shared.bias"].shape[0],
            rank=ours["layer.maps.query.own"].shape[1],
            max_len=ours["embed_visual.positions"].shape[0] - 1,
            dropout=dropout,
            attention_dropout=attention_dropout,
        )
        load_strictly(model, ours | model.regressor.state_dict(prefix="regressor."))
        return model.eval()


_LAYER = "transformer.encoder.albert_layer_groups.0.albert_layers.0."
_MAPS = {
    "query": "attention.factor_query",
    "key": "attention.factor_key",
    "value": "attention.factor_value",
    "out": "attention.factor_dense",
    "up": "factor_ffn",
    "down": "factor_ffn_output",
}


def _our_weights(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
    """The trunk of a released state dict under our keys, and the released keys that were read."""
    if f"{_LAYER}{_MAPS['query']}.ms{len(STREAMS)}_linear.weight" in weights:
        raise ValueError("this checkpoint has factors of a joint stream; only checkpoints of late fusion load")
    ours: dict[str, Tensor] = {}
    read: set[str] = set()

    def get(key: str) -> Tensor:
        read.add(key)
        return need(weights, key)

    def copy(theirs: str, name: str) -> None:
        for kind in ("weight", "bias"):
            ours[f"{name}.{kind}"] = get(f"{theirs}.{kind}")

    for number, stream in enumerate(STREAMS):
        copy(f"{stream}_fc", f"embed_{stream}.project")
        copy(f"{stream}_norm", f"embed_{stream}.project_norm")
        copy(f"single_{stream}_embeddings.LayerNorm", f"embed_{stream}.norm")
        ours[f"embed_{stream}.positions"] = get(f"single_{stream}_embeddings.position_embeddings.weight")
        ours[f"embed_{stream}.summary"] = get("summary_encoding.bos_embeddings.weight")[number]
    copy(f"{_LAYER}attention.LayerNorm", "layer.attention_norm")
    copy(f"{_LAYER}full_layer_layer_norm", "layer.feed_forward_norm")
    for name, theirs in _MAPS.items():
        copy(f"{_LAYER}{theirs}.s_linear", f"layer.maps.{name}.shared")
        own = [get(f"{_LAYER}{theirs}.ms{m}_linear.weight") for m in range(len(STREAMS))]
        ours[f"layer.maps.{name}.own"] = torch.stack(own)
        # Their Q is exp(A - A^T) of the upper triangle, applied as x @ Q; ours of the lower one, applied as Q x.
        skew = [get(f"{_LAYER}{theirs}.orthogonal_ms{m}_linear.A").mT for m in range(len(STREAMS))]
        ours[f"layer.maps.{name}.rotation.parametrizations.weight.original"] = torch.stack(skew)
    return ours, read
