"""Texts and MAG2 in QTD, and in any model with its places: `query_embed` and `decoder`."""

from torch import nn

from mag2.adapters.queries import query_width, replace_queries
from mag2.guidance import ActionGraphGuidance
from mag2.plugin import attach
from mag2.texts import TextFeatures

__all__ = ["with_mag2", "with_texts"]

# Texts have no order in time, and the released code would overwrite them with noise.
# `query_positions` is ours; the authors' class has a text `pe`.
PLAIN_QUERIES = {
    "query_positions": False,
    "query_var": 1.0,
    "pe": {"query_pe": "no", "query_memory_pe": "memory_pe"},
}


def with_texts(model: nn.Module, texts: TextFeatures) -> nn.Module:
    """The "+Texts" of Table 4: the N projected grade texts replace the queries, without positions.

    The model is changed in place and returned; `mag2.detach` undoes it.

    Raises:
        ValueError: the model has no `query_embed`, or texts sit there already.
    """
    return replace_queries(model, texts, at="query_embed", as_many=False, settings=PLAIN_QUERIES)


def with_mag2(
    model: nn.Module,
    texts: TextFeatures,
    dropout: float = 0.3,
    control: str | None = None,
    start: str = "residual",
) -> nn.Module:
    """The "+MAG2" of Table 4: the visual action texts guide the clips that the decoder reads as its memory, (T, B, d).

    The model is changed in place and returned; `mag2.detach` undoes it.

    Args:
        control: what to remove from the guide, for comparison (`ActionGraphGuidance`).
        start: how the guide enters, as in `mag2.attach`.

    Raises:
        ValueError: the model has no `decoder`, or is guided there already; an unknown control or start.
    """
    guide = ActionGraphGuidance(query_width(model, "query_embed"), texts.visual, dropout=dropout, control=control)
    return attach(model, guide, at="decoder", side="input", item=1, layout="tbd", start=start)
