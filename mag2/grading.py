"""DPG, dual-branch prompt-guided grading: decoded grades become a score."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.context import sinusoidal_code
from mag2.fusion import make_decoder
from mag2.nn.feature_rows import check_tensors
from mag2.nn.masks import blanked, check_some_real, checked_mask
from mag2.nn.state_dicts import accept_former_keys
from mag2.saving.sentences import check_name
from mag2.texts import ProjectedTexts, TextFeatures

__all__ = ["QUERIES", "GradeHead", "PromptGuidedGrading"]

QUERIES = ("texts", "learnable")


class GradeHead(nn.Module):
    """Map decoded grades (B, K, d) to a score: the sum over grades of weight times value (supplement, DPG).

    For k = 1..K: s_k = sigmoid(w_k . g_k + b_k), normalised to sum 1 over the K grades;
    score = sum_k s_k (k - 1) / (K - 1).

    Args:
        n_grades: K.
        dim: d.
    """

    def __init__(self, n_grades: int, dim: int):
        super().__init__()
        # The released code computes a (K, K) map and reads its diagonal; these are the rows of that map.
        self.regressor = nn.Linear(dim, n_grades)
        self.worth: Tensor
        self.register_buffer("worth", torch.linspace(0, 1, n_grades), persistent=False)

    def forward(self, grades: Tensor) -> tuple[Tensor, Tensor]:
        """Return the score (B,) in [0, 1] and the grade weights (B, K) of decoded grades (B, K, d)."""
        logits = (grades * self.regressor.weight).sum(dim=-1) + self.regressor.bias
        # Sigmoids over their sum, by their logarithms: where all are small there is still something to divide by.
        weights = F.logsigmoid(logits).softmax(dim=1)
        return (weights * self.worth.to(weights.dtype)).sum(dim=1), weights


class PromptGuidedGrading(nn.Module):
    """Score performances by grade prompts, in two branches that share one decoder (supplement, DPG).

    The audio-visual branch decodes 2N grades (each word without and with fitting music) from the fused clips. The
    visual branch decodes N grades from the guided visual clips. A `GradeHead` maps the grades of each branch to a
    score, and the score is ``w * audio_visual + (1 - w) * visual``; w is learned and starts at 0.5.

    Shapes: fused (B, T, d), visual (B, T, d); grade texts (2N, d) and (N, d); clip_mask (B, T), True where a clip is
        real. Returns a dict:

        - score (B,): in [0, 1]. The learned w can move it outside; in evaluation it is clamped to [0, 1], except with
          `released`;
        - score_audio_visual (B,), score_visual (B,): the scores of the branches, in [0, 1];
        - grades_audio_visual (B, 2N, d), grades_visual (B, N, d): the decoded grades;
        - queries_audio_visual (2N, d), queries_visual (N, d): the queries that they were decoded with;
        - weights_audio_visual (B, 2N), weights_visual (B, N): the weight of each grade, of sum 1.

    Args:
        dim: d, 256 (released).
        texts: `TextFeatures`, whose grade texts the module keeps, with a learned projection to d. Without them
            `forward` takes projected grade texts.
        n_grades: N; by default that of the texts, or 6 (Table 2).
        queries: "texts" (the paper), or "learnable": learned vectors in their place (Table 4, row 11).
        use_pe: add a sinusoidal position code to the queries (Table 4, row 12; `use_pe` in the released code).
        n_heads: attention heads; 8 (supplement).
        n_layers: decoder layers; 3 (supplement).
        dropout: 0.3 (released training command).
        released: index the position code by the number of the video in the batch, as the released code does, and not
            by the number of the grade.

    Raises:
        ValueError: in the constructor: unknown queries, fewer than 2 grades, or texts of another number of grades than
            `n_grades`. In `forward`: clips, grade texts or mask of another shape, width or type; a video without a
            real clip; no grade texts where they are needed; grade texts where the module has queries of its own.
    """

    def __init__(
        self,
        dim: int = 256,
        texts: TextFeatures | None = None,
        *,
        n_grades: int | None = None,
        queries: str = "texts",
        use_pe: bool = False,
        n_heads: int = 8,
        n_layers: int = 3,
        dropout: float = 0.3,
        released: bool = False,
    ):
        super().__init__()
        check_name("queries", queries, QUERIES)
        if texts is not None and n_grades not in (None, texts.n_grades):
            raise ValueError(f"these texts have {texts.n_grades} grades, n_grades says {n_grades}; leave it out")
        self.dim, self.n_grades = dim, texts.n_grades if texts is not None else 6 if n_grades is None else n_grades
        if self.n_grades < 2:
            raise ValueError(f"a score lies between two grades or more, got n_grades {self.n_grades}")
        self.use_pe, self.released = use_pe, released
        self.decoder = make_decoder(dim, n_heads, n_layers, dropout)
        self.audio_visual = GradeHead(2 * self.n_grades, dim)
        self.visual = GradeHead(self.n_grades, dim)
        self.w = nn.Parameter(torch.tensor([0.5]))
        self.queries: nn.Parameter | None = None
        self.owned_texts: ProjectedTexts | None = None
        if queries != "texts":
            self.queries = nn.Parameter(torch.randn(3 * self.n_grades, dim))
        elif texts is not None:
            grades = torch.cat([texts.audio_visual_grades, texts.grades])
            self.owned_texts = ProjectedTexts(grades, dim, texts.grade_provenance)
        accept_former_keys(self, {"texts": "owned_texts.texts", "projection": "owned_texts.projection"})  # 0.1

    def forward(
        self,
        fused: Tensor,
        visual: Tensor,
        audio_visual_grades: Tensor | None = None,
        grades: Tensor | None = None,
        clip_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score fused (B, T, d) and visual (B, T, d) clips; see the class for shapes and the returned dict.

        Args:
            fused: the output of the fusion.
            visual: the guided visual clips.
            audio_visual_grades: (2N, d) projected grade texts, where the module has no queries of its own.
            grades: (N, d), likewise.
            clip_mask: (B, T), True where a clip is real.
        """
        check_tensors(fused=fused, visual=visual)
        for name, clips in (("fused", fused), ("visual", visual)):
            if clips.dim() != 3 or clips.shape[-1] != self.dim:
                raise ValueError(f"{name} wants shape (B, T, {self.dim}), got {tuple(clips.shape)}")
        mask = checked_mask(clip_mask, visual.shape[:2])
        check_some_real(mask)
        fused, visual = blanked(fused, mask), blanked(visual, mask)
        queries_av, queries_v = self._queries(audio_visual_grades, grades)
        grades_av = self._decode(queries_av, fused, clip_mask)
        grades_v = self._decode(queries_v, visual, clip_mask)
        score_av, weights_av = self.audio_visual(grades_av)
        score_v, weights_v = self.visual(grades_v)
        score = self.w * score_av + (1 - self.w) * score_v
        if not (self.training or self.released):
            score = score.clamp(0, 1)  # w is free; labels are not
        return {
            "score": score,
            "score_audio_visual": score_av,
            "score_visual": score_v,
            "grades_audio_visual": grades_av,
            "grades_visual": grades_v,
            "queries_audio_visual": queries_av,
            "queries_visual": queries_v,
            "weights_audio_visual": weights_av,
            "weights_visual": weights_v,
        }

    def _decode(self, queries: Tensor, memory: Tensor, clip_mask: Tensor | None) -> Tensor:
        padding = None if clip_mask is None else ~clip_mask
        each = queries.expand(memory.shape[0], *queries.shape)
        if self.use_pe:
            code = (
                sinusoidal_code(memory.shape[0], self.dim)[:, None]
                if self.released
                else sinusoidal_code(*queries.shape)
            )
            each = each + code.to(each)
        return self.decoder(each, memory, memory_key_padding_mask=padding)

    def _queries(self, audio_visual_grades: Tensor | None, grades: Tensor | None) -> tuple[Tensor, Tensor]:
        sizes = [2 * self.n_grades, self.n_grades]
        given = audio_visual_grades is not None or grades is not None
        if self.queries is not None or self.owned_texts is not None:
            if given:
                raise ValueError("this grading has queries of its own; call it with fused and visual alone")
            rows: Any = self.queries if self.owned_texts is None else self.owned_texts()
            queries_av, queries_v = rows.split(sizes)
            return queries_av, queries_v
        if audio_visual_grades is None or grades is None:
            raise ValueError(
                f"this grading owns no texts: call it with audio_visual_grades ({sizes[0]}, {self.dim}) "
                f"and grades ({sizes[1]}, {self.dim})"
            )
        for name, rows, size in zip(
            ("audio_visual_grades", "grades"), (audio_visual_grades, grades), sizes, strict=True
        ):
            if rows.shape != (size, self.dim):
                raise ValueError(f"{name} wants shape ({size}, {self.dim}), got {tuple(rows.shape)}")
        return audio_visual_grades, grades
