"""Outputs of a trained model for the test set: grade weights, features before and after fusion, clips of one video."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mag2.data import Dataset
from mag2.data.performances import crop_starts
from mag2.fusion import FUSIONS
from mag2.nn.modules import unwrapped
from mag2.scoring import Trained
from mag2.scoring.contributions import contributions
from mag2.training.outputs import outputs
from mag2.training.prediction import call_model

__all__ = ["BRANCHES", "FusedFeatures", "clip_contributions", "fused_features", "grade_names", "grade_weights"]

# What a model calls the weights and grades of a branch -> how a figure calls the branch.
BRANCHES = {"_visual": "visual grades", "_audio_visual": "audio-visual grades", "": "grades"}
DESIGNS = {
    "AudioVisualFusion": "AVCF",
    "DecoderFusion": "Decoder",
    "DualDecoderFusion": "Dual-Decoder",
    "SharedCrossAttentionFusion": "Shared-CA",
}


@dataclass(frozen=True, eq=False)
class FusedFeatures:
    """Features of n videos, each the mean over its clips.

    Attributes:
        before: (n, 2d), guided visual and audio clips side by side, as they enter the fusion.
        after: (n, d), what the fusion makes of them. design: the name of the fusion in Table 3.
    """

    before: NDArray[Any]
    after: NDArray[Any]
    design: str


def grade_weights(trained: Trained, dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Branch in words -> weights (n, K) of the test videos; empty for a model that returns none."""
    precision = str(trained.about["precision"])
    found = outputs(
        trained.model, dataset.test, lambda name: name.startswith("weights"), device=trained.device, precision=precision
    )
    panels = {}
    for suffix, words in BRANCHES.items():
        weights = found.get(f"weights{suffix}")
        if weights is not None and weights.dim() == 2:
            panels[words] = weights.numpy()
    return panels


def grade_names(trained: Trained, branch: str, count: int) -> tuple[str, ...] | None:
    """The words of the K grades of a branch, from the prompts of the training; None where these are not known."""
    prompts = None if trained.texts is None else trained.texts.prompts
    if prompts is None:
        return None
    rows = prompts.audio_visual_grades if branch == BRANCHES["_audio_visual"] else prompts.grades
    names = tuple(re.sub(r"^an? (.+) performance\b", r"\1", row) for row in rows)
    return names if len(names) == count else None


def fused_features(trained: Trained, dataset: Dataset, batch: int = 64) -> FusedFeatures | None:
    """The features of the test videos before and after the model's fusion; None for a model without one."""
    model = unwrapped(trained.model)
    parts = [part for part in model.modules() if type(part) in FUSIONS.values()]
    if len(parts) != 1:
        return None
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, given: tuple[Any, ...], fused: Tensor) -> None:
        pair = torch.cat([given[0].mean(dim=1), given[1].mean(dim=1)], dim=1)
        seen.append((pair.float().cpu(), fused.mean(dim=1).float().cpu()))

    model.eval()
    handle = parts[0].register_forward_hook(keep)
    try:
        with torch.no_grad():
            for start in range(0, len(dataset.test), batch):
                index = torch.arange(start, min(start + batch, len(dataset.test)))
                call_model(model, dataset.test.batch(index).to(trained.device))
    finally:
        handle.remove()
    before, after = (torch.cat(each).numpy() for each in zip(*seen, strict=True))
    return FusedFeatures(np.asarray(before), np.asarray(after), DESIGNS[type(parts[0]).__name__])


def clip_contributions(trained: Trained, dataset: Dataset, video: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Compute what each clip of a test video adds to its score, by occlusion.

    Returns:
        Contributions (T,) of the T real clips of the centre crop, in the target's units; and the T + 1 borders of these
        clips, in seconds if the duration of a clip is known, else as numbers of clips.
    """
    test, precision = dataset.test, str(trained.about["precision"])
    real = min(int(test.lengths[video]), test.clips)
    start = int(crop_starts(test.lengths[video : video + 1], test.clips)[0])
    part = test.batch([video]).to(trained.device)
    values = contributions("occlusion", trained.model, part, real, precision=precision)
    borders = np.arange(start, start + real + 1, dtype=float)
    seconds = trained.about["clip_seconds"]
    return values.double().numpy() * trained.scale, borders if seconds is None else borders * float(seconds)
