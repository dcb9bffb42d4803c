"""Texts: the features of a sport's prompts, their provenance, controls, and texts that train with the model."""

from mag2.texts.controls import CONTROLS, TEXT_CONTROLS, controlled
from mag2.texts.features import TextFeatures
from mag2.texts.learned import LearnedPrompts, LiveTexts, TrainableTextEncoder, learnable_prompts
from mag2.texts.projected import ProjectedTexts
from mag2.texts.provenance import Provenance, TextRows, provenance_of

__all__ = [
    "CONTROLS",
    "TEXT_CONTROLS",
    "LearnedPrompts",
    "LiveTexts",
    "ProjectedTexts",
    "Provenance",
    "TextFeatures",
    "TextRows",
    "TrainableTextEncoder",
    "controlled",
    "learnable_prompts",
    "provenance_of",
]
