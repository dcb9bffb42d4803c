"""CLIP text towers through open_clip: built, loaded from a tag or a file, and run frozen."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.encoders.random_weights import from_seed, seed_of
from mag2.saving.sentences import one_line
from mag2.saving.torch_files import TorchFileError, check_torch_file, load_torch

__all__ = ["TOWERS", "OpenClipEncoder", "Tokenizer", "load_clip", "load_open_clip", "load_text_tower"]

# Called with a list of prompts and context_length=; gives token ids (P, context_length).
Tokenizer = Callable[..., Tensor]

TOWERS = "open_clip:<model>/<weights> or random:<seed>"
# The small CLIP of `random:<seed>`: the sizes are ours, tokens and their number those of every CLIP.
_SMALL: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}


def load_text_tower(name: str, *, checkpoint: str | Path | None = None) -> tuple[nn.Module, Tokenizer]:
    """Load a CLIP whose text tower can be trained, and its tokenizer.

    Args:
        name: `open_clip:<model>/<weights>` or `random:<seed>`, as in `load_text_encoder`.
        checkpoint: as in `load_text_encoder`.

    Returns:
        The open_clip model in float32 on the CPU, and its tokenizer.

    Raises:
        ValueError: as `load_text_encoder`; a sentence encoder is refused too.
    """
    import open_clip

    model, model_name = load_clip(name, checkpoint, TOWERS)
    return model, open_clip.get_tokenizer(model_name)


class OpenClipEncoder:
    """A frozen open_clip model as a function from prompts to text features, in batches and without gradients."""

    def __init__(self, model: nn.Module, model_name: str, device: torch.device | str = "cpu", batch: int = 64):
        """Use an open_clip model, and the model name of its tokenizer."""
        import open_clip

        self.model: Any = model.to(device).eval().requires_grad_(False)
        self.tokenize = open_clip.get_tokenizer(model_name)
        self.device = device
        self.batch = batch

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Return the features (P, D) of P prompts."""
        tokens = self.tokenize(list(prompts)).to(self.device)
        return torch.cat([self.model.encode_text(part).float().cpu() for part in tokens.split(self.batch)])


def load_clip(
    name: str, checkpoint: str | Path | None, forms: str, *, what: str = "text encoder"
) -> tuple[nn.Module, str]:
    """Load the CLIP of a name, and the model name of its tokenizer; errors name `what` it is for and the `forms`.

    Raises:
        ValueError: the name has another form, or as `load_open_clip`.
    """
    kind, _, rest = name.partition(":")
    if kind == "open_clip" and "/" in rest:
        model_name, _, weights = rest.partition("/")
        return load_open_clip(model_name, weights, checkpoint), model_name
    if kind == "random" and rest.isdecimal():
        if checkpoint is not None:
            raise ValueError(f"checkpoint= goes with open_clip encoders; the weights of {name!r} are random")
        return _random_clip(int(rest)), "ViT-B-16"
    raise ValueError(f"unknown {what} {name!r}; a name looks like {forms}")


def _random_clip(seed: int) -> nn.Module:
    import open_clip

    with from_seed(seed):
        return open_clip.CLIP(**_SMALL)


def load_open_clip(model_name: str, weights: str, checkpoint: str | Path | None = None) -> nn.Module:
    """Load an open_clip model.

    With a tag the activation of the model is set too: OpenAI's weights need QuickGELU. With a file it is not; for
    weights that were fine-tuned from OpenAI's give the model as `ViT-B-16-quickgelu`.

    Args:
        model_name: a model of open_clip, `ViT-B-16` for example.
        weights: a tag such as `openai`, a local file, or `random:SEED`.
        checkpoint: a file whose text weights replace those of the model.

    Raises:
        ValueError: no such model, tag or file, or a checkpoint that does not fit.
    """
    import open_clip

    if model_name not in open_clip.list_models():
        near = [known for known in open_clip.list_models() if known.startswith(model_name[:5])]
        raise ValueError(f"open_clip has no model {model_name!r}; close names: {', '.join(near[:8]) or 'none'}")
    tags, seed = open_clip.list_pretrained_tags_by_model(model_name), seed_of(weights)
    if seed is None and weights not in tags and not Path(weights).is_file():
        raise ValueError(
            f"{weights!r} is neither a file nor weights of {model_name}; its weights are {', '.join(tags) or 'none'}"
        )
    if seed is None and weights not in tags and not weights.endswith((".safetensors", ".npz", ".npy")):
        try:
            check_torch_file(weights)
        except TorchFileError as fault:
            raise ValueError(f"{weights} {fault}; give a checkpoint of {model_name}") from fault
    quick_gelu = weights in tags and open_clip.get_pretrained_cfg(model_name, weights).get("quick_gelu", False)
    try:
        if seed is not None:
            with from_seed(seed), _without_root_log():
                model = open_clip.create_model(model_name, pretrained_hf=False)
        else:
            model = open_clip.create_model(model_name, pretrained=weights, force_quick_gelu=quick_gelu)
    except Exception as error:  # open_clip raises what its downloader or torch raises
        reason = one_line(str(error).strip().partition("\n")[0]) or "open_clip says no more"
        raise ValueError(f"could not load {weights!r} into open_clip's {model_name}: {reason}") from error
    if checkpoint is not None:
        _overlay_text_side(model, Path(checkpoint))
    return model


@contextmanager
def _without_root_log() -> Iterator[None]:
    """Keep a `with` from logging: that nothing was loaded is what was asked for.

    open_clip logs through the root logger; with no handler there, that would set one up for all of the process.
    """
    handler, root = logging.NullHandler(), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


# Where the parts of a CLIP text tower stand in an open_clip CLIP; ViFi-CLIP puts `text_encoder.` before them.
_TEXT_PARTS = ("transformer.", "positional_embedding", "ln_final.", "text_projection", "token_embedding.")
# ViFi-CLIP keeps no token table: its tokens are those of the CLIP that it began from.
_MAY_BE_ABSENT = "token_embedding."


def _overlay_text_side(model: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"no checkpoint {path}; give a file")
    try:
        saved = load_torch(path)
    except TorchFileError as fault:
        raise ValueError(f"{path} {fault}; give a checkpoint of a CLIP or a ViFi-CLIP") from fault
    saved = saved.get("state_dict", saved.get("model", saved)) if isinstance(saved, dict) else saved
    if not isinstance(saved, dict):
        raise ValueError(f"{path} holds no state_dict; give a checkpoint of a CLIP or a ViFi-CLIP")
    model = getattr(model, "text", model)  # open_clip's CustomTextCLIP has them in a module of their own
    tower = {key for key in model.state_dict() if key.startswith(_TEXT_PARTS)}
    found = {}
    for key, value in saved.items():
        key = key.removeprefix("module.").removeprefix("text_encoder.")
        if key in tower:
            found[key] = value
    missing = sorted(key for key in tower - found.keys() if not key.startswith(_MAY_BE_ABSENT))
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing)} weights of the text tower (first: {missing[0]}); "
            f"give a CLIP or ViFi-CLIP checkpoint of the same size"
        )
    own = model.state_dict()
    for key, value in found.items():
        if value.shape != own[key].shape:
            raise ValueError(f"{path}: {key} is {tuple(value.shape)}, the tower wants {tuple(own[key].shape)}")
    model.load_state_dict(found, strict=False)
