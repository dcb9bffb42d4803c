"""mag2: language-guided audio-visual scoring of long sports performances, as drop-in modules."""

from mag2.fusion import AudioVisualFusion
from mag2.grading import PromptGuidedGrading
from mag2.guidance import ActionGraphGuidance
from mag2.mlavl import MLAVL
from mag2.plugin import attach, attached, detach, disabled, load_plugin, save_plugin
from mag2.texts import TextFeatures
from mag2.weighting import SimilarityWeighted

__all__ = [
    "MLAVL",
    "ActionGraphGuidance",
    "AudioVisualFusion",
    "PromptGuidedGrading",
    "SimilarityWeighted",
    "TextFeatures",
    "attach",
    "attached",
    "detach",
    "disabled",
    "load_plugin",
    "save_plugin",
]
