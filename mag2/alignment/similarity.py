"""Edge weights from a similarity of clips and texts that another encoder provides.

The complete graph of MAG2 gives every clip the mean of all texts, so it cannot distinguish which action a clip shows. A
similarity that was learned elsewhere can: image features of a CLIP with texts of the same CLIP, for example.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mag2.nn.feature_rows import check_tensors

__all__ = ["clip_text_similarity", "edge_weights"]


def clip_text_similarity(clip_features: Tensor, texts: Tensor, *, centre: bool = True) -> Tensor:
    """Return the cosine of every clip with every text.

    Shapes: clip_features (B, T, D), texts (M, D); returns (B, T, M) in [-1, 1]. A zero row has cosine 0.

    Args:
        clip_features: features in the space of the texts, from the image tower of a CLIP for example.
        texts: features of the text tower that was trained with that image tower.
        centre: subtract the mean of the texts first (our choice): the features of one sport's prompts have cosines
            above 0.95 with each other.

    Raises:
        ValueError: no tensors, other shapes, or widths that differ.
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
    """Turn similarities into the `edge_weight` of `ActionGraphGuidance`: a softmax over the texts, times `scale`.

    Equal similarities give weights of 1, the complete graph, unless `top_k` or `scale` is given. The weights of a clip
    always sum to `scale`; guidance is fastest with such weights.

    Shapes: similarity (B, T, M), any real numbers; returns (B, T, M).

    Args:
        similarity: of every clip with every text.
        temperature: divides the similarities. The default is for cosines with centred texts (our choice): five times
            CLIP's own 0.01, because centring enlarges the differences between texts whose cosines are above 0.95.
        top_k: number of texts with a weight above 0 for each clip, the most similar ones; all by default. Among equal
            similarities the choice is arbitrary.
        scale: sum of the weights of a clip; M by default. The edges from the other clips have a sum of T - 1.

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
