"""The complete action graph in closed form: layers of SAGEConv at clips and texts, without a neighbour matrix.

Nodes are the T clips and the M texts of one modality. A clip receives from every other clip and from every text; a text
receives from every other text. With mean aggregation a layer is ``x_i' = W_l mean_j(x_j) + b + W_r x_i``, and the mean
over all other nodes is a sum minus the node itself. So a layer costs O((T + M) d^2), not O((T + M)^2 d).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.guidance.message_passing import neighbour_mean
from mag2.nn.feature_rows import check_floating
from mag2.nn.linear import Linear
from mag2.nn.masks import blanked, checked_mask
from mag2.nn.modules import is_unmodified

__all__ = ["EdgeWeights", "SageLayer", "action_graph", "checked_clips", "clip_rows", "lone_rows", "text_rows"]


class SageLayer(nn.Module):
    """One SAGEConv layer under PyG's keys: `lin_l` for the mean of the neighbours, `lin_r` for the node itself.

    The functions of this file use its weights in closed form. ``layer(x, edge_index)`` runs PyG's message passing over
    any edges, with x (N, in_dim) and edge_index (2, E), row 0 the sources; it returns (N, out_dim).
    """

    def __init__(self, in_dim: int, out_dim: int):
        super().__init__()
        self.lin_l = Linear(in_dim, out_dim)
        self.lin_r = Linear(in_dim, out_dim, bias=False)
        # PyG's SAGEConv draws its initial weights twice. So does this layer: a seed gives the weights of SAGEConv.
        self.lin_l.reset_parameters()
        self.lin_r.reset_parameters()

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """One layer over these edges."""
        return self.lin_l(neighbour_mean(x, edge_index)) + self.lin_r(x)


def action_graph(n_clips: int, n_texts: int, *, device: torch.device | str | None = None) -> Tensor:
    """Return the edges (2, E) of the complete action graph: row 0 the sources, row 1 the targets.

    Nodes 0..T-1 are the clips, nodes T..T+M-1 the texts. Clips receive from all other nodes, texts from other texts.

    Args:
        n_clips: T.
        n_texts: M.
        device: where the edges are made; torch's default device if not given.
    """
    nodes = torch.arange(n_clips + n_texts, device=device)
    source, target = torch.meshgrid(nodes, nodes, indexing="ij")
    from_clip_to_text = (source < n_clips) & (target >= n_clips)
    keep = (source != target) & ~from_clip_to_text
    return torch.stack([source[keep], target[keep]])


def clip_rows(layer: SageLayer, clips: Tensor, text_sum: Tensor, n_texts: int, clip_mask: Tensor | None) -> Tensor:
    """One layer at the clips (B, T, d) of the complete graph, from the sum (d,) and the number of the texts.

    With n = T - 1 + M neighbours a row is ``(W_r - W_l / n) x_i + W_l (sum_clips + sum_texts) / n + b``.
    """
    n_neighbours = clips.shape[1] - 1 + n_texts
    if n_neighbours == 0:
        return lone_rows(layer, clips)
    if clip_mask is None and _is_readable(layer):
        # All clips have the same number of neighbours: the mean over the others folds into the weights of the node.
        own = layer.lin_r.weight - layer.lin_l.weight / n_neighbours
        mean = (clips.sum(dim=1) + text_sum) / n_neighbours
        return F.linear(clips, own) + layer.lin_l(mean)[:, None]
    others, counts = _other_clips(clips, clip_mask)
    return layer.lin_r(clips) + layer.lin_l((others + text_sum) / (counts + n_texts).clamp(min=1))


def weighted_clip_rows(
    layer: SageLayer, clips: Tensor, texts: Tensor, clip_mask: Tensor | None, weights: "EdgeWeights"
) -> Tensor:
    """The same layer where the edge from text m to clip i has the weight w_im: texts are mapped once, then weighted.

    Where the weights of each clip have a sum of their own, each clip has a matrix W_r - W_l / n_i of its own. Then a
    second product over the clips is needed, and the layer costs twice that of the complete graph.
    """
    weight, n_clips = weights.weight.to(clips.dtype), clips.shape[1]
    readable = _is_readable(layer)
    if weights.total is not None and clip_mask is None and n_clips > 1 and readable:
        # The count is the same for all clips again.
        n_neighbours = n_clips - 1 + weights.total
        own = layer.lin_r.weight - layer.lin_l.weight / n_neighbours
        rows = F.linear(clips, own) + layer.lin_l(clips.sum(dim=1) / n_neighbours)[:, None]
        return rows + weight @ (F.linear(texts, layer.lin_l.weight) / n_neighbours)
    others, counts = _other_clips(clips, clip_mask)
    counts = counts + weight.sum(dim=-1, keepdim=True)
    # The mean over no neighbour is 0, and sends no gradient into weights of 0.
    share = torch.where(counts > 0, 1 / counts.where(counts > 0, 1), 0).to(clips.dtype)
    if not readable:
        return layer.lin_r(clips) + layer.lin_l(share * (others + weight @ texts))
    mapped = F.linear(texts, layer.lin_l.weight)
    return lone_rows(layer, clips) + share.to(mapped.dtype) * (F.linear(others, layer.lin_l.weight) + weight @ mapped)


def text_rows(layer: SageLayer, texts: Tensor) -> Tensor:
    """One layer at the texts (M, d), which receive from each other and from no clip."""
    mean = (texts.sum(dim=0) - texts) / max(len(texts) - 1, 1)
    return layer.lin_r(texts) + layer.lin_l(mean)


def lone_rows(layer: SageLayer, rows: Tensor) -> Tensor:
    """One layer at nodes without neighbours: their mean is 0."""
    if not _is_readable(layer):
        return layer.lin_r(rows) + layer.lin_l(rows.new_zeros(rows.shape[-1]))
    return F.linear(rows, layer.lin_r.weight, layer.lin_l.bias)


class EdgeWeights:
    """Checked weights (B, T, M) of the edges from texts to clips, and their sum over the texts.

    `total` is a number where all clips have the same sum (up to rounding), as after a softmax, and no gradient is
    needed through it: then a layer costs one matrix product over the clips, not two. In compiled or traced code and
    under the transforms of `torch.func` values cannot be read. There weights are not checked, and `total` is None.

    Raises:
        ValueError: another shape than the one given, values below 0 or not finite.
    """

    def __init__(self, weight: Tensor, shape: tuple[int, ...]):
        if not isinstance(weight, Tensor) or tuple(weight.shape) != shape:
            given = tuple(weight.shape) if isinstance(weight, Tensor) else f"a {type(weight).__name__}"
            raise ValueError(f"edge_weight wants shape (B, T, M), here {shape}, got {given}")
        self.weight = weight
        self.total: float | None = None
        if weight.numel() == 0 or not _has_values(weight):
            return
        with torch.no_grad():
            totals = weight.sum(dim=-1, dtype=torch.promote_types(weight.dtype, torch.float32))
            # One transfer from the device for all three.
            least, low, high = torch.stack([weight.min().to(totals), totals.min(), totals.max()]).tolist()
        if not (least >= 0 and math.isfinite(high)):
            raise ValueError(f"edge_weight wants finite weights of 0 or more, got {high if least >= 0 else least}")
        rounding = 32 * torch.finfo(totals.dtype).eps
        if high - low <= rounding * high and not (weight.requires_grad and torch.is_grad_enabled()):
            self.total = (low + high) / 2


def checked_clips(clips: Tensor, clip_mask: Tensor | None, dim: int) -> Tensor:
    """Return the clips (B, T, d), checked; values in padding that are not finite become 0.

    Otherwise they would make gradients nan. Padding is where the mask (B, T) is False.

    Raises:
        ValueError: no tensor of that shape and width, or a mask that `checked_mask` refuses.
    """
    if not isinstance(clips, Tensor):
        raise ValueError(f"clips want a tensor (B, T, {dim}), got a {type(clips).__name__}")
    if clips.dim() != 3 or clips.shape[-1] != dim:
        raise ValueError(f"clips want shape (B, T, {dim}), got {tuple(clips.shape)}")
    check_floating(clips=clips)
    mask = checked_mask(clip_mask, clips.shape[:2])
    return clips if mask is None else clips.masked_fill(~(mask[..., None] | clips.isfinite()), 0)


def _other_clips(clips: Tensor, clip_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """For every clip the sum of the other real clips (B, T, d) and their number (B, T, 1)."""
    if clip_mask is None:
        counts = clips.new_full((*clips.shape[:2], 1), clips.shape[1] - 1)
        return clips.sum(dim=1, keepdim=True) - clips, counts
    real = clip_mask[..., None].to(clips.dtype)
    kept = blanked(clips, clip_mask)
    return kept.sum(dim=1, keepdim=True) - kept, real.sum(dim=1, keepdim=True) - real


def _is_readable(layer: SageLayer) -> bool:
    """Whether both maps of a layer are plain linear maps: not pruned, hooked, or exchanged (by LoRA's, for example)."""
    return all(type(part) is Linear and is_unmodified(part) for part in (layer.lin_l, layer.lin_r))


def _has_values(weight: Tensor) -> bool:
    """Whether these are numbers to look at, and not traced, mapped over or dual."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    # torch has no public function for the first.
    transformed = torch._C._functorch.is_functorch_wrapped_tensor(weight)
    return not transformed and torch.autograd.forward_ad.unpack_dual(weight).tangent is None
