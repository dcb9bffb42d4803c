"""Text features and their encoders, loaded once per process: loading takes seconds, and every row needs its texts."""

from functools import cache
from pathlib import Path
from typing import Any

from mag2.encoders import TextEncoder, load_text_encoder
from mag2.texts import TextFeatures
from mag2.vocabulary import make_prompts

__all__ = ["load_texts"]


def load_texts(sport: str, encoder: str = "shipped", **prompts: Any) -> TextFeatures:
    """Call `TextFeatures.load` once per process for the same arguments; files are read again when they have changed.

    Different prompts of one encoder share the encoder.
    """
    return _load(sport, encoder, _version(encoder), tuple(sorted(prompts.items())))


@cache
def _load(
    sport: str, encoder: str, version: tuple[int, int] | None, prompts: tuple[tuple[str, Any], ...]
) -> TextFeatures:
    if encoder == "shipped" or version is not None:
        return TextFeatures.load(sport, encoder, **dict(prompts))
    templates = dict(prompts)
    made = make_prompts(sport, templates.pop("n_grades", 6), **templates)
    return TextFeatures.from_rows(_encoder(encoder)(made.rows), made, sport=sport, source=encoder)


@cache
def _encoder(name: str) -> TextEncoder:
    return load_text_encoder(name)


def _version(encoder: str) -> tuple[int, int] | None:
    """Size and time of a file or folder of text features; None where the encoder is a name."""
    path = Path(encoder)
    if not path.exists():
        return None
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
