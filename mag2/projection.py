"""Token projection: features of any width to the width of the model."""

from collections.abc import Callable

from torch import Tensor, nn

__all__ = ["TokenProjection"]


class TokenProjection(nn.Module):
    """Project tokens by two linear maps with BatchNorm: c -> c/2, BN, ReLU, c/2 -> d, BN (released code).

    The released code has 1x1 convolutions over time; a linear map over the last axis is equal and needs no transposes.
    BatchNorm takes its statistics over all tokens of the batch. With a mask it takes them over the real tokens alone,
    so that padding changes nothing in training either.

    Shapes: tokens (..., c), mask (...), True where a token is real; returns (..., d). In training, masked tokens become
        zeros; in evaluation the mask is not used.

    Args:
        in_dim: c, the width of the features.
        dim: d, the width of the model.
        linear: makes a linear map from an input and an output width; `nn.Linear` by default.

    Raises:
        ValueError: in `forward`: tokens of another width than c, or a single token in training.
    """

    def __init__(self, in_dim: int, dim: int, linear: Callable[[int, int], nn.Module] = nn.Linear):
        super().__init__()
        self.in_dim, self.dim = in_dim, dim
        hidden = in_dim // 2
        self.reduce = linear(in_dim, hidden)
        self.reduce_norm = nn.BatchNorm1d(hidden)
        self.expand = linear(hidden, dim)
        self.expand_norm = nn.BatchNorm1d(dim)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Project tokens (..., c) to (..., d); see the class for the mask (...)."""
        if mask is not None and self.training:
            real = self.forward(tokens[mask])
            return real.new_zeros(*mask.shape, self.dim).masked_scatter(mask[..., None], real)
        if tokens.shape[-1] != self.in_dim:
            raise ValueError(f"this projection takes features {self.in_dim} wide, got {tuple(tokens.shape)}")
        rows = tokens.reshape(-1, self.in_dim)
        if self.training and len(rows) == 1:
            raise ValueError(
                "BatchNorm cannot train on one row: give two or more clips (or texts), or call .eval() to score"
            )
        rows = self.reduce_norm(self.reduce(rows)).relu()
        return self.expand_norm(self.expand(rows)).view(*tokens.shape[:-1], self.dim)

    @staticmethod
    def released_keys(released: str, ours: str) -> dict[str, str]:
        """Return released key prefix -> our key prefix, for the projection named `released` there and `ours` here."""
        parts = {"0": "reduce", "1": "reduce_norm", "3": "expand", "4": "expand_norm"}
        return {f"{released}.{number}.": f"{ours}.{part}." for number, part in parts.items()}
