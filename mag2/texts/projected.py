"""The texts of a module: their features, their provenance, and the projection to the width of the module."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mag2.nn.feature_rows import check_feature_rows
from mag2.nn.linear import Linear
from mag2.projection import TokenProjection
from mag2.texts.learned import LiveTexts
from mag2.texts.provenance import Provenance, provenance_of

__all__ = ["ProjectedTexts"]


class ProjectedTexts(nn.Module):
    """Text features (R, D) with a learned `TokenProjection` D -> d; a call without arguments returns (R, d).

    All rows are projected together: the BatchNorms of the projection use one set of statistics for all of them.

    Args:
        rows: (R, D) features, of which a float32 copy becomes the buffer `texts`; or a `LiveTexts`, which computes them
            at every call and becomes the submodule `live`.
        dim: d, the width of the model.
        provenance: origin of the rows; by default the one that they carry (`TextRows`).

    Raises:
        ValueError: the rows are no tensor (R, D) of finite numbers with at least one row.
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
        """Return the projected texts (R, d)."""
        rows = self.texts if self.live is None else self.live()
        assert rows is not None
        return self.projection(rows)

    def __len__(self) -> int:
        return sum(self.live.sizes) if self.texts is None and self.live is not None else len(self.kept)

    @property
    def kept(self) -> Tensor:
        """The rows (R, D) of the buffer `texts`; a module with `live` has none."""
        assert self.texts is not None
        return self.texts

    @property
    def description(self) -> dict[str, Any]:
        """The shape of the rows and their provenance, for the JSON of a module that owns texts."""
        return {"shape": list(self.kept.shape), **self.provenance.config}

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of `from_config`, as plain values for JSON."""
        return {"dim": self.projection.dim, "owned_texts": self.description}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ProjectedTexts":
        """Build the module that `config` describes, with texts of zeros; load its state afterwards."""
        rows, provenance = cls.blank(config["owned_texts"])
        return cls(rows, config["dim"], provenance)

    @staticmethod
    def blank(config: Mapping[str, Any]) -> tuple[Tensor, Provenance]:
        """Return rows of zeros (R, D) and the provenance for a `description`; a state is loaded afterwards."""
        return torch.zeros(config["shape"]), Provenance.from_config(config)


def checked_rows(texts: Tensor) -> Tensor:
    """The rows as plain float32, detached.

    Raises:
        ValueError: no tensor (M, D) with at least one row, or values that are no finite numbers.
    """
    check_feature_rows(texts, "texts want")
    return texts.detach().float().as_subclass(Tensor)
