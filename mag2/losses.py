"""The training objective of MLAVL: accuracy of the score, order among the grades, agreement with the texts."""

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
    """10 MSE + triplet terms + 0.01 cross-entropies (released code); every term is returned already weighted.

    The triplet terms keep decoded grades of different rank apart across the batch, and the projected texts of each of
    the four sets apart from each other. The released code repeats the texts over the batch before it compares them;
    their hardest positive is then a copy at distance 0, which is the loss on one copy: M^2 work and not (BM)^2.
    The cross-entropies make each decoded grade agree, by cosine, with the text that it was decoded from.

    Args:
        output: what `MLAVL` returns: score (B,), grades_* (B, K, d), queries_* (K, d), and texts_visual, texts_audio
            (M, d), texts_audio_visual_grades, texts_grades (K, d).
        label: (B,) in [0, 1].
        mse_weight, triplet_weight, agreement_weight, margin, label_smoothing: as released.

    Returns:
        A dict of scalars: mse, triplet/<set>, agreement/<branch>, and total, their sum.

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
    """Cosine of every decoded grade (B, K, d) with every grade query (K, d): (B, K, K), without temperature."""
    return F.normalize(grades, dim=-1) @ F.normalize(queries, dim=-1).T


def rank_cross_entropy(cosines: Tensor, label_smoothing: float = 0.1) -> Tensor:
    """Cross-entropy of cosines (B, K, K): the k-th decoded grade should be most like the k-th query."""
    ranks = torch.arange(cosines.shape[1], device=cosines.device).repeat(len(cosines))
    return F.cross_entropy(cosines.flatten(0, 1), ranks, label_smoothing=label_smoothing)
