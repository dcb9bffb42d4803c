"""The texts of a module: their features, their provenance, and the projection to the width of the module."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mag2.nn.linear import Linear
from mag2.projection import TokenProjection
from mag2.texts.learned import LiveTexts
from mag2.texts.provenance import Provenance, provenance_of

__all__ = ["ProjectedTexts"]


class ProjectedTexts(nn.Module):
    """Text features (R, D) and a `TokenProjection` D -> d. ``forward()`` returns the projected texts (R, d).

    All rows go through the projection together: its BatchNorms use one set of statistics for all of them.

    Args:
        rows: (R, D) features, of which a float32 copy becomes the buffer `texts`; or a module that computes them at
            every call (`mag2.texts.learned`), which becomes the submodule `live`.
        dim: d, the width of the model.
        provenance: where the rows are from; by default that of the rows (`TextRows`).

    Raises:
        ValueError: the rows are no tensor (R, D) with at least one row.
    """

    def __init__(self, rows: Tensor | LiveTexts, dim: int, provenance: Provenance | None = None):
        super().__init__()
        self.texts: Tensor | None
        self.live: LiveTexts | None
        if isinstance(rows, LiveTexts):
            self.provenance, width = provenance or rows.provenance, rows.width
            self.register_buffer("texts", None)
            self.live = rows
        else:
            self.provenance, width = provenance or provenance_of(rows), checked_rows(rows).shape[1]
            self.register_buffer("texts", checked_rows(rows).clone())
            self.live = None
        self.projection = TokenProjection(width, dim, Linear)

    def forward(self) -> Tensor:
        """Project the texts."""
        rows = self.texts if self.live is None else self.live()
        assert rows is not None
        return self.projection(rows)

    def __len__(self) -> int:
        return sum(self.live.sizes) if self.texts is None and self.live is not None else len(self.kept)

    @property
    def kept(self) -> Tensor:
        """The rows (R, D) of the buffer, which a module with `live` does not have."""
        assert self.texts is not None
        return self.texts

    @property
    def description(self) -> dict[str, Any]:
        """The shape of the rows and their provenance, for the JSON of a module that owns texts."""
        return {"shape": list(self.kept.shape), **self.provenance.config}

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of `from_config`, as JSON has them."""
        return {"dim": self.projection.dim, "owned_texts": self.description}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ProjectedTexts":
        """A module with texts of zeros, to load weights and texts into."""
        rows, provenance = cls.blank(config["owned_texts"])
        return cls(rows, config["dim"], provenance)

    @staticmethod
    def blank(config: Mapping[str, Any]) -> tuple[Tensor, Provenance]:
        """Rows of zeros and the provenance of a `description`, to load a state into."""
        return torch.zeros(config["shape"]), Provenance.from_config(config)


def checked_rows(texts: Tensor) -> Tensor:
    """The rows as plain float32, detached.

    Raises:
        ValueError: no tensor (M, D) with at least one row.
    """
    if not isinstance(texts, Tensor) or texts.dim() != 2 or len(texts) == 0:
        given = f"shape {tuple(texts.shape)}" if isinstance(texts, Tensor) else f"a {type(texts).__name__}"
        raise ValueError(f"texts want a tensor (M, D) with at least one row, got {given}")
    return texts.detach().float().as_subclass(Tensor)
