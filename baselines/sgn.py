"""SGN (Du et al., "Learning Semantics-Guided Representations for Scoring Figure Skating", IEEE TMM 2024)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.baselines.inputs import at_least_one, sight_and_sound
from mag2.baselines.transformer import one_per_video
from mag2.nn.feature_rows import check_feature_rows
from mag2.nn.pretrained import Pretrained, arguments_of
from mag2.nn.state_dicts import accept_former_keys

TEMPERATURE = 0.1
"""Of the cosines in the contrast of teacher and student; ours."""


class CrossAttention(nn.Module):
    """Multi-head attention that also returns its weights, before dropout: their mean over the heads sums to 1.

    Shapes:
        queries (B, K, d), memory (B, S, d), real (B, S), True where a row may be attended; returns (B, K, d) and
        (B, K, S). The projection of the keys has no bias: the softmax would cancel it.
    """

    def __init__(self, dim: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Attend."""
        query, key, value = (
            x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, h, rows, d / h)
            for x in (self.query(queries), self.key(memory), self.value(memory))
        )
        logits = query @ key.transpose(2, 3) / key.shape[-1] ** 0.5
        if real is not None:
            logits = logits.masked_fill(~real[:, None, None], -torch.inf)
        attention = logits.softmax(dim=-1)
        attended = self.dropout(attention) @ value
        return self.out(attended.transpose(1, 2).flatten(2)), attention.mean(dim=1)


