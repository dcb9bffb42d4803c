"""Which features of a module a guide changes, and how: the options of `mag2.attach`."""

from dataclasses import dataclass

from mag2.plugin.signature import Index
from mag2.saving.sentences import check_name

__all__ = ["LAYOUTS", "SIDES", "STARTS", "Placement"]

SIDES = ("output", "input")
STARTS = ("residual", "identity", "replace")
# How (B, T, C) stands in a model: the permutation from its layout to ours and back.
LAYOUTS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "btd": ((0, 1, 2), (0, 1, 2)),
    "bdt": ((0, 2, 1), (0, 2, 1)),
    "tbd": ((1, 0, 2), (1, 0, 2)),
}


@dataclass(frozen=True)
class Placement:
    """Which features of a module a guide changes, and how; the attributes are options of `mag2.attach`.

    Attributes:
        side: "output" or "input" of the module.
        layout: order of the axes of its features: "btd", "bdt" or "tbd" (batch, time, width).
        item: name or position of the features in an output of several parts, or of an argument; by default the whole
            output, or the first argument.
        mask: name or position of the module's argument that holds a clip mask (B, T), True where a clip is real.
        padding_mask: the same for a mask that is True, or not 0, where a clip is padding.
        edge_weight: name or position of the module's argument that holds edge weights (B, T, M).
        start: "residual" adds the guide's output to the features; "identity" adds it through a map that starts at zero;
            "replace" replaces the features by it.

    Raises:
        ValueError: an unknown side, layout or start; an item, mask or edge_weight that is neither a name nor a
            position; both `mask` and `padding_mask`.
    """

    side: str = "output"
    layout: str = "btd"
    item: Index | None = None
    mask: Index | None = None
    padding_mask: Index | None = None
    edge_weight: Index | None = None
    start: str = "residual"

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        check_name("side", self.side, SIDES)
        check_name("start", self.start, STARTS)
        check_name("layout", self.layout, LAYOUTS)
        for name in ("item", "mask", "padding_mask", "edge_weight"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, str))):
                raise ValueError(f"{name} is a name or a position, got {value!r}")
        if self.mask is not None and self.padding_mask is not None:
            raise ValueError(f"one mask says it all; give mask={self.mask!r} or padding_mask={self.padding_mask!r}")
