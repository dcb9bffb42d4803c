"""Adapters that attach texts and MAG2 to the models of the field: functions `with_texts` and `with_mag2` for each.

`mag2.alignment.SimilarityWeighted` around a model with MAG2 gives weights to the edges of all its guides.
"""

from mag2.adapters import cofinal, gdlt, pamfn, qtd

__all__ = ["cofinal", "gdlt", "pamfn", "qtd"]
