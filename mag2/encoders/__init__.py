"""Text encoders: by name, frozen; and a text tower that can be trained."""

from mag2.encoders.clip import Tokenizer, load_open_clip, load_text_tower
from mag2.encoders.loading import TextEncoder, checked_features, load_text_encoder, source_of
from mag2.encoders.text_tower import TextTower

__all__ = [
    "TextEncoder",
    "TextTower",
    "Tokenizer",
    "checked_features",
    "load_open_clip",
    "load_text_encoder",
    "load_text_tower",
    "source_of",
]
