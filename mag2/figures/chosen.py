"""The training of a run that its figures show, with data that are read once for several figures."""

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mag2.data import Dataset
from mag2.figures.style import readable
from mag2.scoring import Trained, load_trained
from mag2.training.predictions import PREDICTIONS, Predictions, read_predictions
from mag2.training.report import PROTOCOLS
from mag2.training.run_folder import RunFolder, Training
from mag2.training.target import Target

__all__ = ["Chosen", "LeftOutError", "choose"]

PREFERRED = "MLAVL"  # the model of the paper's figures


class LeftOutError(Exception):
    """The error about a figure that cannot be made from a run, with the reason in one sentence."""


class Chosen:
    """One training of a run, with its model, data and predictions, each read when a figure needs it.

    Attributes:
        run: the folder of the run.
        training: the chosen training.
        data: the present folder of its dataset, if it has moved.
    """

    def __init__(self, run: RunFolder, training: Training, data: str | Path | None = None):
        self.run, self.training, self.data = run, training, data
        self._models: dict[Path, Trained] = {}

    @property
    def stem(self) -> str:
        """What the names of its files end with."""
        training = self.training
        parts = [
            *(part for part in training.target if part and self.run.grid),
            *([f"row-{training.heading.key}"] if training.heading.key and self.run.grid else []),
            *([f"seed-{training.seed}"] if training.seed is not None and self.run.grid else []),
        ]
        return "".join(f"_{_plain(part)}" for part in parts)

    @property
    def unit(self) -> str:
        """What its scores are called."""
        name = readable(self.training.target.name, 40)
        return name if name.isupper() or "score" in name.lower() else f"{name} score"  # TES, but "Ball score"

    @property
    def trained(self) -> Trained:
        """Its model.

        Raises:
            LeftOutError: no model was kept, or it cannot be built.
        """
        return self.model_of(self.training)

    def model_of(self, training: Training) -> Trained:
        """The model of any training of the run."""
        if training.folder not in self._models:
            if not (training.folder / "trained.json").is_file():
                raise LeftOutError(f"no model of {training.name} was kept (version 0.1 kept none)")
            try:
                self._models[training.folder] = load_trained(training.folder)
            except ValueError as error:
                raise LeftOutError(_sentence(error)) from None
        return self._models[training.folder]

    @cached_property
    def dataset(self) -> Dataset:
        """Its data.

        Raises:
            LeftOutError: they are not there, or are others than those of the training.
        """
        try:
            dataset = self.trained.dataset(self.data)
        except (ValueError, OSError) as error:
            raise LeftOutError(f"the test set cannot be read: {_sentence(error)}") from None
        if dataset.fingerprint != self.trained.about["fingerprint"]:
            raise LeftOutError("the test set is not that of the training: the features or labels have changed since")
        return dataset

    @property
    def score(self) -> NDArray[np.float64]:
        """The labels (n,) of the test videos in the target's units."""
        test = self.dataset.test
        return np.asarray(test.minimum + test.label.double().numpy() * test.scale)

    @cached_property
    def predictions(self) -> Predictions:
        """The predictions of the test videos in the epoch of the saved weights, else in the last epoch.

        Raises:
            LeftOutError: they were not kept.
        """
        found = read_predictions(self.training.folder / PREDICTIONS)
        if not found:
            raise LeftOutError(f"the predictions of {self.training.name} were not kept (version 0.1 kept none)")
        for protocol in (str(self.training.described.get("protocol")), "last_epoch"):
            if protocol in found:
                return found[protocol]
        return next(iter(found.values()))

    @property
    def protocol(self) -> str:
        """How the epoch of `predictions` was chosen, in words."""
        name = self.predictions.protocol
        words = PROTOCOLS.get(name, name.replace("_", " ")).partition(" (")[0]
        measured = self.training.result.get(name)
        return f"{words}, epoch {measured['epoch']}" if measured else words

    def footer(self, *more: str) -> str:
        """The line below a figure: data, target, row, protocol, seed."""
        return "; ".join([self.training.about, self.training.name, *(part for part in more if part)])


def choose(
    run: RunFolder, *, row: str | None = None, target: str | None = None, seed: int | None = None
) -> list[Training]:
    """Return for each target the training whose model is drawn: MLAVL's first row, else the first; its smallest seed.

    Args:
        row: key or name of a row.
        target: "TES" or "FS1000/TES".
        seed: of the training.

    Raises:
        ValueError: no such training; the message lists those that exist.
    """
    for asked, there, what in (
        (row, [name for heading in run.headings for name in (heading.key, heading.name)], "row"),
        (target, [name for each in run.targets for name in (str(each), each.name)], "target"),
        (seed, list(run.seeds), "seed"),
    ):
        if asked is not None and asked not in there:
            known = ", ".join(dict.fromkeys(map(str, there))) or "none"
            raise ValueError(f"{run.path} has no results of {what} {asked}; there are {known}")
    chosen = []
    for each in run.targets:
        if target is not None and target not in (str(each), each.name):
            continue
        found = [
            training
            for training in run.of(target=each, seed=seed)
            if row in (None, training.heading.key, training.name)
        ]
        preferred = [training for training in found if training.heading.method == PREFERRED]
        chosen += (preferred or found)[:1]
    if not chosen:
        raise ValueError(f"{run.path} has no training of that row, target and seed together")
    return chosen


def same_target(run: RunFolder, training: Training) -> list[Training]:
    """The trainings of the same target and seed, one a row."""
    target: Target = training.target
    return run.of(target=target, seed=training.seed)


def _plain(part: str) -> str:
    """A part of a file's name: nothing from the data that a file system could misread."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-+") else "-" for letter in part)[:40]


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())
