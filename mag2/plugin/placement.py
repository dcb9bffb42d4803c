"""How a guide is put at a place: the options of `mag2.attach`."""

from dataclasses import dataclass

from mag2.plugin.signature import Index

__all__ = ["LAYOUTS", "SIDES", "Placement"]

SIDES = ("output", "input")
# How (B, T, C) stands in a model: the permutation from its layout to ours and back.
LAYOUTS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "btd": ((0, 1, 2), (0, 1, 2)),
    "bdt": ((0, 2, 1), (0, 2, 1)),
    "tbd": ((1, 0, 2), (1, 0, 2)),
}


@dataclass(frozen=True)
class Placement:
    """Which features of a module a guide gets, and where it finds what else it needs.

    Attributes:
        side: "output" or "input" of the module.
        layout: the order of the axes of its features: "btd", "bdt" or "tbd".
        item: where the features are: a name or a position in an output that is a dict, a tuple or a dataclass, or of
            an argument, however the call gives it. By default the whole output, or the first argument.
        mask: name or position of the module's argument that holds a clip mask (B, T), True where a clip is real.
        padding_mask: the same for a mask that is True, or below 0, where a clip is padding, as torch's masks are.
        edge_weight: name or position of the module's argument that holds edge weights (B, T, M).

    Raises:
        ValueError: an unknown side or layout, or both masks.
    """

    side: str = "output"
    layout: str = "btd"
    item: Index | None = None
    mask: Index | None = None
    padding_mask: Index | None = None
    edge_weight: Index | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.side not in SIDES:
            raise ValueError(f"unknown side {self.side!r}; there are {', '.join(SIDES)}")
        if self.layout not in LAYOUTS:
            raise ValueError(f"unknown layout {self.layout!r}; there are {', '.join(LAYOUTS)}")
        if self.mask is not None and self.padding_mask is not None:
            raise ValueError(f"one mask says it all; give mask={self.mask!r} or padding_mask={self.padding_mask!r}")
