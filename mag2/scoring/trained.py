"""A trained model with its texts and the settings of its training."""

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
    """A trained model in evaluation mode, with its texts, target, scale and crop; `mag2.load_trained` returns it.

    Attributes:
        folder: the folder that it was loaded from.
        model: maps features to a score in [0, 1]; times `scale` plus `minimum` it is in the target's units.
        texts: the `TextFeatures` of its training; None where it had none.
        about: the content of `trained.json`, plain values.
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
        """The target that it scores, for example "TES"."""
        return str(self.about["target"])

    @property
    def scale(self) -> float:
        """The range of the target: a score in its units is the model's score times `scale` plus `minimum`."""
        return float(self.about["scale"])

    @property
    def minimum(self) -> float:
        """The score in the target's units for a model's score of 0."""
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
        """Return the scored clips of the performance with this number, as a batch of one video."""
        if self.whole:
            return next(whole_videos(self.model, performances, torch.tensor([number])))
        return performances.batch([number], clips=self.clips)

    def scored_clips(self, length: int) -> int:
        """Return how many clips of a video of `length` clips are scored: those of a crop, or all."""
        return length if self.whole else min(length, self.clips)

    @property
    def seed(self) -> int | None:
        """The seed of the training; None where it is not known."""
        return self.about["seed"]

    @property
    def simulated(self) -> bool:
        """Whether its training data were simulated; this must be shown with every score."""
        return bool(self.about["simulated"])

    @property
    def widths(self) -> dict[str, int]:
        """The width of the features of each modality of its training data."""
        return dict(self.about["widths"])

    @property
    def device(self) -> str:
        """The device of the model."""
        return str(next(self.model.parameters()).device)

    @property
    def predictions(self) -> dict[str, Predictions]:
        """The predictions of the test videos by protocol, from `predictions.csv`; ValueError if it is damaged."""
        return read_predictions(self.folder / PREDICTIONS)

    @property
    def own_predictions(self) -> Predictions | None:
        """The predictions of the test videos in the epoch whose weights the model has; None without a file."""
        return self.predictions.get(self.about["protocol"])

    def predict(self, performances: Performances, *, batch: int = 64, videos: Sequence[int] | None = None) -> Tensor:
        """Return the scores (n,) of performances in the target's units.

        Centre crops are scored, in batches; or whole videos, one at a time, if the model was tested on these.

        Args:
            performances: a split of a dataset.
            batch: number of videos in a batch.
            videos: numbers of the videos to score; all by default.

        Raises:
            ValueError: as `mag2.training.predict`.
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
        """Return the dataset that it was trained on: read again from its folder, or simulated again.

        Args:
            folder: the present folder of the files, if they have moved.

        Raises:
            DataError: the files are not there, or their origin was not recorded.
        """
        source = self.about["source"]
        if source is None:
            raise DataError(f"{self.folder} does not say where its data lie: read the dataset yourself")
        return open_source(source, self.target, folder)

    def score(self, features: Any, **options: Any) -> Scores:
        """Score performances in the target's units, with an interval and the contribution of each clip.

        Examples: ``trained.score("features")``, ``trained.score({"visual": clips, "audio": sound})``.

        Args:
            features: in memory, in files, or a folder that `mag2 extract` wrote, as in `mag2.scoring.read_given`.
            options: names, explain, level, clip_seconds and batch, as in `mag2.scoring.score_by`.

        Raises:
            DataError: features that do not fit the model.
            ValueError: an unknown method, or a level that is not between 0 and 1.
        """
        return score_by([self], features, **options)
