"""Train one cell of a table: the same cell gives the same numbers in any process."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from mag2.data import Dataset
from mag2.data.performances import VISION_LANGUAGE
from mag2.training.cells import Cell
from mag2.training.data_source import describe_source
from mag2.training.dataset_providers import DatasetProvider, ShippedProvider, SimulationProvider
from mag2.training.history import Epoch, History
from mag2.training.recipe import Recipe
from mag2.training.report import REAL_PROGRAMMES
from mag2.training.request import Request
from mag2.training.run import Run
from mag2.training.stages import train
from mag2.training.trained_folder import save_trained

__all__ = ["CellTraining"]


@dataclass(frozen=True)
class CellTraining:
    """The work of a grid (`mag2.training.grid.Work`): called with a cell, it trains it and returns its result.

    Attributes:
        request: what the cells are cells of.
        device, precision, compile, record: as `Run` has them. keep_weights: whether checkpoints stay on disk.
        save_weights: whether the trained model stays on disk, for `mag2.load_trained`.
    """

    request: Request
    device: str
    precision: str
    compile: bool
    keep_weights: bool
    save_weights: bool = True
    record: tuple[int, ...] = ()

    def __call__(self, cell: Cell, folder: Path, tick: Callable[[], object]) -> dict[str, Any]:
        """Train the cell."""
        row = self.request.rows[cell.row]
        dataset = self.request.dataset(row, cell.target)
        with torch.random.fork_rng():
            torch.manual_seed(cell.seed)
            model = row.build(self.request.model_inputs(row, dataset))
        recipe = self.request.recipe(row, dataset)
        run = Run(
            epochs=recipe.epochs,
            seed=cell.seed,
            device=self.device,
            precision=self.precision,
            compile=self.compile,
            folder=folder,
            record=self.record,
            evaluation=recipe.evaluation,
        )
        history = train(
            model,
            dataset,
            recipe.recipe,
            run,
            on_epoch=lambda _: tick(),
            branches=recipe.branches,
            branch_epochs=recipe.branch_epochs,
        )
        self._save(model, cell, dataset, history=history, recipe=recipe.recipe, run=run)
        if not self.keep_weights:
            for checkpoint in folder.rglob("checkpoint.pt"):
                checkpoint.unlink()
        provider = self.request.providers[cell.target.dataset]
        return {
            "last_epoch": _measured(history.last),
            "best_on_test": _measured(history.best_on_test),
            "best_mse_on_test": _measured(history.best_mse_on_test),
            "epochs": run.epochs,
            "evaluation": run.evaluation,
            "parameters": sum(p.numel() for p in model.parameters()),
            "train": len(dataset.train),
            "test": len(dataset.test),
            "clips": recipe.recipe.clips or dataset.train.clips,
            "texts": self.request.encoders[cell.target.dataset],
            "top1": getattr(provider, "top1", None) if VISION_LANGUAGE in row.needs else None,
            "data": _data(dataset, provider),
            "note": _note(provider),
            "fingerprint": dataset.fingerprint,
        }

    def _save(
        self, model: nn.Module, cell: Cell, dataset: Dataset, *, history: History, recipe: Recipe, run: Run
    ) -> None:
        """Keep the trained model, its predictions and its history in the folder of the cell."""
        row, provider = self.request.rows[cell.row], self.request.providers[cell.target.dataset]
        inputs = self.request.model_inputs(row, dataset)
        save = partial(
            save_trained,
            model,
            cast(Path, run.folder),
            dataset,
            history=history,
            recipe=recipe,
            run=run,
            texts=inputs.texts(),
            sport=inputs.sport,
            data=_data(dataset, provider),
            row={"key": cell.row, "method": row.heading.method, "variant": row.heading.variant},
            source=describe_source(provider, row.extractors),
            top1=getattr(provider, "top1", None) if VISION_LANGUAGE in row.needs else None,
        )
        try:
            save(weights=self.save_weights)
        except ValueError as error:  # a plug of a class that is not registered, say: the result is worth keeping
            warnings.warn(f"the model of row {cell.row} is not kept: {error}", stacklevel=2)
            save(weights=False)


def _measured(epoch: Epoch) -> dict[str, float]:
    return {name: getattr(epoch, name) for name in ("epoch", "spearman", "mse", "rl2")}


def _note(provider: DatasetProvider) -> str:
    """What a page says of the data beside that."""
    return provider.spec.shipped_note if isinstance(provider, ShippedProvider) else ""


def _data(dataset: Dataset, provider: DatasetProvider) -> str:
    """The data of a number, in the words that stand beside it."""
    if isinstance(provider, ShippedProvider):
        return f"{dataset.name}: {provider.spec.shipped}"
    if not dataset.simulated:
        return dataset.name
    programmes = getattr(provider.spec, "programmes_of", None)
    if programmes is not None and isinstance(provider, SimulationProvider):
        return f"{programmes}{REAL_PROGRAMMES}"
    real = getattr(provider, "labels", None) is not None
    return f"{dataset.name} scores, simulated features" if real else f"simulated {dataset.name}"
