"""What a call of a table's command requests, as far as its workers need to know it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mag2.data import Dataset
from mag2.training.dataset_providers import DatasetProvider, read_once
from mag2.training.tables import ModelInputs, Row
from mag2.training.target import Target
from mag2.training.text_cache import load_texts

__all__ = ["DatasetKey", "Request"]


class DatasetKey(NamedTuple):
    """One dataset of a call: a target and, where rows name the networks of their features, (modality, network)s."""

    target: Target
    extractors: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return " ".join([str(self.target), *(extractor for _, extractor in self.extractors)])


@dataclass(frozen=True)
class Request:
    """The rows and targets to train, and what they are trained on.

    Attributes:
        rows: by key. targets: in the order of the page.
        providers: where each dataset comes from. encoders: the text encoder of each dataset.
        small: whether models are narrow, for a first look on a few cores.
    """

    rows: Mapping[str, Row]
    targets: tuple[Target, ...]
    providers: Mapping[str, DatasetProvider]
    encoders: Mapping[str, str]
    small: bool

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

    def model_inputs(self, row: Row, dataset: Dataset) -> ModelInputs:
        """What a row's model is built for on a dataset."""
        sport = self.providers[dataset.name].spec.sport
        return ModelInputs(sport, dataset.train.widths, self.small, row.control, self.encoders[dataset.name])

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
