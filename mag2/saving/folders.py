"""Weights and a JSON beside them, in one folder: written whole, read strictly."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mag2.nn.state_dicts import load_strictly, without_prefix
from mag2.saving.atomic_io import replacing
from mag2.saving.bounded_json import load_json
from mag2.saving.places import make_folder
from mag2.saving.sentences import shortened

# What a JSON says its format is. 1: kinds are places of classes (mag2 0.1). 2: kinds are names of the registry.
FORMAT, FORMATS = 2, (1, 2)


def library_version() -> str:
    """Return the version of this library; "unknown" where it is not installed."""
    try:
        return version("mag2")
    except PackageNotFoundError:
        return "unknown"


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module by its plain keys, each tensor whole and on its own on the CPU; one on meta stays there.

    What lies in shards over several processes is gathered: then each of them has to call this.

    Raises:
        ValueError: an extra state that is no tensor.
    """
    weights = without_prefix(module.state_dict())
    odd = [key for key, value in weights.items() if not isinstance(value, Tensor)]
    if odd:
        raise ValueError(
            f"{odd[0]} of {type(module).__name__} is a {type(weights[odd[0]]).__name__}; save tensors only"
        )
    return {key: _whole(value) for key, value in weights.items()}


def _whole(value: Tensor) -> Tensor:
    """A tensor without its history, gathered where it is a DTensor."""
    gather = getattr(value, "full_tensor", None)
    value = (value if gather is None else gather()).detach()
    return value if value.is_meta else value.cpu().contiguous().clone()


def write_folder(folder: Path, names: tuple[str, str], weights: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write weights (safetensors) and what they are (JSON) under two names; neither is ever seen half-written.

    Both are written aside and then renamed, one right after the other. The JSON holds the digest of its weights, by
    which `read_weights` knows a pair of two saves.
    """
    from safetensors.torch import save

    make_folder(folder)
    data = save(weights, metadata={"format": "pt"})
    text = json.dumps({**about, "sha256": hashlib.sha256(data).hexdigest()}, indent=2, ensure_ascii=False)
    with replacing(folder / names[1]) as described, replacing(folder / names[0]) as weighted:
        weighted.write_bytes(data)
        described.write_text(text + "\n", encoding="utf-8")


def check_readable(about: dict[str, Any], keys: set[str], path: Path) -> None:
    """Refuse what a later version wrote and this one cannot read.

    Args:
        about: the JSON. keys: those that this version knows. path: of the file, for the error.

    Raises:
        ValueError: a later format, or an unknown key; the sentence names the version that wrote it.
    """
    form, writer = about.get("format", 1), f"{about.get('mag2', 'unknown')!s:.40}"
    if form not in FORMATS or isinstance(form, bool):
        read = " and ".join(map(str, FORMATS))
        raise ValueError(
            f"{path} has format {shortened(form)}, mag2 {writer} wrote it; this version of mag2 reads {read}"
        )
    unknown = sorted(set(about) - keys)
    if unknown:
        raise ValueError(
            f"{path} has {shortened(unknown[0])}, which mag2 {library_version()} does not know; mag2 {writer} wrote "
            f"it, load it with that version"
        )


def read_json(path: Path, writer: str) -> dict[str, Any]:
    """The JSON at a path.

    Raises:
        ValueError: no such file, or not what `writer` writes.
    """
    if not path.is_file():
        raise ValueError(f"no {path.name} in {path.parent}; give a folder that {writer} wrote")
    try:
        about = load_json(path)
    except ValueError as fault:
        raise ValueError(f"{path} {fault}; give a folder that {writer} wrote") from None
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
