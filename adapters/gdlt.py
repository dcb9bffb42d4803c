"""Texts and MAG2 in GDLT, and in any model with its places: `prototype` and `transformer.encoder`."""

from torch import nn

from mag2.adapters.queries import query_width, replace_queries
from mag2.guidance import ActionGraphGuidance
from mag2.plugin import attach
from mag2.texts import TextFeatures

__all__ = ["with_mag2", "with_texts"]


def with_texts(model: nn.Module, texts: TextFeatures) -> nn.Module:
    """The "+Texts" of Table 4: the projected grade texts, as many as the model has prototypes, replace them.

    The model is changed in place and returned; `mag2.detach` undoes it.

    Raises:
        ValueError: the model has no `prototype`, or the texts lack words for that number of grades.
    """
    return replace_queries(model, texts, at="prototype")


def with_mag2(
    model: nn.Module,
    texts: TextFeatures,
    dropout: float = 0.3,
    control: str | None = None,
    start: str = "residual",
) -> nn.Module:
    """The "+MAG2" of Table 4: the visual action texts guide what comes out of the transformer encoder.

    The model is changed in place and returned; `mag2.detach` undoes it.

    Args:
        control: what to remove from the guide, for comparison (`ActionGraphGuidance`).
        start: how the guide enters, as in `mag2.attach`.

    Raises:
        ValueError: the model has no `transformer.encoder`, or is guided there already; an unknown control or start.
    """
    guide = ActionGraphGuidance(query_width(model, "prototype"), texts.visual, dropout=dropout, control=control)
    return attach(model, guide, at="transformer.encoder", start=start)
