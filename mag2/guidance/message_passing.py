"""Graphs other than the complete one, on PyG. Nothing else imports PyG, which takes seconds."""

import warnings
from collections.abc import Callable
from types import ModuleType

from torch import Tensor, nn

__all__ = ["Convolution", "make_convolution", "neighbour_mean"]

# A graph convolution is any module called as `conv(x, edge_index)`, made from its widths.
Convolution = Callable[[int, int], nn.Module]
PYG_CONVOLUTIONS = {"gcn": "GCNConv", "gat": "GATConv"}


def neighbour_mean(x: Tensor, edge_index: Tensor) -> Tensor:
    """Return for each node the mean of the rows of x (N, d) at the sources of its edges; 0 for a node without edges.

    `edge_index` is (2, E), row 0 the sources.
    """
    return _pyg().SimpleConv(aggr="mean")(x, edge_index)


def make_convolution(name: str) -> Convolution:
    """PyG's convolution of that name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in PYG_CONVOLUTIONS:
        known = ", ".join(PYG_CONVOLUTIONS)
        raise ValueError(f"unknown convolution {name!r}; there are sage, {known}, or give a function")
    return getattr(_pyg(), PYG_CONVOLUTIONS[name])


def _pyg() -> ModuleType:
    # Its import warns of a part of torch that it uses and this library does not.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        import torch_geometric.nn
    return torch_geometric.nn
