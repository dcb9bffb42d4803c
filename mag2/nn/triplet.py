"""The batch-hard triplet loss that GDLT introduced and CoFInAl and MLAVL took over."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def batch_hard_triplet(embeddings: Tensor, classes: Tensor, margin: float = 1.0) -> Tensor:
    """Push each anchor's nearest stranger further away than its furthest relative.

    Distance is ``1 - cosine``. For every anchor the hardest positive is the furthest other embedding of its
    class (distance 0 where the class has no other member) and the hardest negative the nearest embedding of
    another class; the loss is ``mean(relu(positive - negative + margin))`` over all anchors.

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
    # The search over all pairs needs no gradient: only the two pairs it finds for each anchor are compared again.
    with torch.no_grad():
        likeness = unit @ unit.T
        relatives = classes[:, None] == classes[None, :]
        strangers = ~relatives
        others = relatives.fill_diagonal_(False)
        furthest_relative = likeness.masked_fill(~others, math.inf).argmin(dim=1)
        nearest_stranger = likeness.masked_fill(~strangers, -math.inf).argmax(dim=1)
        # Where all are of one class, the released code takes the furthest of them for the stranger.
        nearest_stranger = torch.where(strangers.any(dim=1), nearest_stranger, likeness.argmin(dim=1))
        has_relative = others.any(dim=1)
    to_relative = (1 - (unit * unit[furthest_relative]).sum(dim=-1)) * has_relative
    to_stranger = 1 - (unit * unit[nearest_stranger]).sum(dim=-1)
    return F.relu(to_relative - to_stranger + margin).mean()


def grade_triplet(grades: Tensor, margin: float = 1.0) -> Tensor:
    """`batch_hard_triplet` over decoded grades (B, N, d): the class of an anchor is its grade, 0..N-1."""
    batch, n_grades, _ = grades.shape
    classes = torch.arange(n_grades, device=grades.device).repeat(batch)
    return batch_hard_triplet(grades.flatten(0, 1), classes, margin)
