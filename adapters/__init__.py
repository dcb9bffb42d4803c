"""What to plug where in the models of the field: `with_texts` and `with_mag2` for each.

`mag2.alignment.weighted.SimilarityWeighted` around a model with MAG2 weighs the edges of all its guides.
"""

from mag2.adapters import cofinal, gdlt, pamfn, qtd

__all__ = ["cofinal", "gdlt", "pamfn", "qtd"]
