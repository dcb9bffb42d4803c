"""Texts and MAG2 in QTD, and in any model that has submodules `query_embed` and `decoder`."""

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
    """Replace the queries of a model by the N projected grade texts: "+Texts" in Table 4.

    The queries then get no positional code, because grades have no order in time. The model is changed in place and
    returned; `mag2.detach` undoes it. The paper does not say how it put texts into this model; this is our choice.

    Args:
        model: has an `nn.Embedding` at `query_embed`.
        texts: whose N visual grade texts become the queries.

    Raises:
        ValueError: the model has no `query_embed`, or no plain `nn.Embedding` there; or texts are attached there
            already.
    """
    return replace_queries(model, texts, at="query_embed", as_many=False, settings=PLAIN_QUERIES)


def with_mag2(
    model: nn.Module,
    texts: TextFeatures,
    dropout: float = 0.3,
    control: str | None = None,
    start: str = "residual",
) -> nn.Module:
    """Guide the memory (T, B, d) of a model's decoder by the visual action texts: "+MAG2" in Table 4.

    The memory is the decoder's second argument. The model is changed in place and returned; `mag2.detach` undoes it.
    The paper does not say where it put MAG2 in this model; this is our choice.

    Args:
        model: has an `nn.Embedding` of width d at `query_embed`, and a module `decoder`.
        texts: whose visual action texts guide.
        dropout: of the guide; 0.3 (released training command).
        control: what to remove from the guide, for comparison, as in `ActionGraphGuidance`.
        start: how the guide's output enters the model, as in `mag2.attach`.

    Raises:
        ValueError: the model has no `decoder` or no `nn.Embedding` at `query_embed`; a guide is attached there already;
            an unknown control or start.
    """
    guide = ActionGraphGuidance(query_width(model, "query_embed"), texts.visual, dropout=dropout, control=control)
    return attach(model, guide, at="decoder", side="input", item=1, layout="tbd", start=start)
