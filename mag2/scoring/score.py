"""Score performances with a trained model, or with several seeds of it, with intervals and contributions of clips."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mag2.alignment import SimilarityWeighted, clip_text_similarity
from mag2.data import Batch, Performances
from mag2.data.performances import crop_starts
from mag2.nn.modules import unwrapped
from mag2.saving.sentences import check_name
from mag2.scoring.conformal import Interval, calibrate
from mag2.scoring.contributions import METHODS, contributions
from mag2.scoring.features import read_given
from mag2.scoring.scores import NamedAction, Score, Scores
from mag2.texts import TextFeatures
from mag2.training.prediction import call_model
from mag2.training.report import REAL_PROGRAMMES
from mag2.training.run import autocast

if TYPE_CHECKING:
    from mag2.scoring.trained import Trained

__all__ = ["score_by"]

# The entries of an output that are weights of grades (B, N), by the name that they get.
GRADES = {"weights_visual": "visual", "weights_audio_visual": "audio_visual", "weights": "grades"}
BASIS = (
    "A contribution is a statement about the model, not about the sport: how its score changes, in points, where the "
    "clip is replaced by the mean of the others (occlusion), or the gradient of the score times the clip's features."
)


def score_by(
    models: Sequence["Trained"],
    features: Any,
    *,
    names: Sequence[str] | None = None,
    explain: str | Sequence[str] = ("occlusion",),
    level: float = 0.9,
    clip_seconds: float | None = None,
    batch: int = 64,
) -> Scores:
    """Score performances with one trained model, or with several seeds of it.

    Args:
        models: trained models that differ in the seed alone; the mean of their scores is the score.
        features, names: as in `mag2.scoring.read_given`.
        explain: methods for the contribution of every clip: "occlusion", "gradient times input" (or "gradient"), or
            both; () for none. Occlusion scores a video as many times as it has clips, in batches.
        level: level of the interval, between 0 and 1; 0.9 (our choice).
        clip_seconds: duration of a clip in seconds, if clips follow each other from the beginning of the video. By
            default that in the folder's `extraction.json` or of the dataset, else unknown.
        batch: number of videos, or variants of one video, in a batch.

    Returns:
        The `Scores`, in the target's units.

    Raises:
        DataError: features that do not fit the models.
        ValueError: no model, models that differ in more than the seed, an unknown method, or a level that is not
            between 0 and 1.
    """
    if not models:
        raise ValueError("score_by wants one trained model or more")
    first = models[0]
    if len({(each.dataset_name, each.target, each.scale, each.clips, each.whole, each.name) for each in models}) > 1:
        raise ValueError("the models want one row, dataset, target and crop; score those of each apart")
    explain = _methods(explain)
    given = read_given(features, first.widths, scale=first.scale, clips=first.clips, names=names)
    seconds = clip_seconds or given.clip_seconds or first.about["clip_seconds"]
    interval = _interval(models, level)
    videos = given.performances
    raw = [_raw(model, videos, given.chosen, explain, batch) for model in models]
    similarity = _Similarity.of(first)
    scores = []
    for place, number in enumerate(given.chosen):
        own = [each[place] for each in raw]
        length = int(videos.lengths[number])
        real = first.scored_clips(length)
        start = int(crop_starts(videos.lengths[number : number + 1], real)[0])
        values = [each["score"] for each in own]
        score = float(np.mean(values))
        half = None if interval is None else interval.half_width
        scores.append(
            Score(
                name=videos.names[number],
                score=score,
                by_seed=tuple(values),
                low=None if half is None else score - half,
                high=None if half is None else score + half,
                clips=real,
                of=length,
                first=start,
                contributions={method: _mean([each["explain"][method] for each in own]) for method in explain},
                grades={kind: _mean([each["grades"][kind] for each in own]) for kind in own[0]["grades"]},
                seconds=seconds and [(clip * seconds, (clip + 1) * seconds) for clip in range(start, start + real)],
                actions=None if similarity is None else similarity.name(first.batch(videos, number), real),
            )
        )
    notes = (*_notes(first, interval, explain, level), _action_note(similarity, videos))
    seeds = tuple(each.seed for each in models)
    return Scores(first.name, first.about["data"], first.target, first.scale, seeds, tuple(scores), interval, notes)


def _raw(
    model: "Trained", videos: Performances, chosen: Sequence[int], explain: Sequence[str], size: int
) -> list[dict[str, Any]]:
    """Score, grades and contributions of each chosen video by one model, in the target's units."""
    precision, results = str(model.about["precision"]), []
    predicted = model.predict(videos, batch=size, videos=chosen).tolist()
    for number, score in zip(chosen, predicted, strict=True):
        part = model.batch(videos, number).to(model.device)
        real = model.scored_clips(int(videos.lengths[number]))
        with torch.no_grad(), autocast(model.device, precision):
            output = call_model(model.model, part)
        grades = {
            kind: value[0].float().cpu().tolist()
            for key, kind in GRADES.items()
            if isinstance(value := output.get(key), Tensor) and value.dim() == 2
        }
        explained = {
            method: (contributions(method, model.model, part, real, size=size, precision=precision) * model.scale)
            for method in explain
        }
        results.append({"score": score, "grades": grades, "explain": {k: v.tolist() for k, v in explained.items()}})
    return results


