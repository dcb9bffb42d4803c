"""`predictions.csv`: what a model predicts for each test video, in the target's units."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mag2.data import Performances
from mag2.saving.atomic_io import write_atomically
from mag2.training.history import History

__all__ = ["PREDICTIONS", "Predictions", "read_predictions", "write_predictions"]

PREDICTIONS = "predictions.csv"
COLUMNS = ("protocol", "name", "score", "predicted")


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """The predictions of one protocol.

    Shapes: score (n,), predicted (n,) in the target's units.

    Attributes:
        protocol: how the epoch is chosen, a key of `mag2.training.report.PROTOCOLS` or "best_on_validation".
        names: the n test videos. score: their labels. predicted: what the model of that epoch gives.
    """

    protocol: str
    names: tuple[str, ...]
    score: NDArray[np.float64]
    predicted: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Predictions({self.protocol}, {len(self)} videos)"

    @property
    def residuals(self) -> NDArray[np.float64]:
        """The absolute errors (n,), in the target's units."""
        return np.abs(self.predicted - self.score)


def write_predictions(folder: Path, test: Performances, history: History, protocols: Mapping[str, int]) -> None:
    """Write `predictions.csv`: a row for each protocol and test video.

    Args:
        folder: it is there.
        test: the videos. history: whose predictions are written.
        protocols: the number of the epoch of each protocol. One whose predictions were not kept is left out.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    scores = test.in_units(test.label.double()).tolist()
    for protocol, epoch in protocols.items():
        predicted: Tensor | None = history.predictions[epoch - 1]
        if predicted is None:
            continue
        values = test.in_units(predicted.double()).tolist()
        for name, score, value in zip(test.names, scores, values, strict=True):
            rows.writerow([protocol, name, f"{score:.7g}", f"{value:.7g}"])
    write_atomically(text.getvalue(), folder / PREDICTIONS)


def read_predictions(path: Path) -> dict[str, Predictions]:
    """The predictions of a file by protocol; none where there is no file.

    Raises:
        ValueError: it is damaged; the sentence names the line.
    """
    if not path.is_file():
        return {}
    found: dict[str, list[tuple[str, float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != COLUMNS:
            raise ValueError(f"{path} has other columns than {', '.join(COLUMNS)}; train again")
        for row in reader:
            try:
                protocol, name, score, predicted = row
                found.setdefault(protocol, []).append((name, float(score), float(predicted)))
            except ValueError:
                raise ValueError(f"{path}, line {reader.line_num}, is damaged; train again") from None
    return {protocol: _of(protocol, rows) for protocol, rows in found.items()}


def _of(protocol: str, rows: Sequence[tuple[str, float, float]]) -> Predictions:
    names, scores, predicted = zip(*rows, strict=True)
    return Predictions(protocol, tuple(names), np.array(scores), np.array(predicted))
