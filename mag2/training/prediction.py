"""Run a model on batches, predict a whole split, and measure predictions."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from mag2.data import Batch, Performances
from mag2.metrics import mse, relative_l2, spearman
from mag2.nn.modules import unwrapped
from mag2.training.contract import check_output
from mag2.training.run import autocast

__all__ = ["call_model", "measure", "predict"]


def predict(
    model: nn.Module,
    performances: Performances,
    *,
    device: str = "cpu",
    precision: str = "float32",
    batch: int = 64,
    videos: Tensor | None = None,
) -> Tensor:
    """Scores (n,) in [0, 1], in evaluation mode, from the centre crop of every performance, or of those of `videos`.

    Raises:
        ContractError: the model returned no "score" (B,); checked on the first batch.
        ValueError: as `call_model`.
    """
    was_training = model.training
    model.eval()
    scores = []
    with torch.no_grad(), autocast(device, precision):
        chosen = torch.arange(len(performances)) if videos is None else videos
        for start in range(0, len(chosen), batch):
            part = performances.batch(chosen[start : start + batch]).to(device)
            output = call_model(model, part)
            if start == 0:
                check_output(model, output, len(part))
            scores.append(output["score"].float().cpu())
    model.train(was_training)
    return torch.cat(scores)


def call_model(model: nn.Module, batch: Batch) -> Any:
    """Run a model on a batch: ``model(visual, audio, flow)``.

    A model with a true `takes_vision_language`, such as `mag2.alignment.SimilarityWeighted`, gets
    ``vision_language=...`` too.

    Raises:
        ValueError: such a model, and a batch without these features.
    """
    inner = unwrapped(model)
    given = (batch.visual, batch.audio, batch.flow)
    if not getattr(inner, "takes_vision_language", False):
        return model(*given)
    if batch.vision_language is None:
        raise ValueError(
            f"{type(inner).__name__} wants vision_language features and this dataset has none; "
            f"put them beside the others, in the folder vision_language say"
        )
    return model(*given, vision_language=batch.vision_language)


def measure(prediction: Tensor, performances: Performances, videos: Tensor | None = None) -> dict[str, float]:
    """Spearman, MSE in the target's units, and R-l2 of predictions in [0, 1], of all performances or of `videos`."""
    label: Any = (performances.label if videos is None else performances.label[videos]).double().numpy()
    scores: Any = prediction.double().numpy()
    return {
        "spearman": spearman(scores, label),
        "mse": mse(scores, label, performances.scale),
        "rl2": relative_l2(scores, label) if label.max() > label.min() else math.nan,
    }
