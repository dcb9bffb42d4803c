"""Transformer layers under torch's names and weights, faster where torch's own are slow: on the CPU.

There torch's attention falls back, in training, to a composition that draws its dropout one number at a time, guards
its softmax against rows that are masked away altogether, and scales by passing over every activation. Here dropout is
`mag2.nn.dropout`, its factors go into the weights that come next, and attention of a few queries maps the queries and
not the memory. Without dropout the kernel of `scaled_dot_product_attention` is called. With masks, on GPUs, and where a
part of a layer is hooked or exchanged, these layers are torch's.
"""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.nn.dropout import draws_cheaply, kept
from mag2.nn.modules import is_unmodified

__all__ = ["DecoderLayer", "EncoderLayer"]


class EncoderLayer(nn.TransformerEncoderLayer):
    """torch's encoder layer, post-norm with ReLU, batch first. Shapes and `state_dict` are torch's.

    Args:
        dim: d, the width. n_heads: of attention. feed_forward: the width between. dropout: of all four places.
    """

    def __init__(self, dim: int, n_heads: int, feed_forward: int, dropout: float):
        super().__init__(dim, n_heads, feed_forward, dropout, batch_first=True)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Encode (B, T, d)."""
        masked = src_mask is not None or src_key_padding_mask is not None or is_causal
        if masked or not _worth_it(self, src):
            return super().forward(src, src_mask, src_key_padding_mask, is_causal)
        x = self.norm1(_attention(self.self_attn, src, src, self.dropout1))
        return self.norm2(_feed_forward(self, x, self.dropout2))


class DecoderLayer(nn.TransformerDecoderLayer):
    """torch's decoder layer, post-norm with ReLU, batch first. Shapes and `state_dict` are torch's.

    Args:
        dim: d, the width. n_heads: of attention. feed_forward: the width between. dropout: of all six places.
    """

    def __init__(self, dim: int, n_heads: int, feed_forward: int, dropout: float):
        super().__init__(dim, n_heads, feed_forward, dropout, batch_first=True)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Decode (B, K, d) from memory (B, T, d)."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        masked = any(mask is not None for mask in masks) or tgt_is_causal or memory_is_causal
        if masked or not _worth_it(self, memory):
            return super().forward(tgt, memory, *masks, tgt_is_causal, memory_is_causal)
        x = self.norm1(_attention(self.self_attn, tgt, tgt, self.dropout1))
        x = self.norm2(_attention(self.multihead_attn, x, memory, self.dropout2))
        return self.norm3(_feed_forward(self, x, self.dropout3))


def _worth_it(layer: EncoderLayer | DecoderLayer, x: Tensor) -> bool:
    """On the CPU, the layer as it was built, and no part exchanged, hooked or parametrised: those are called."""
    if x.is_nested or x.dim() != 3 or not draws_cheaply(x) or torch.jit.is_tracing():
        return False
    # An exported model is for any number of videos and clips: torch's own layers are known to be.
    if torch.compiler.is_compiling() and not layer.training:
        return False
    if layer.norm_first or layer.activation is not F.relu:
        return False
    parts = [part for part in layer.modules() if part is not layer]
    return all(type(part) in _PARTS and is_unmodified(part) and _usual(part) for part in parts)


def _usual(part: Any) -> bool:
    """The settings that these layers know."""
    if isinstance(part, nn.Linear):
        return part.bias is not None
    if isinstance(part, nn.MultiheadAttention):
        whole = part.in_proj_weight is not None and part.in_proj_bias is not None
        return whole and part.bias_k is None and not part.add_zero_attn and part.batch_first
    return True


_PARTS = (nn.MultiheadAttention, nn.Linear, nn.LayerNorm, nn.Dropout, nn.modules.linear.NonDynamicallyQuantizableLinear)


def _attention(attention: nn.MultiheadAttention, x: Tensor, memory: Tensor, residual: nn.Dropout) -> Tensor:
    """x plus what it attends to: (B, K, d) and (B, T, d) -> (B, K, d)."""
    p = attention.dropout if attention.training else 0.0
    few = x is not memory and x.shape[1] * attention.num_heads < memory.shape[-1]
    attended, scale = (_few_queries if few else _all_pairs)(attention, x, memory, p)
    return _added(x, attended, attention.out_proj, residual, scale)


def _all_pairs(attention: nn.MultiheadAttention, x: Tensor, memory: Tensor, p: float) -> tuple[Tensor, float]:
    """Scaled dot-product attention before its output map, (B, K, d), and the factor that it lacks."""
    heads, dim = attention.num_heads, attention.embed_dim
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    if x is memory:
        query, key, value = _heads(F.linear(x, weight, bias), 3, heads)
    else:
        (query,) = _heads(F.linear(x, weight[:dim], bias[:dim]), 1, heads)
        key, value = _heads(F.linear(memory, weight[dim:], bias[dim:]), 2, heads)
    if p == 0:
        attended, scale = F.scaled_dot_product_attention(query, key, value), 1.0
    else:
        query, key, value = (part.flatten(0, 1) for part in (query, key, value))
        scores = torch.bmm(query * (dim // heads) ** -0.5, key.transpose(1, 2))  # (B h, K, T)
        shares, scale = _thinned(_softmax(scores), p)
        attended = rearrange(torch.bmm(shares, value), "(b h) k w -> b h k w", h=heads)
    return rearrange(attended, "b h k w -> b k (h w)"), scale


def _few_queries(attention: nn.MultiheadAttention, x: Tensor, memory: Tensor, p: float) -> tuple[Tensor, float]:
    """The same where K h < d: (q W_k) m for q (W_k m), and (a m) W_v for a (m W_v), so that no map meets all clips.

    The bias of a key adds the same to all scores of a query, which the softmax removes again; it is kept for its
    gradient of 0.
    """
    queries, dim = x.shape[1:]
    heads = attention.num_heads
    width = dim // heads
    w_query, w_key, w_value = attention.in_proj_weight.split(dim)
    b_query, b_key, b_value = attention.in_proj_bias.view(3, heads, width).unbind()
    query = F.linear(x, w_query * width**-0.5, b_query.flatten() * width**-0.5)
    by_head = rearrange(query, "b k (h w) -> h (b k) w", h=heads)
    reach = torch.bmm(by_head, rearrange(w_key, "(h w) d -> h w d", h=heads))  # (h, B K, d)
    reach = rearrange(reach, "h (b k) d -> b (h k) d", k=queries)
    offset = rearrange(by_head @ b_key[..., None], "h (b k) 1 -> b (h k) 1", k=queries)
    scores = torch.bmm(reach, memory.transpose(1, 2)) + offset.to(reach.dtype)
    shares, scale = _thinned(_softmax(scores), p)
    attended = rearrange(torch.bmm(shares, memory), "b (h k) d -> h (b k) d", h=heads)
    attended = torch.bmm(attended, rearrange(w_value, "(h w) d -> h d w", h=heads))  # (h, B K, w)
    total = rearrange(shares.sum(dim=-1), "b (h k) -> h (b k) 1", h=heads)  # not 1 after dropout
    attended = attended + total.to(attended.dtype) * b_value[:, None]
    return rearrange(attended, "h (b k) w -> b k (h w)", k=queries), scale


def _feed_forward(layer: EncoderLayer | DecoderLayer, x: Tensor, residual: nn.Dropout) -> Tensor:
    """x plus its feed-forward map."""
    wide, scale = _thinned(layer.linear1(x), _rate(layer.dropout))  # thinned before ReLU, which keeps zeros
    return _added(x, wide.relu(), layer.linear2, residual, scale)


def _added(x: Tensor, rows: Tensor, linear: nn.Linear, dropout: nn.Dropout, scale: float) -> Tensor:
    """x + dropout(linear(scale rows)), with every factor in the weights."""
    mask, further = kept(x.shape, p) if (p := _rate(dropout)) else (None, 1.0)
    weight = linear.weight if scale * further == 1 else linear.weight * (scale * further)
    bias = linear.bias if further == 1 else linear.bias * further
    mapped = F.linear(rows, weight, bias)
    return x + (mapped if mask is None else mapped * mask)


def _thinned(x: Tensor, p: float) -> tuple[Tensor, float]:
    """Dropout, and the factor that it lacks."""
    if p == 0:
        return x, 1.0
    mask, scale = kept(x.shape, p)
    return x * mask, scale


def _rate(dropout: nn.Dropout) -> float:
    return dropout.p if dropout.training else 0.0


def _heads(rows: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, T, parts d) -> parts times (B, h, T, d/h), without a copy."""
    return rearrange(rows, "b t (parts h w) -> parts b h t w", parts=parts, h=heads).unbind()


def _softmax(scores: Tensor) -> Tensor:
    # Half precision is widened for it: torch's kernel for half a float is the slower one.
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.to(wide).softmax(dim=-1).to(scores.dtype)
