"""Token projection: features of any width to the width of the model."""

from collections.abc import Callable

from torch import Tensor, nn

__all__ = ["TokenProjection"]


class TokenProjection(nn.Module):
    """Two point-wise linear maps with BatchNorm: c -> c/2, BN, ReLU, c/2 -> d, BN (released code).

    The released code writes the maps as 1x1 convolutions over time; a linear map over the last axis is the same
    thing without the transposes. BatchNorm takes its statistics over every token of the batch; with a mask over the
    real ones alone, so that padding changes nothing in training either.

    Shapes: tokens (..., c), mask (...), True where a token is real; returns (..., d), zeros where training masks.

    Args:
        in_dim: c, the width of the features.
        dim: d, the width of the model.
        linear: what makes the two maps from their widths; `nn.Linear` by default.

    Raises:
        ValueError: the input is not c wide, or in training it is one row alone.
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
        """Project (..., c) to (..., d)."""
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
        """Released key prefix -> our key prefix, for a projection `released` that stands at `ours` here."""
        parts = {"0": "reduce", "1": "reduce_norm", "3": "expand", "4": "expand_norm"}
        return {f"{released}.{number}.": f"{ours}.{part}." for number, part in parts.items()}
