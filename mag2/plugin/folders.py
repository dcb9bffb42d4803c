"""Weights and a JSON beside them, in one folder: written whole, read strictly."""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mag2.baselines.released import load_strictly, without_prefix


def library_version() -> str:
    """The version of this library; "unknown" where it is not installed."""
    try:
        return version("mag2")
    except PackageNotFoundError:
        return "unknown"


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module by its plain keys, each tensor on its own on the CPU.

    Raises:
        ValueError: an extra state that is no tensor.
    """
    weights = without_prefix(module.state_dict())
    odd = [key for key, value in weights.items() if not isinstance(value, Tensor)]
    if odd:
        raise ValueError(
            f"{odd[0]} of {type(module).__name__} is a {type(weights[odd[0]]).__name__}; save tensors only"
        )
    return {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}


def write_folder(folder: Path, names: tuple[str, str], weights: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write weights (safetensors) and what they are (JSON) under two names; neither is ever seen half-written.

    Both are written aside and then renamed, one right after the other. The JSON holds the digest of its weights, by
    which `read_folder` knows a pair that was torn apart between the two.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    data = save(weights, metadata={"format": "pt"})
    text = json.dumps({**about, "sha256": hashlib.sha256(data).hexdigest()}, indent=2, ensure_ascii=False)
    partial = [folder / f"{name}.{os.getpid()}.partial" for name in names]
    try:
        partial[0].write_bytes(data)
        partial[1].write_text(text + "\n", encoding="utf-8")
        for path, name in zip(partial, names, strict=True):
            path.replace(folder / name)
    finally:
        for path in partial:
            path.unlink(missing_ok=True)


def read_json(path: Path, writer: str) -> dict[str, Any]:
    """The JSON at a path.

    Raises:
        ValueError: no such file, or not what `writer` writes.
    """
    if not path.is_file():
        raise ValueError(f"no {path.name} in {path.parent}; give a folder that {writer} wrote")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); give a folder that {writer} wrote") from None
    if not isinstance(about, dict):
        raise ValueError(f"{path} holds a {type(about).__name__}; give a folder that {writer} wrote")
    return about


def read_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file by their plain keys.

    Raises:
        ValueError: no such file, not safetensors, or not those of the digest.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise ValueError(f"no {path.name} in {path.parent}; the weights belong beside the JSON")
    data = path.read_bytes()
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path} is not of the same save as the JSON beside it; save again")
    try:
        return without_prefix(load(data))
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error})") from None


def load_into(module: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load weights that must fit in every key and shape, in the precision in which they were saved.

    Raises:
        ValueError: naming the keys that are missing, unexpected or of another shape.
    """
    like = next((value for value in weights.values() if value.is_floating_point()), None)
    if like is not None:
        module.to(like.dtype)
    try:
        load_strictly(module, weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
