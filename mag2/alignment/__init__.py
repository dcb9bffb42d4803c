"""Similarity from outside: which action text each clip resembles, as edge weights and as names."""

from mag2.alignment.similarity import clip_text_similarity, edge_weights
from mag2.alignment.timeline import Timeline, name_actions
from mag2.alignment.weighted import SimilarityWeighted

__all__ = ["SimilarityWeighted", "Timeline", "clip_text_similarity", "edge_weights", "name_actions"]
