"""The layer of M-BERT: its matrices are products of factors, some shared by the streams, some of one stream."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal

EPS = 1e-12  # of every LayerNorm, as in BERT


class Widened(nn.Module):
    """Half precision as float32: torch's matrix exponential returns nan for half precision."""

    def forward(self, x: Tensor) -> Tensor:
        """Widen."""
        return x.to(torch.promote_types(x.dtype, torch.float32))


class Rotation(nn.Module):
    """One orthogonal matrix a stream, ``weight`` (M, r, r), the exponential of a skew-symmetric matrix.

    The parameter is ``parametrizations.weight.original``, of which the lower triangle counts. It starts at 0, the
    identity (our choice).
    """

    weight: Tensor

    def __init__(self, n_streams: int, rank: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_streams, rank, rank))
        parametrize.register_parametrization(self, "weight", Widened())
        orthogonal(self, "weight", "matrix_exp", use_trivialization=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Parametrised modules refuse to be pickled, as their class is made at run time; it is made again here."""
        original = self.parametrizations.weight.original  # type: ignore[union-attr]
        return _rotation_of, (original, self.training)


def _rotation_of(original: nn.Parameter, training: bool) -> Rotation:
    rotation = Rotation(*original.shape[:2]).train(training)
    rotation.parametrizations.weight.original = original  # type: ignore[union-attr]
    return rotation


class FactorisedMap(nn.Module):
    """A linear map of several streams, ``x -> U Q_m (V_m x / |V_m x|) + b``: U and b shared, V_m and Q_m each's own.

    Shapes: x (m, B, S, in) -> (m, B, S, out), for the m streams of a slice.

    Args:
        n_streams: M, all of them. in_dim, out_dim: widths. rank: r, of V_m (r, in), Q_m (r, r) and U (out, r).
    """

    def __init__(self, n_streams: int, in_dim: int, out_dim: int, rank: int):
        super().__init__()
        self.own = nn.Parameter(torch.randn(n_streams, rank, in_dim) / in_dim**0.5)
        self.rotation = Rotation(n_streams, rank)
        self.shared = nn.Linear(rank, out_dim)
        # What it maps has length 1, so outputs have this standard deviation: about that of a linear layer of BERT.
        nn.init.normal_(self.shared.weight, std=0.5)
        nn.init.zeros_(self.shared.bias)

    def turned(self) -> Tensor:
        """``U Q_m`` of every stream, (M, out, r): one for all the layers that share this map."""
        return self.shared.weight @ self.rotation.weight.to(self.shared.weight.dtype)

    def forward(self, x: Tensor, turned: Tensor, streams: slice) -> Tensor:
        """Map the streams of a slice; `turned` is what the method of that name returned."""
        inner = F.normalize(torch.einsum("mbsi,mri->mbsr", x, self.own[streams]), dim=-1)
        return torch.einsum("mbsr,mor->mbso", inner, turned[streams]) + self.shared.bias


class SharedLayer(nn.Module):
    """One post-norm BERT layer, applied several times, to every stream with the stream's own factors.

    Shapes: tokens (m, B, S, d) and real (B, S), True where a token may be attended to -> (m, B, S, d).
    """

    def __init__(
        self,
        *,
        n_streams: int,
        dim: int,
        n_heads: int,
        feed_forward: int,
        rank: int,
        dropout: float,
        attention_dropout: float,
    ):
        super().__init__()
        self.n_heads, self.attention_dropout = n_heads, attention_dropout
        shapes = dict.fromkeys(("query", "key", "value", "out"), (dim, dim))
        shapes |= {"up": (dim, feed_forward), "down": (feed_forward, dim)}
        self.maps = nn.ModuleDict({name: FactorisedMap(n_streams, *shape, rank) for name, shape in shapes.items()})
        self.attention_norm = nn.LayerNorm(dim, eps=EPS)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, n_layers: int, streams: slice, real: Tensor | None = None) -> Tensor:
        """Apply the layer `n_layers` times."""
        turned = {name: each.turned() for name, each in self.maps.items()}  # type: ignore[operator]

        def mapped(name: str, x: Tensor) -> Tensor:
            return self.maps[name](x, turned[name], streams)

        # (m B, 1, 1, S), for all heads and queries.
        allowed = None if real is None else real.repeat(len(tokens), 1)[:, None, None]
        for _ in range(n_layers):
            query, key, value = (self._heads(mapped(name, tokens)) for name in ("query", "key", "value"))
            rate = self.attention_dropout if self.training else 0.0
            attended = F.scaled_dot_product_attention(query, key, value, allowed, dropout_p=rate)
            attended = attended.transpose(1, 2).reshape(tokens.shape)
            tokens = self.attention_norm(tokens + self.dropout(mapped("out", attended)))
            hidden = F.gelu(mapped("up", tokens))
            tokens = self.feed_forward_norm(tokens + self.dropout(mapped("down", hidden)))
        return tokens

    def _heads(self, rows: Tensor) -> Tensor:
        """(m, B, S, d) -> (m B, h, S, d / h)."""
        return rows.flatten(0, 1).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
