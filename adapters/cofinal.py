"""Texts and MAG2 in CoFInAl: as in GDLT, it has submodules `prototype` and `transformer.encoder`."""

from mag2.adapters.gdlt import with_mag2, with_texts

__all__ = ["with_mag2", "with_texts"]
