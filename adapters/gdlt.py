"""Texts and MAG2 in GDLT, and in any model that has submodules `prototype` and `transformer.encoder`."""

from torch import nn

from mag2.adapters.queries import query_width, replace_queries
from mag2.guidance import ActionGraphGuidance
from mag2.plugin import attach
from mag2.texts import TextFeatures

__all__ = ["with_mag2", "with_texts"]


def with_texts(model: nn.Module, texts: TextFeatures) -> nn.Module:
    """Replace the learnable prototypes of a model by projected grade texts: "+Texts" in Table 4.

    The model is changed in place and returned; `mag2.detach` undoes it. The paper does not say how it put texts into
    this model; this is our choice.

    Args:
        model: has an `nn.Embedding` at `prototype`, K prototypes of width d.
        texts: of its grades, K are used (`TextFeatures.with_grades`).

    Raises:
        ValueError: the model has no `prototype`, or no plain `nn.Embedding` there; texts are attached there already; or
            the texts have no words for K grades.
    """
    return replace_queries(model, texts, at="prototype")


def with_mag2(
    model: nn.Module,
    texts: TextFeatures,
    dropout: float = 0.3,
    control: str | None = None,
    start: str = "residual",
) -> nn.Module:
    """Guide the output (B, T, d) of a model's transformer encoder by the visual action texts: "+MAG2" in Table 4.

    The model is changed in place and returned; `mag2.detach` undoes it. The paper does not say where it put MAG2 in
    this model; this is our choice.

    Args:
        model: has an `nn.Embedding` of width d at `prototype`, and a module `transformer.encoder`.
        texts: whose visual action texts guide.
        dropout: of the guide; 0.3 (released training command).
        control: what to remove from the guide, for comparison, as in `ActionGraphGuidance`.
        start: how the guide's output enters the model, as in `mag2.attach`.

    Raises:
        ValueError: the model has no `transformer.encoder` or no `nn.Embedding` at `prototype`; a guide is attached
            there already; an unknown control or start.
    """
    guide = ActionGraphGuidance(query_width(model, "prototype"), texts.visual, dropout=dropout, control=control)
    return attach(model, guide, at="transformer.encoder", start=start)
