"""A trained model with all that it was trained with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.data import Batch, DataError, Dataset, Performances
from mag2.scoring.score import score_by
from mag2.scoring.scores import Scores
from mag2.texts import TextFeatures
from mag2.training.data_source import open_source
from mag2.training.prediction import predict, whole_videos
from mag2.training.predictions import PREDICTIONS, Predictions, read_predictions

__all__ = ["Trained"]


class Trained:
    """A trained model in evaluation mode, with its texts, target, scale and crop; `mag2.load_trained` gives it.

    Attributes:
        folder: that it was loaded from.
        model: it maps features to a score in [0, 1]; `scale` and `minimum` bring it into the target's units.
        texts: the `TextFeatures` of its training; None where it had none.
        about: what `trained.json` says, plain values.
    """

    def __init__(self, folder: Path, model: nn.Module, texts: TextFeatures | None, about: Mapping[str, Any]):
        self.folder, self.model, self.texts, self.about = folder, model, texts, dict(about)

    def __repr__(self) -> str:
        scored = "whole videos" if self.whole else f"crops of {self.clips} clips"
        label = f"{self.name}: {self.about['data']}, {self.target}, {scored}"
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"Trained({label}{seed}, after epoch {self.about['epoch']})"

    @property
    def name(self) -> str:
        """The row's name in its table, or the class of the model."""
        row = self.about["row"] or {}
        return f"{row.get('method', type(self.model).__name__)} {row.get('variant', '')}".strip()

    @property
    def dataset_name(self) -> str:
        """The dataset that it was trained on."""
        return str(self.about["dataset"])

    @property
    def target(self) -> str:
        """What it scores."""
        return str(self.about["target"])

    @property
    def scale(self) -> float:
        """The score in the target's units is the model's score times this, plus `minimum`."""
        return float(self.about["scale"])

    @property
    def minimum(self) -> float:
        """The score in the target's units where the model gives 0."""
        return float(self.about["minimum"])

    @property
    def clips(self) -> int:
        """The length of the crops that it was trained and tested on."""
        return int(self.about["clips"])

    @property
    def whole(self) -> bool:
        """Whether it was tested on whole videos, one at a time; else on their centre crops."""
        return self.about["evaluation"] == "whole"

    def batch(self, performances: Performances, number: int) -> Batch:
        """The clips of one performance that are scored, as a batch of one."""
        if self.whole:
            return next(whole_videos(self.model, performances, torch.tensor([number])))
        return performances.batch([number], clips=self.clips)

    def scored_clips(self, length: int) -> int:
        """How many clips of a video of `length` clips are scored: a crop, or all of them."""
        return length if self.whole else min(length, self.clips)

    @property
    def seed(self) -> int | None:
        """Of the training."""
        return self.about["seed"]

    @property
    def simulated(self) -> bool:
        """Whether its training data were simulated: every score has to say so."""
        return bool(self.about["simulated"])

    @property
    def widths(self) -> dict[str, int]:
        """The width of the features of each modality of its training data."""
        return dict(self.about["widths"])

    @property
    def device(self) -> str:
        """Where the model is."""
        return str(next(self.model.parameters()).device)

    @property
    def predictions(self) -> dict[str, Predictions]:
        """The predictions of the test videos by protocol, read from `predictions.csv`."""
        return read_predictions(self.folder / PREDICTIONS)

    @property
    def own_predictions(self) -> Predictions | None:
        """Those of the epoch whose weights the model has; None where there is no file."""
        return self.predictions.get(self.about["protocol"])

    def predict(self, performances: Performances, *, batch: int = 64, videos: Sequence[int] | None = None) -> Tensor:
        """The scores (n,) of performances, or of those of the numbers `videos`, in the target's units.

        From their centre crops, `batch` at a time; from whole videos, one at a time, where it was tested on these.
        """
        chosen = None if videos is None else torch.tensor(list(videos), dtype=torch.long)
        precision = str(self.about["precision"])
        scores = predict(
            self.model,
            performances,
            device=self.device,
            precision=precision,
            batch=batch,
            videos=chosen,
            clips=self.clips,
            evaluation=str(self.about["evaluation"]),
        )
        return self.minimum + scores * self.scale

    def dataset(self, folder: str | Path | None = None) -> Dataset:
        """The dataset that it was trained on: read again from its folder, or simulated again.

        Args:
            folder: where the files lie now, if they have moved.

        Raises:
            DataError: the files are not there, or nothing says where they came from.
        """
        source = self.about["source"]
        if source is None:
            raise DataError(f"{self.folder} does not say where its data lie: read the dataset yourself")
        return open_source(source, self.target, folder)

    def score(self, features: Any, **options: Any) -> Scores:
        """Score performances in the target's units, with what stands behind each score.

        Args:
            features: in memory, in files, or a folder that `mag2 extract` wrote, as `mag2.scoring.read_given` takes
                them: ``trained.score("features")``, ``trained.score({"visual": clips, "audio": sound})``.
            options: names, explain, level, clip_seconds and batch, as `mag2.scoring.score_by` has them.

        Raises:
            DataError: features that do not fit the model. ValueError: an unknown method, or another level.
        """
        return score_by([self], features, **options)
