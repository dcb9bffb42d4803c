"""Text encoders by name: prompts in, one feature row per prompt out.

`open_clip:<model>/<weights>` is a CLIP text tower through open_clip (weights: a tag such as `openai`, or a local
checkpoint); `sentence-transformers:<name or folder>` is a BERT-like sentence encoder; `random:<seed>` is a small CLIP
that was never trained, for trials without weights. Neither library is imported before a name needs it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mag2.encoders.clip import OpenClipEncoder, load_clip
from mag2.encoders.sentence import load_sentence_encoder

__all__ = ["TextEncoder", "load_text_encoder", "source_of"]

TextEncoder = Callable[[Sequence[str]], Tensor]
_FORMS = "open_clip:<model>/<weights>, sentence-transformers:<name or folder> or random:<seed>"


def load_text_encoder(
    name: str, *, checkpoint: str | Path | None = None, device: torch.device | str = "cpu"
) -> TextEncoder:
    """The encoder of that name as a function from prompts to features (P, D), float32, on the CPU.

    Args:
        name: `open_clip:ViT-B-16/openai`, `open_clip:ViT-B-16//home/me/clip.pt`,
            `sentence-transformers:all-MiniLM-L6-v2`, `random:0`, ...
        checkpoint: for open_clip, a file that is laid over the weights: a fine-tuned CLIP in OpenAI's names, or a
            ViFi-CLIP checkpoint, of which the text encoder is taken.
        device: where the encoder runs.

    Raises:
        ValueError: the name has another form, the model or the file does not exist, or the checkpoint does not fit.
    """
    kind, _, rest = name.partition(":")
    if kind == "sentence-transformers" and rest:
        if checkpoint is not None:
            raise ValueError(f"checkpoint= goes with open_clip encoders; {name!r} takes its folder in the name")
        return load_sentence_encoder(rest, device)
    model, model_name = load_clip(name, checkpoint, _FORMS)
    return OpenClipEncoder(model, model_name, device)


def source_of(encoder: str, checkpoint: str | Path | None) -> str:
    """What text features say they came from."""
    return encoder if checkpoint is None else f"{encoder} + {Path(checkpoint).name}"
