"""The batch-hard triplet loss of GDLT, CoFInAl and MLAVL."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["batch_hard_triplet", "grade_triplet"]


def batch_hard_triplet(embeddings: Tensor, classes: Tensor, margin: float = 1.0) -> Tensor:
    """Compute the batch-hard triplet loss with cosine distance.

    Distance is ``1 - cosine``. The hardest positive of an anchor is the furthest other embedding of its class (distance
    0 if the class has no other member); the hardest negative is the nearest embedding of another class. The loss is
    ``mean(relu(positive - negative + margin))`` over all anchors.

    Shapes:
        embeddings (A, d); classes (A,) integers; returns a scalar.

    Args:
        margin: 1.0, as released by GDLT, CoFInAl and MLAVL.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    if embeddings.dim() != 2 or classes.shape != embeddings.shape[:1]:
        raise ValueError(
            f"batch_hard_triplet wants embeddings (A, d) and classes (A,), "
            f"got {tuple(embeddings.shape)} and {tuple(classes.shape)}"
        )
    unit = F.normalize(embeddings, dim=-1)
    # The search over all pairs needs no gradient: only the two pairs that it finds for each anchor are compared again.
    with torch.no_grad():
        cosine = unit @ unit.T
        same_class = classes[:, None] == classes[None, :]
        negatives = ~same_class
        positives = same_class.fill_diagonal_(False)
        hardest_positive = cosine.masked_fill(~positives, math.inf).argmin(dim=1)
        hardest_negative = cosine.masked_fill(~negatives, -math.inf).argmax(dim=1)
        # Where all are of one class, the released code takes the furthest of them as the negative.
        hardest_negative = torch.where(negatives.any(dim=1), hardest_negative, cosine.argmin(dim=1))
        has_positive = positives.any(dim=1)
    to_positive = (1 - (unit * unit[hardest_positive]).sum(dim=-1)) * has_positive
    to_negative = 1 - (unit * unit[hardest_negative]).sum(dim=-1)
    return F.relu(to_positive - to_negative + margin).mean()


def grade_triplet(grades: Tensor, margin: float = 1.0) -> Tensor:
    """Compute `batch_hard_triplet` of decoded grades (B, N, d); the class of an anchor is its grade, 0..N-1."""
    batch, n_grades, _ = grades.shape
    classes = torch.arange(n_grades, device=grades.device).repeat(batch)
    return batch_hard_triplet(grades.flatten(0, 1), classes, margin)
