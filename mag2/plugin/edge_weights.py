"""Edge weights for the guides in a model whose own call does not accept them."""

import contextlib
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from mag2.plugin.attaching import Attached, attached
from mag2.plugin.feature_plug import FeaturePlug
from mag2.plugin.places import listed
from mag2.plugin.signature import accepts, refusal
from mag2.plugin.wrappers import base_of

__all__ = ["edge_weights_of", "weightable"]

Weights = Tensor | None


@contextlib.contextmanager
def edge_weights_of(model: nn.Module, weights: Weights | Mapping[str, Weights]) -> Iterator[nn.Module]:
    """Give edge weights (B, T, M) to attached guides inside a `with` block, in any layout of their places.

    All guides of the model and of its submodules that accept `edge_weight` get the same weights. With the control
    "no_edges" weights change nothing. A disabled guide stays disabled. Weights in the call itself
    (``attach(..., edge_weight=...)``) take precedence. Copies of the model that are made inside the block get no
    weights. Gradient checkpointing runs the model again in the backward pass; then that pass must be inside the block.

    Args:
        model: with guides attached; compiled and DDP ones too.
        weights: (B, T, M), with T the number of clips that the guides get; None for the complete graph. Or a dict from
            paths of places, as `attached` lists them, to such weights; other places keep theirs.

    Raises:
        ValueError: no guide accepts weights, a given path has no such guide, or a guide with weights is folded. When
            the model is called: weights of another shape, below 0 or not finite.
        RuntimeError: a gradient checkpoint runs a guide again outside the block.
    """
    places = [place for place in attached(model) if isinstance(place.plug, FeaturePlug)]
    chosen = _chosen(places, weights) if isinstance(weights, Mapping) else _all(model, places, weights)
    before = [(plug, plug.outer_weights) for plug, _ in chosen]
    try:
        for plug, given in chosen:
            plug.outer_weights = given
        yield model
    finally:
        for plug, was in reversed(before):
            plug.outer_weights = was


def weightable(model: nn.Module) -> list[Attached]:
    """List the places of a model whose guides accept edge weights."""
    places = attached(model)
    return [place for place in places if isinstance(place.plug, FeaturePlug) and accepts(place.module, "edge_weight")]


def _all(model: nn.Module, places: list[Attached], weights: Weights) -> list[tuple[FeaturePlug, Weights]]:
    able = [place for place in places if accepts(place.module, "edge_weight") or refusal(place.module, "edge_weight")]
    if not able:
        there = f"it has {', '.join(map(repr, places))}" if places else "nothing is attached to it"
        raise ValueError(
            f"no guide of this {type(base_of(model)).__name__} takes edge weights: {there}; "
            f"attach an ActionGraphGuidance that owns texts"
        )
    return [_given(place, weights) for place in able]


def _chosen(places: list[Attached], weights: Mapping[str, Weights]) -> list[tuple[FeaturePlug, Weights]]:
    unknown = set(weights) - {place.at for place in places}
    if unknown:
        raise ValueError(f"no guide sits at {min(unknown)!r}; guides sit at {listed(place.at for place in places)}")
    return [_given(place, weights[place.at]) for place in places if place.at in weights]


def _given(place: Attached, weights: Weights) -> tuple[FeaturePlug, Weights]:
    plug = place.plug
    assert isinstance(plug, FeaturePlug)
    if weights is not None:
        plug.check_takes_weights()
    return plug, weights
