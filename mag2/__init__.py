"""mag2: language-guided audio-visual scoring of long sports performances, as drop-in modules."""

from mag2.alignment import SimilarityWeighted
from mag2.fusion import AudioVisualFusion
from mag2.grading import PromptGuidedGrading
from mag2.guidance import ActionGraphGuidance
from mag2.mlavl import MLAVL
from mag2.plugin import (
    attach,
    attached,
    detach,
    disabled,
    load_plugin,
    print_trainable_parameters,
    save_plugin,
)
from mag2.saving import library_version
from mag2.scoring import Trained, load_trained
from mag2.texts import TextFeatures

__version__ = library_version()

__all__ = [
    "MLAVL",
    "ActionGraphGuidance",
    "AudioVisualFusion",
    "PromptGuidedGrading",
    "SimilarityWeighted",
    "TextFeatures",
    "Trained",
    "__version__",
    "attach",
    "attached",
    "detach",
    "disabled",
    "load_plugin",
    "load_trained",
    "print_trainable_parameters",
    "save_plugin",
]
