"""What each clip adds to a score: by leaving it out, or by the gradient."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mag2.data import Batch
from mag2.saving.sentences import check_name
from mag2.training.prediction import call_model
from mag2.training.run import autocast

__all__ = ["METHODS", "contributions"]

_PARTS = ("visual", "audio", "flow", "vision_language")


def occlusion(model: nn.Module, batch: Batch, real: int, *, size: int, precision: str = "float32") -> Tensor:
    """The score less the score with a clip left out, for each of the `real` first clips (real,) of one video.

    A clip that is left out is replaced, in every modality, by the mean of the video's other clips: the video keeps its
    length and its character, and nothing is seen that no video has. Above zero: the clip raises the score. These
    numbers do not sum to the score, because the model reads clips together.

    Args:
        batch: of one video. size: variants a batch.
    """
    device = batch.visual.device
    if real < 2:  # nothing would be left
        return torch.full((real,), torch.nan)
    with torch.no_grad(), autocast(str(device), precision):
        whole = call_model(model, batch)["score"].float()
        scores = []
        for clips in torch.arange(real, device=device).split(size):
            parts: Any = {name: _without(getattr(batch, name), clips, real) for name in _PARTS}
            part = Batch(**parts, label=batch.label.expand(len(clips)))
            scores.append(call_model(model, part)["score"].float())
    return (whole - torch.cat(scores)).cpu()


def gradient_times_input(model: nn.Module, batch: Batch, real: int, *, size: int, precision: str = "float32") -> Tensor:
    """The gradient of the score with respect to a clip's features, times these, summed over all modalities (real,).

    One backward pass instead of a pass for each clip. It is the first-order change of the score from the clip's
    features to zeros; the less linear the model, the less it says about leaving the clip out.
    """
    leaves: Any = {
        name: None if (part := getattr(batch, name)) is None else part.detach().clone().requires_grad_()
        for name in _PARTS
    }
    with torch.enable_grad(), autocast(str(batch.visual.device), precision):
        score = call_model(model, Batch(**leaves, label=batch.label))["score"].float().sum()
        inputs = [leaf for leaf in leaves.values() if leaf is not None]
        gradients = torch.autograd.grad(score, inputs, allow_unused=True)
    products = [(g * leaf.detach()).sum(-1)[0] for g, leaf in zip(gradients, inputs, strict=True) if g is not None]
    return torch.stack(products).sum(0)[:real].float().cpu()


# By the name that stands beside the numbers.
METHODS: dict[str, Callable[..., Tensor]] = {"occlusion": occlusion, "gradient times input": gradient_times_input}


def contributions(
    method: str, model: nn.Module, batch: Batch, real: int, *, size: int = 64, precision: str = "float32"
) -> Tensor:
    """Compute the contribution of each clip of one video to its score.

    Args:
        method: "occlusion": the score minus the score with the clip replaced by the mean of the other clips; or
            "gradient times input": the product of the clip's features with the gradient of the score, summed.
        model: a `mag2.training.ScoringModel` in evaluation mode.
        batch: a batch of one video.
        real: number of its clips that are no padding.
        size: number of variants of the video in a batch, for occlusion.
        precision: "float32", or "bfloat16" for autocast.

    Returns:
        The contributions (real,), in units of the score in [0, 1].

    Raises:
        ValueError: an unknown method.
    """
    check_name("method", method, METHODS)
    return METHODS[method](model, batch, real, size=size, precision=precision)


def _without(part: Tensor | None, clips: Tensor, real: int) -> Tensor | None:
    """Copies (len(clips), T, D) of one video's features (1, T, D), in each of which one clip is replaced."""
    if part is None:
        return None
    shown = part[0, :real]
    others = (shown.sum(dim=0) - shown) / (real - 1)
    copies = part.repeat(len(clips), 1, 1)
    copies[torch.arange(len(clips), device=part.device), clips] = others[clips]
    return copies
