"""Run a model on batches, predict a whole split, and measure predictions."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mag2.data import Batch, Performances
from mag2.metrics import mse, relative_l2, spearman
from mag2.nn.modules import unwrapped
from mag2.saving.sentences import check_name
from mag2.training.contract import check_output
from mag2.training.run import EVALUATIONS, autocast

__all__ = ["call_model", "check_whole", "measure", "predict", "whole_videos"]


def predict(
    model: nn.Module,
    performances: Performances,
    *,
    device: str = "cpu",
    precision: str = "float32",
    batch: int = 64,
    videos: Tensor | None = None,
    clips: int | None = None,
    evaluation: str = "crops",
) -> Tensor:
    """Score performances with a model, in evaluation mode.

    Args:
        model: a `mag2.training.ScoringModel`; it is in its own mode again afterwards.
        performances: a split of a dataset.
        device: the device that the model is on.
        precision: "float32", or "bfloat16" for autocast.
        batch: number of videos in a batch, for "crops".
        videos: (n,) numbers of the videos to score; all by default.
        clips: length of a crop, for "crops"; by default the split's own.
        evaluation: "crops" scores the centre crop of every performance, padded with zeros where it is shorter. "whole"
            scores every performance from its first to its last clip, alone in its batch, so that no score depends on
            another video; modalities of different length end with the shortest.

    Returns:
        The scores (n,) that the model gives, in [0, 1], float32 on the CPU.

    Raises:
        ContractError: the model returned no "score" (B,); checked on the first batch.
        ValueError: an unknown evaluation; the model needs vision_language features that the split does not have; or,
            for "whole", a performance has more clips than the model accepts.
    """
    check_name("evaluation", evaluation, EVALUATIONS)
    parts: Iterable[Batch]
    if evaluation == "whole":
        parts = whole_videos(model, performances, videos)
    else:
        chosen = torch.arange(len(performances)) if videos is None else videos
        parts = (performances.batch(index, clips=clips) for index in chosen.split(batch))
    was_training = model.training
    model.eval()
    scores: list[Tensor] = []
    with torch.no_grad(), autocast(device, precision):
        for part in parts:
            output = call_model(model, part.to(device))
            if not scores:
                check_output(model, output, len(part))
            scores.append(output["score"].float().cpu())
    model.train(was_training)
    return torch.cat(scores)


def whole_videos(model: nn.Module, performances: Performances, videos: Tensor | None = None) -> Iterator[Batch]:
    """Yield every performance, or those of `videos`, as a batch of one video with all its clips.

    A video with fewer clips than the model needs (`min_clips`) is padded with zeros to that number.
    """
    fewest, _ = check_whole(model, performances)
    for video in range(len(performances)) if videos is None else videos.tolist():
        yield performances.batch([video], clips=max(int(performances.lengths[video]), fewest))


def check_whole(model: nn.Module, performances: Performances) -> tuple[int, int | None]:
    """Return the smallest and the largest number of clips that a model accepts; 1 and None by default.

    They are `min_clips` and `max_clips` of any module in it.

    Raises:
        ValueError: a performance has more clips.
    """
    parts = list(model.modules())
    fewest = max([1, *(n for part in parts if (n := getattr(part, "min_clips", None)) is not None)])
    most = min((n for part in parts if (n := getattr(part, "max_clips", None)) is not None), default=None)
    longest = int(performances.lengths.argmax())
    length = int(performances.lengths[longest])
    if most is not None and length > most:
        raise ValueError(
            f"{type(unwrapped(model)).__name__} takes {most} clips at most and video {performances.names[longest]!r} "
            f"has {length}: evaluate crops, or build it with a larger max_len"
        )
    return fewest, most


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
    """Compute "spearman", "mse" (in the target's units, squared) and "rl2" (in percent) of predictions.

    Args:
        prediction: (n,) scores in [0, 1].
        performances: a split of a dataset, with the labels.
        videos: (n,) numbers of the videos that were scored; all by default.

    Returns:
        The measures by name; "rl2" is nan where all labels are equal.

    Raises:
        ValueError: not one prediction per video, or fewer than two videos.
    """
    label: Any = (performances.label if videos is None else performances.label[videos]).double().numpy()
    scores: Any = prediction.double().numpy()
    return {
        "spearman": spearman(scores, label),
        "mse": mse(scores, label, performances.scale),
        "rl2": relative_l2(scores, label) if label.max() > label.min() else math.nan,
    }
