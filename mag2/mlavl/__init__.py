"""MLAVL, the paper's model, and its form without texts."""

from mag2.mlavl.folded import FoldedMLAVL
from mag2.mlavl.model import MLAVL
from mag2.mlavl.released import released_name

__all__ = ["MLAVL", "FoldedMLAVL", "released_name"]
