"""The batch-hard triplet loss that GDLT introduced and CoFInAl and MLAVL took over."""

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
    distance = 1 - unit @ unit.T
    relatives = classes[:, None] == classes[None, :]
    others = ~torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    hardest_positive = (distance * (relatives & others)).amax(dim=1)
    # A same-class pair may never be the nearest stranger: lift it above everything in its row.
    ceiling = distance.amax(dim=1, keepdim=True)
    hardest_negative = (distance + ceiling * relatives).amin(dim=1)
    return F.relu(hardest_positive - hardest_negative + margin).mean()


def grade_triplet(grades: Tensor, margin: float = 1.0) -> Tensor:
    """`batch_hard_triplet` over decoded grades (B, N, d): the class of an anchor is its grade, 0..N-1."""
    batch, n_grades, _ = grades.shape
    classes = torch.arange(n_grades, device=grades.device).repeat(batch)
    return batch_hard_triplet(grades.flatten(0, 1), classes, margin)
