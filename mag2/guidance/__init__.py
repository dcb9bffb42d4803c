"""MAG2: the action graph, the guide that runs it, the guide without texts, and the designs of Table 1."""

from mag2.guidance.action_graph import action_graph
from mag2.guidance.folded import FoldedGuidance
from mag2.guidance.graph import ActionGraphGuidance
from mag2.guidance.variants import GUIDES, MLPGuidance, TransformerGuidance, make_guides

__all__ = [
    "GUIDES",
    "ActionGraphGuidance",
    "FoldedGuidance",
    "MLPGuidance",
    "TransformerGuidance",
    "action_graph",
    "make_guides",
]
