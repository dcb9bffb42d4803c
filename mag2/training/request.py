"""What a call of a table's command requests, for its workers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mag2.data import Dataset
from mag2.training.dataset_providers import DatasetProvider, ShippedProvider, read_once
from mag2.training.first_look import first_look_epochs, first_look_recipe
from mag2.training.recipes.model_recipe import ModelRecipe
from mag2.training.tables import ModelInputs, Row
from mag2.training.target import Target
from mag2.training.text_cache import load_texts

__all__ = ["SIMULATED_EPOCHS", "DatasetKey", "Request"]

SIMULATED_EPOCHS = 12


class DatasetKey(NamedTuple):
    """One dataset of a call: a target and, where rows name the networks of their features, (modality, network)s."""

    target: Target
    extractors: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return " ".join([str(self.target), *(extractor for _, extractor in self.extractors)])


@dataclass(frozen=True)
class Request:
    """The rows and targets to train, with their data and settings.

    Attributes:
        rows: the rows by key.
        targets: in the order of the page.
        providers: the origin of each dataset.
        encoders: the text encoder of each dataset.
        small: whether models are narrow, for a first trial on a few cores.
        epochs: of every model and stage; None for those of the recipes.
        clips: length of every crop; None for that of the recipes.
        evaluation: of every row, a key of `mag2.training.run.EVALUATIONS`; None for those of the recipes.
        start: how the output of the guides of "+MAG2" enters the models.
    """

    rows: Mapping[str, Row]
    targets: tuple[Target, ...]
    providers: Mapping[str, DatasetProvider]
    encoders: Mapping[str, str]
    small: bool
    epochs: int | None = None
    clips: int | None = None
    evaluation: str | None = None
    start: str = "residual"

    def dataset(self, row: Row, target: Target) -> Dataset:
        """The dataset that a row trains on, read once a process."""
        return read_once(self.providers[target.dataset], target.name, row.extractors)

    def datasets(self) -> dict[DatasetKey, Dataset]:
        """All datasets that the rows train on."""
        return {
            DatasetKey(target, tuple(row.extractors.items())): self.dataset(row, target)
            for target in self.targets
            for row in self.rows.values()
        }

    def recipe(self, row: Row, dataset: Dataset) -> ModelRecipe:
        """How a row is really trained on a dataset, with everything that the call changes."""
        recipe = row.recipe_for(Target(dataset.name, dataset.target))
        if self.small:
            recipe = first_look_recipe(dataset.name, recipe)
        # What needs no download is small, and so are trainings on it.
        short = dataset.simulated or isinstance(self.providers[dataset.name], ShippedProvider)
        epochs = self.epochs
        if epochs is None and short:
            epochs = first_look_epochs(dataset.name, row.stages) or SIMULATED_EPOCHS
        if epochs is not None:
            recipe = recipe.with_epochs(epochs)
        if self.small or dataset.simulated or self.clips is not None:
            recipe = recipe.with_clips(None)
        return replace(recipe, evaluation=self.evaluation or recipe.evaluation)

    def total_epochs(self, row: Row, target: Target) -> int:
        """The epochs of all stages of a row."""
        return self.recipe(row, self.dataset(row, target)).total_epochs(row.stages)

    def recipes(self) -> dict[str, dict[str, dict[str, Any]]]:
        """How each row is really trained, by its key and the target, as plain values."""
        return {
            key: {str(t): self.recipe(row, self.dataset(row, t)).described() for t in self.targets}
            for key, row in self.rows.items()
        }

    def model_inputs(self, row: Row, dataset: Dataset) -> ModelInputs:
        """What a row's model is built for on a dataset."""
        return ModelInputs(
            sport=self.providers[dataset.name].spec.sport,
            widths=dataset.train.widths,
            small=self.small,
            control=row.control,
            encoder=self.encoders[dataset.name],
            settings=self.recipe(row, dataset).settings,
            start=self.start,
        )

    def fingerprints(self, datasets: Mapping[DatasetKey, Dataset]) -> dict[str, str]:
        """Hashes of the texts and of the data that results depend on."""
        texts = {}
        for name, encoder in self.encoders.items():
            rows = load_texts(self.providers[name].spec.sport, encoder).rows
            texts[f"texts of {name}"] = hashlib.sha256(rows.contiguous().numpy().tobytes()).hexdigest()[:16]
        data = {
            f"{part} of {key}": hash_ for key, each in datasets.items() for part, hash_ in each.fingerprints.items()
        }
        return texts | data