class AtomLayer(nn.Module):
    """A post-norm decoder layer: the queries attend to each other, then to the clips; feed-forward 3d.

    Shapes: queries (B, K, d), clips (B, T, d), real (B, T) -> the queries (B, K, d) and their attention (B, K, T).
    """

    def __init__(self, dim: int, n_heads: int, dropout: float):
        super().__init__()
        self.self_attention = CrossAttention(dim, n_heads, dropout)
        self.cross_attention = CrossAttention(dim, n_heads, dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, 3 * dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(3 * dim, dim)
        )
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(3)])
        self.dropout = nn.Dropout(dropout)
        accept_former_keys(self, {"hear": "self_attention", "look": "cross_attention"})  # 0.1

    def forward(self, queries: Tensor, clips: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Decode."""
        queries = self.norms[0](queries + self.dropout(self.self_attention(queries, queries)[0]))
        attended, attention = self.cross_attention(queries, clips, real)
        queries = self.norms[1](queries + self.dropout(attended))
        return self.norms[2](queries + self.dropout(self.feed_forward(queries))), attention


class Branch(nn.Module):
    """The part that teacher and student have each: a decoder, and a score from the mean of its atoms.

    Shapes:
        queries (K, d), clips (B, T, d), real (B, T); returns a dict of score (B,), atoms (B, K, d) and attention
        (B, K, T) of the last layer.
    """

    def __init__(self, dim: int, n_heads: int, n_layers: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList([AtomLayer(dim, n_heads, dropout) for _ in range(n_layers)])
        self.regressor = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, 1))

    def forward(self, queries: Tensor, clips: Tensor, real: Tensor | None) -> dict[str, Tensor]:
        """Decode and score."""
        atoms, attention = queries.expand(len(clips), -1, -1), None
        for layer in self.layers:
            atoms, attention = layer(atoms, clips, real)
        score = self.regressor(atoms.mean(dim=1)).flatten().sigmoid()
        return {"score": score, "atoms": atoms, "attention": attention}


class SemanticQueries(nn.Module):
    """The teacher's queries: K learnable queries that attend to the texts.

    Shapes: texts (R, D) -> (K, d).
    """

    def __init__(self, n_atoms: int, text_dim: int, dim: int, n_heads: int, dropout: float):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(n_atoms, dim))
        self.embed = nn.Sequential(nn.Linear(text_dim, dim), nn.LayerNorm(dim))
        self.read = CrossAttention(dim, n_heads, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, texts: Tensor) -> Tensor:
        """Return queries (K, d) that have attended to texts (R, D)."""
        queries = self.queries[None]
        return self.norm(queries + self.read(queries, self.embed(texts)[None])[0])[0]


class SGN(Pretrained):
    """Score performances by a student network that is trained to agree with a teacher network that has texts.

    Both networks decode K vectors, called atoms, from the same encoded clips. The student has learnable queries. The
    teacher's queries are learnable ones that attend to the texts. The training loss compares, besides the scores, the
    student's attention over the clips and its atoms with the teacher's. In evaluation only the student runs, without
    texts.

    From the paper, as far as we know it: a teacher with clips and semantics, a student with learnable atomic queries
    that follows it by attention, three auxiliary losses that align features, the student's score. Our choice, above
    all: the texts. The paper's teacher has the professional commentary of each video, which our datasets do not have;
    here all videos share one set of texts, so the teacher has no information about a video besides its clips. Our
    choice too, because we did not have the details: the projections of the two modalities are added; one post-norm
    layer without positional code encodes them, as in GDLT; the three losses (see `loss`), which train the student and
    not the teacher; and every size below.

    Shapes:
        texts (R, D); visual (B, T, visual_dim), audio (B, T, audio_dim), any T from 1; flow is accepted, as by every
        model, and not used. clip_mask (B, T), True where a clip is real; each video has at least one. Returns a dict:

        - score (B,): the student's, in [0, 1];
        - atoms (B, K, d): the student's atoms;
        - attention (B, K, T): attention of each atom over the clips, of sum 1;
        - teacher_score, teacher_atoms, teacher_attention: the same of the teacher; in training mode only.

    Args:
        texts: (R, D) text features, kept as the buffer ``texts``; they are not trained.
        visual_dim, audio_dim: widths of a clip; 768 and 768, TimeSformer and AST features.
        dim: model width d; 256 (our choice).
        n_heads: attention heads; 4 (our choice).
        n_layers: layers of each decoder; 2 (our choice).
        n_atoms: number K of atoms; 16 (our choice).
        dropout: 0.3, the recipe of the MLAVL paper.
        attention_weight, feature_weight, contrast_weight: weights of the three losses besides the scores; 0.1, 0.1 and
            0.01 (our choice), so that they do not dominate the squared errors of the scores, which are some hundredths.

    Raises:
        ValueError: in the constructor: texts that are not (R, D), or a size that cannot be built. In `forward`: no
            audio; clips or mask of another shape; audio and visual of different length.
    """

    texts: Tensor

    def __init__(
        self,
        texts: Tensor,
        *,
        visual_dim: int = 768,
        audio_dim: int = 768,
        dim: int = 256,
        n_heads: int = 4,
        n_layers: int = 2,
        n_atoms: int = 16,
        dropout: float = 0.3,
        attention_weight: float = 0.1,
        feature_weight: float = 0.1,
        contrast_weight: float = 0.01,
    ):
        check_feature_rows(texts, "SGN's texts want")
        arguments = arguments_of(locals()) | {"texts": list(texts.shape)}
        super().__init__()
        self.arguments = arguments
        at_least_one(dim=dim, n_heads=n_heads, n_layers=n_layers, n_atoms=n_atoms)
        if dim % n_heads:
            raise ValueError(f"dim {dim} does not divide into {n_heads} heads; give n_heads that divides dim")
        self.visual_dim, self.audio_dim = visual_dim, audio_dim
        self.attention_weight, self.feature_weight = attention_weight, feature_weight
        self.contrast_weight = contrast_weight
        self.register_buffer("texts", texts.detach().clone().to(torch.get_default_dtype()))
        self.embed_visual, self.embed_audio = nn.Linear(visual_dim, dim), nn.Linear(audio_dim, dim)
        self.embed_norm = nn.LayerNorm(dim)
        self.encoder = nn.TransformerEncoderLayer(dim, n_heads, 3 * dim, dropout, batch_first=True)
        self.atomic_queries = nn.Parameter(torch.randn(n_atoms, dim))
        self.student = Branch(dim, n_heads, n_layers, dropout)
        self.semantic_queries = SemanticQueries(n_atoms, texts.shape[1], dim, n_heads, dropout)
        self.teacher = Branch(dim, n_heads, n_layers, dropout)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SGN":
        """Build the model that `config` describes, with texts of zeros; load its state afterwards."""
        return cls(**{**config, "texts": torch.zeros(config["texts"])})

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
        clips = self.embed_norm(self.embed_visual(visual) + self.embed_audio(audio))
        clips = self.encoder(clips, src_key_padding_mask=None if clip_mask is None else ~clip_mask)
        output = self.student(self.atomic_queries, clips, clip_mask)
        if self.training:
            taught = self.teacher(self.semantic_queries(self.texts), clips, clip_mask)
            output |= {f"teacher_{name}": value for name, value in taught.items()}
        return output

    def loss(self, output: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """Compute the training loss: a dict of the terms below and their sum ``total``.

        - mse: squared error of the student's score; teacher_mse: of the teacher's score;
        - attention: KL(teacher || student) of an atom's attention over the clips, averaged over atoms and videos;
        - feature: squared difference of the atoms;
        - contrast: cross-entropy whose target for student atom k is teacher atom k, among the K atoms of the video.

        The last three are multiplied by their weights and have gradients to the student alone. An output of evaluation
        mode has no teacher: then ``mse`` is the only term.

        Shapes:
            output as forward returned it, label (B,) in [0, 1]; every term is a scalar.

        Raises:
            ValueError: label is not (B,).
        """
        label = one_per_video(label, output["score"])
        terms = {"mse": F.mse_loss(output["score"], label)}
        if "teacher_score" in output:
            atoms, taught = output["atoms"], output["teacher_atoms"].detach()
            aligned = attention_divergence(output["attention"], output["teacher_attention"].detach())
            terms["teacher_mse"] = F.mse_loss(output["teacher_score"], label)
            terms["attention"] = self.attention_weight * aligned
            terms["feature"] = self.feature_weight * F.mse_loss(atoms, taught)
            terms["contrast"] = self.contrast_weight * atom_contrast(atoms, taught)
        return {"total": torch.stack(list(terms.values())).sum(), **terms}


def attention_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) between attentions (B, K, T) that sum to 1 over T, averaged over B and K."""
    log_student = student.clamp_min(torch.finfo(student.dtype).tiny).log()
    return F.kl_div(log_student, teacher, reduction="none").sum(dim=-1).mean()


def atom_contrast(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of cosines whose target for student atom k is teacher atom k, among the K atoms of the video.

    Shapes: student, teacher (B, K, d); returns a scalar, 0 where K is 1.
    """
    cosines = F.normalize(student, dim=-1) @ F.normalize(teacher, dim=-1).transpose(1, 2)  # (B, K, K)
    places = torch.arange(student.shape[1], device=student.device).expand(len(student), -1)
    return F.cross_entropy((cosines / TEMPERATURE).flatten(0, 1), places.flatten())