def _mean(rows: list[list[float]]) -> list[float]:
    return np.mean(rows, axis=0).tolist()


def _interval(models: Sequence["Trained"], level: float) -> Interval | None:
    """From the errors of the mean of the models on their test videos; None where these are too few or not kept."""
    own = [each.own_predictions for each in models]
    known = [each for each in own if each is not None]
    if len(known) < len(own) or len({each.names for each in known}) > 1:
        return calibrate(np.zeros(0), level)  # refuses a level that means nothing
    mean = np.mean([each.predicted for each in known], axis=0)
    return calibrate(np.abs(mean - known[0].score), level)


class _Similarity:
    """The similarity of clips and action texts that lie in one outside space."""

    def __init__(self, rows: Tensor, texts: TextFeatures, top1: float | None, *, centre: bool):
        self.rows, self.texts, self.top1, self.centre = rows, texts, top1, centre

    @classmethod
    def of(cls, model: "Trained") -> "_Similarity | None":
        """That of a model whose training had vision_language features as wide as its texts; else None."""
        texts, width = model.texts, model.widths.get("vision_language")
        inner = unwrapped(model.model)
        if texts is None or texts.prompts is None or width != texts.width:
            return None
        rows, centre = texts.visual, True
        if isinstance(inner, SimilarityWeighted):
            rows, centre = inner.texts, inner.centre
        return cls(rows.cpu(), texts, model.about["top1"], centre=centre)

    def name(self, batch: Batch, real: int) -> list[NamedAction] | None:
        if batch.vision_language is None:
            return None
        assert self.texts.prompts is not None
        values = clip_text_similarity(batch.vision_language[:, :real].cpu(), self.rows, centre=self.centre)[0]
        best, action = values.max(dim=1)
        prompts = self.texts.prompts.visual
        return [NamedAction(prompts[a], b) for a, b in zip(action.tolist(), best.tolist(), strict=True)]


def _action_note(similarity: _Similarity | None, videos: Performances) -> str:
    if similarity is None or "vision_language" not in videos.widths:
        return (
            "Actions of clips are not named: no similarity of clips and texts from outside is given, and the complete "
            "graph of MAG2 gives every clip the mean of all texts."
        )
    if similarity.top1 is None:
        return "Actions of clips are named by an outside similarity whose accuracy was not measured: it is unknown."
    return (
        f"Actions of clips are named by an outside similarity; on the simulated test videos of its training it names "
        f"{similarity.top1:.0%} of the planted actions (chance {1 / len(similarity.rows):.0%})."
    )


def _methods(explain: str | Sequence[str]) -> list[str]:
    """The names of methods, whole; one may stand alone."""
    if isinstance(explain, bool) or not isinstance(explain, str | Sequence):
        raise ValueError(f"explain is {explain!r}; give a list of {', '.join(METHODS)}")
    chosen = [explain] if isinstance(explain, str) else list(explain)
    chosen = ["gradient times input" if method == "gradient" else method for method in chosen]
    for method in chosen:
        check_name("method", method, METHODS)
    return chosen


def _notes(model: "Trained", interval: Interval | None, explain: Sequence[str], level: float) -> list[str]:
    notes = [f"{interval}."] if interval is not None else []
    if interval is None:
        notes.append(f"No {level:.0%} interval: there are too few test videos with predictions.")
    if model.simulated:
        programmes = str(model.about["data"]).endswith(REAL_PROGRAMMES)
        what = "real programmes and scores with SIMULATED features" if programmes else "SIMULATED performances"
        notes.append(f"The model was trained on {what}: its scores say nothing about sport.")
    return notes + ([BASIS] if explain else [])
