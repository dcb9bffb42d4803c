"""Text encoders by name, frozen; a text tower that can be trained; CLIP image towers."""

from mag2.encoders.clip import Tokenizer, load_open_clip, load_text_tower
from mag2.encoders.image_tower import load_image_tower
from mag2.encoders.loading import TextEncoder, checked_features, load_text_encoder, source_of
from mag2.encoders.random_weights import from_seed, seed_of
from mag2.encoders.text_tower import TextTower

__all__ = [
    "TextEncoder",
    "TextTower",
    "Tokenizer",
    "checked_features",
    "from_seed",
    "load_image_tower",
    "load_open_clip",
    "load_text_encoder",
    "load_text_tower",
    "seed_of",
    "source_of",
]
