"""Read the folder of a run: its trainings, their epochs, settings and names."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mag2.saving.atomic_io import read_json
from mag2.saving.places import absence_of
from mag2.training.cell_result import table_results
from mag2.training.cells import Cell
from mag2.training.table_file import read_table
from mag2.training.tables import Heading
from mag2.training.target import Target

__all__ = ["RunFolder", "Training", "read_run"]

MEASURES = ("loss", "lr", "spearman", "mse", "rl2")


@dataclass(frozen=True, eq=False)
class Training:
    """One training: a row, a target and a seed.

    Attributes:
        folder: of its files.
        heading: the names of its row; without a table the name of its model.
        target: dataset and target.
        seed: of the training; None where it is not recorded.
        data: the data that it was measured on, in words.
        simulated: whether any of these data were drawn.
        result: the content of `result.json`; without a table the measures of its epochs.
        metrics: the measures of each epoch.
    """

    folder: Path
    heading: Heading
    target: Target
    seed: int | None
    data: str
    simulated: bool
    result: Mapping[str, Any]
    metrics: Sequence[Mapping[str, float]]

    @property
    def name(self) -> str:
        """Method and variant."""
        return self.heading.name

    @property
    def about(self) -> str:
        """Data, target and seed in words, for a caption."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.data[:1].upper()}{self.data[1:]}, {self.target.name}{seed}"

    @property
    def described(self) -> dict[str, Any]:
        """The content of `trained.json`; empty without that file."""
        path = self.folder / "trained.json"
        return read_json(path) if path.is_file() else {}


@dataclass(frozen=True, eq=False)
class RunFolder:
    """A folder of results: of a table, or of one training.

    Attributes:
        path: the folder.
        title: of the table, or of the training.
        grid: whether it is the folder of a table.
        headings: of the rows that have results, in the table's order.
        trainings: all finished trainings.
        settings: the settings that all results share.
        runs: the calls that made the results (`mag2.training.run_manifest`).
        metrics: the measures that the table shows.
        published_known: whether the folder has the numbers of the paper.
    """

    path: Path
    title: str
    grid: bool
    headings: tuple[Heading, ...]
    trainings: tuple[Training, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    runs: Sequence[Mapping[str, Any]] = ()
    metrics: tuple[str, ...] = ("spearman", "mse")
    published_known: bool = True

    @property
    def simulated(self) -> bool:
        """Whether any result is of drawn data."""
        return any(training.simulated for training in self.trainings)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets that have results."""
        return tuple(dict.fromkeys(training.target for training in self.trainings))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that have results."""
        return tuple(sorted({training.seed for training in self.trainings if training.seed is not None}))

    def of(self, *, row: str | None = None, target: Target | None = None, seed: int | None = None) -> list[Training]:
        """The trainings of a row, a target and a seed, where these are given."""
        return [
            training
            for training in self.trainings
            if row in (None, training.heading.key)
            and target in (None, training.target)
            and seed in (None, training.seed)
        ]


def read_run(folder: str | Path) -> RunFolder:
    """Read the folder of a table's results, or of one training.

    Raises:
        ValueError: no such folder, nothing finished in it, or a damaged file; one sentence.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(f"{absence_of(path)}; give the folder of a run (--out) or of one training")
    if (path / "cells").is_dir():
        return _read_grid(path)
    if (path / "metrics.jsonl").is_file() or (path / "trained.json").is_file():
        return _read_one(path)
    raise ValueError(f"{path} holds no results; give the folder of a run (--out) or of one training")


def _read_grid(path: Path) -> RunFolder:
    results = table_results(path)
    if not results:
        raise ValueError(f"no training in {path} is finished; run the same command again, it goes on from there")
    about = read_json(path / "settings.json", "settings", "runs") if (path / "settings.json").is_file() else {}
    settings = about.get("settings", {})
    table = read_table(path)
    headings = {heading.key: heading for heading in (_headings_of_csv(path) if table is None else table.headings)}
    for cell in results:
        headings.setdefault(cell.row, Heading(cell.row, f"row {cell.row}"))
    with_results = {cell.row for cell in results}
    shown = tuple(heading for heading in headings.values() if heading.key in with_results)
    order = {heading.key: place for place, heading in enumerate(shown)}
    trainings = [
        _training(cell, cell.folder(path), result, headings[cell.row], bool(settings.get("simulated", False)))
        for cell, result in sorted(results.items(), key=lambda item: (order[item[0].row], item[0].seed))
    ]
    name = settings.get("table", path.name)
    return RunFolder(
        path,
        table.title if table is not None else str(name).replace("table", "Table "),
        True,
        shown,
        tuple(trainings),
        settings,
        tuple(about.get("runs", ())),
        table.metrics if table is not None else ("spearman", "mse"),
        table is not None,
    )


def _training(cell: Cell, folder: Path, result: Mapping[str, Any], heading: Heading, simulated: bool) -> Training:
    data = str(result.get("data", cell.target.dataset))
    drawn = simulated or "simulated" in data
    return Training(folder, heading, cell.target, cell.seed, data, drawn, result, _metrics(folder))


def _read_one(path: Path) -> RunFolder:
    about = read_json(path / "trained.json") if (path / "trained.json").is_file() else {}
    metrics = _metrics(path)
    row = about.get("row") or {}
    model = (about.get("model") or {}).get("base") or {}
    method = row.get("method") or model.get("kind") or model.get("class") or "model"
    heading = Heading(str(row.get("key", "")), str(method), str(row.get("variant", "")))
    target = Target(str(about.get("dataset", "")), str(about.get("target", "score")))
    drawn = bool(about.get("simulated", any(line.get("data") == "simulated" for line in metrics)))
    data = str(about.get("data") or ("simulated data" if drawn else "data of your own"))
    result = dict(_result_of(metrics)) if metrics else {}
    if (path / "result.json").is_file():
        result |= read_json(path / "result.json", "cell", "result")["result"]
    training = Training(path, heading, target, about.get("seed"), data, drawn or "simulated" in data, result, metrics)
    shown = ("clips", "epochs", "epoch", "precision", "evaluation")
    settings = {name: about[name] for name in shown if about.get(name) is not None}
    settings |= {f"recipe: {name}": value for name, value in (about.get("recipe") or {}).items()}
    versions = {"versions": {"mag2": about["mag2"]}} if "mag2" in about else {}
    return RunFolder(path, heading.name, False, (heading,), (training,), settings, (versions,) if versions else ())


def _result_of(metrics: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Both protocols from the epochs, as `result.json` has them."""
    best = max(metrics, key=lambda epoch: -math.inf if math.isnan(epoch["spearman"]) else epoch["spearman"])
    measures = {"last_epoch": metrics[-1], "best_on_test": best}
    return {
        name: {key: epoch[key] for key in ("epoch", "spearman", "mse", "rl2")} for name, epoch in measures.items()
    } | {"epochs": len(metrics)}


def _metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl`; none where there is no file. A last line that was cut off is left out."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            epoch = json.loads(line)
            found.append({**epoch, **{name: float(epoch[name]) for name in MEASURES}})
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}, is damaged; train again into another folder") from None
    return found


def _headings_of_csv(path: Path) -> list[Heading]:
    """The names of the rows in `results.csv`, of a folder without `table.json`."""
    file = path / "results.csv"
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    keys = {row.get("row") or "": row for row in rows}
    return [Heading(key, row.get("method") or key, row.get("variant") or "") for key, row in keys.items()]
