"""Which text a clip is about, from outside: the similarity of clips and texts in one space becomes edge weights.

The complete graph of MAG2 gives every clip the mean of all texts, so it cannot say which action a clip shows. A
similarity that was learned elsewhere can: image features of a CLIP with texts of the same CLIP, for example.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mag2.nn.feature_rows import check_tensors

__all__ = ["clip_text_similarity", "edge_weights"]


def clip_text_similarity(clip_features: Tensor, texts: Tensor, *, centre: bool = True) -> Tensor:
    """Cosine of every clip with every text, both in one space.

    Shapes: clip_features (B, T, D), texts (M, D); returns (B, T, M) in [-1, 1]. A zero row has cosine 0.

    Args:
        clip_features: of the image tower, or mapped into the space of the texts.
        texts: of the text tower that was trained with it.
        centre: subtract what all texts share: features of one sport's prompts lie within cosine 0.95 of each other.

    Raises:
        ValueError: other shapes, or widths that differ.
    """
    check_tensors(clip_features=clip_features, texts=texts)
    if clip_features.dim() != 3 or texts.dim() != 2 or clip_features.shape[-1] != texts.shape[-1]:
        shapes = f"{tuple(clip_features.shape)} and {tuple(texts.shape)}"
        raise ValueError(f"clips (B, T, D) and texts (M, D) want one width, got {shapes}")
    # What is left of centred texts is small: half precision, autocast's too, would leave little of it.
    exact = torch.promote_types(clip_features.dtype, torch.float32)
    with torch.autocast(clip_features.device.type, enabled=False):
        rows = F.normalize(texts.to(clip_features.device, exact), dim=-1)
        if centre:
            rows = rows - rows.mean(dim=0)
        # Texts that are all alike leave rounding errors behind; a floor keeps these from becoming directions.
        rows = F.normalize(rows, dim=-1, eps=1e-4)
        return (F.normalize(clip_features.to(exact), dim=-1) @ rows.T).to(clip_features.dtype)


def edge_weights(
    similarity: Tensor, *, temperature: float = 0.05, top_k: int | None = None, scale: float | None = None
) -> Tensor:
    """Weights for `ActionGraphGuidance(..., edge_weight=)`: a softmax over the texts, times `scale`.

    The same similarity everywhere gives weights of 1, the complete graph, unless `top_k` leaves some out. The weights
    of a clip always sum to `scale`, which is the cheap case of weighted guidance.

    Shapes: similarity (B, T, M), any real numbers; returns (B, T, M).

    Args:
        temperature: what similarities are divided by. 0.05 is for cosines with centred texts: CLIP's own 0.01, times
            five, as centring stretches what differs between texts that lie within cosine 0.95 of each other.
        top_k: only so many texts for each clip, any of those that are as similar; all by default.
        scale: the sum of the weights of a clip, beside T - 1, the weight of the other clips; M by default.

    Raises:
        ValueError: another shape, a temperature or scale that is not above 0, or a top_k outside 1..M.
    """
    if similarity.dim() != 3 or similarity.shape[-1] == 0:
        raise ValueError(f"similarity wants shape (B, T, M), got {tuple(similarity.shape)}")
    n_texts = similarity.shape[-1]
    scale = n_texts if scale is None else scale
    if not (temperature > 0 and scale > 0):
        raise ValueError(f"temperature and scale want numbers above 0, got {temperature} and {scale}")
    if top_k is not None:
        if not 1 <= top_k <= n_texts:
            raise ValueError(f"top_k wants 1 to {n_texts}, the number of texts, got {top_k}")
        kept = torch.zeros_like(similarity, dtype=torch.bool)
        kept.scatter_(-1, similarity.topk(top_k, dim=-1).indices, True)
        similarity = similarity.masked_fill(~kept, -torch.inf)
    # Less the highest first: similarities of half precision would overflow.
    return scale * torch.softmax((similarity - similarity.amax(dim=-1, keepdim=True)) / temperature, dim=-1)
