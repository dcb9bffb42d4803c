"""Weights of encoders: those of a local file, and the digest that tells two sets of weights apart."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.nn.state_dicts import without_prefix
from mag2.saving.sentences import one_line
from mag2.saving.torch_files import load_torch

__all__ = ["digest", "is_file_name", "read_weights"]

_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


def is_file_name(weights: str) -> bool:
    """Whether weights are meant as a path and not as a tag."""
    return weights.startswith(("/", "./", "../", "~")) or weights.endswith(_ENDINGS) or Path(weights).exists()


def read_weights(path: Path, *, strip: str = "", without: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The state dict of a local file, `.safetensors` or `torch.save`, by its plain keys.

    Args:
        path: of the file.
        strip: a prefix to take off where keys have it.
        without: prefixes of keys to leave out, for example of a classification head.

    Raises:
        ValueError: no such file, or no state dict in it.
    """
    if not path.is_file():
        raise ValueError(f"there is no weight file {path}; give the path of a state dict")
    try:
        saved: Any
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            saved = load_file(path)
        else:
            saved = load_torch(path)
    except Exception as error:  # safetensors raises its own
        line = one_line(str(error).strip().partition("\n")[0])
        raise ValueError(f"{path} holds no weights that can be read safely ({line}); save a state_dict") from None
    for key in ("state_dict", "model"):
        if isinstance(saved, Mapping) and isinstance(saved.get(key), Mapping):
            saved = saved[key]
    if not isinstance(saved, Mapping) or not all(isinstance(value, Tensor) for value in saved.values()):
        raise ValueError(f"{path} holds no state dict; save the state_dict of the encoder")
    plain = {key.removeprefix(strip): value for key, value in without_prefix(saved).items()}
    return {key: value for key, value in plain.items() if not key.startswith(without)} if without else plain


def digest(module: nn.Module) -> str:
    """A hash of all weights and buffers of a module."""
    hash_ = hashlib.blake2b(digest_size=16)
    for key, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            hash_.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
            hash_.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hash_.hexdigest()
