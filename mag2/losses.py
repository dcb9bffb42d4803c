"""The training objective of MLAVL: error of the score, separation of the grades, agreement with the texts."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from mag2.nn.triplet import batch_hard_triplet, grade_triplet

__all__ = ["agreement", "mlavl_loss", "rank_cross_entropy"]


def mlavl_loss(
    output: Mapping[str, Tensor],
    label: Tensor,
    *,
    mse_weight: float = 10.0,
    triplet_weight: float = 1.0,
    agreement_weight: float = 0.01,
    margin: float = 1.0,
    label_smoothing: float = 0.1,
) -> dict[str, Tensor]:
    """Compute the loss of MLAVL: 10 MSE + triplet terms + 0.01 cross-entropies (released code).

    The triplet terms separate decoded grades of different rank across the batch, and the projected texts within each of
    the four sets. The released code repeats the texts over the batch before it compares them. Their hardest positive is
    then a copy at distance 0, so the loss on one copy is equal: it costs M^2 operations and not (BM)^2.
    The cross-entropies compare each decoded grade, by cosine, with the query that it was decoded with.

    Args:
        output: what `MLAVL` returns: score (B,), grades_* (B, K, d), queries_* (K, d), and texts_visual, texts_audio
            (M, d), texts_audio_visual_grades, texts_grades (K, d).
        label: (B,) in [0, 1].
        mse_weight: 10 (released).
        triplet_weight: 1 (released), of every triplet term.
        agreement_weight: 0.01 (released), of both cross-entropies.
        margin: of the triplet terms; 1 (released).
        label_smoothing: of the cross-entropies; 0.1 (released).

    Returns:
        A dict of scalars, each multiplied by its weight: mse, triplet/<set>, agreement/<branch>, and total, their sum.

    Raises:
        ValueError: label is not (B,); (B, 1) would otherwise broadcast to (B, B).
    """
    if label.shape != output["score"].shape:
        raise ValueError(f"label is {tuple(label.shape)}; give one number per video, {tuple(output['score'].shape)}")
    terms = {"mse": mse_weight * F.mse_loss(output["score"], label)}
    for branch in ("audio_visual", "visual"):
        grades, queries = output[f"grades_{branch}"], output[f"queries_{branch}"]
        terms[f"triplet/grades_{branch}"] = triplet_weight * grade_triplet(grades, margin)
        crossed = rank_cross_entropy(agreement(grades, queries), label_smoothing)
        terms[f"agreement/{branch}"] = agreement_weight * crossed
    for name in ("texts_visual", "texts_audio", "texts_audio_visual_grades", "texts_grades"):
        texts = output[name]
        each = torch.arange(len(texts), device=label.device)
        terms[f"triplet/{name}"] = triplet_weight * batch_hard_triplet(texts, each, margin)
    terms["total"] = torch.stack(list(terms.values())).sum()
    return terms


def agreement(grades: Tensor, queries: Tensor) -> Tensor:
    """Return the cosine of every decoded grade with every grade query, without a temperature.

    Shapes: grades (B, K, d), queries (K, d); returns (B, K, K).
    """
    return F.normalize(grades, dim=-1) @ F.normalize(queries, dim=-1).T


def rank_cross_entropy(cosines: Tensor, label_smoothing: float = 0.1) -> Tensor:
    """Return the cross-entropy of cosines (B, K, K), a scalar: the target of decoded grade k is query k.

    `label_smoothing` is 0.1 (released).
    """
    ranks = torch.arange(cosines.shape[1], device=cosines.device).repeat(len(cosines))
    return F.cross_entropy(cosines.flatten(0, 1), ranks, label_smoothing=label_smoothing)
