"""The folder of a trained model: its weights, how it is built, what it was trained for, and its predictions.

`model.safetensors` and `trained.json` are written together, `plugin/` has what is attached, `texts/` the text features
of the training, `predictions.csv` the predictions of the test videos, `history.csv` the epochs. `mag2.load_trained`
reads them; `docs/run-folder.md` lists files and columns.
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import nn

from mag2.data import DATASETS, Dataset
from mag2.saving.atomic_io import write_atomically
from mag2.saving.folders import FORMAT, library_version, write_folder
from mag2.saving.places import make_folder
from mag2.saving.sentences import check_name
from mag2.texts import TextFeatures
from mag2.training.history import Epoch, History
from mag2.training.model_files import describe_model, save_attached, texts_inside, weights_to_keep
from mag2.training.prediction import predict
from mag2.training.predictions import write_predictions
from mag2.training.recipe import Recipe
from mag2.training.report import PROTOCOLS
from mag2.training.run import Run

__all__ = ["ABOUT", "HISTORY", "KEYS", "TEXTS", "VALIDATED", "WEIGHTS", "save_trained"]

WEIGHTS, ABOUT, TEXTS, HISTORY = "model.safetensors", "trained.json", "texts", "history.csv"
# The protocol of a training with `Validation`; the others are in `report.PROTOCOLS`.
VALIDATED = "best_on_validation"
# What `trained.json` says. A later version may leave none of them out.
KEYS = {
    "format",
    "mag2",
    "model",
    "dataset",
    "sport",
    "weights",
    "simulated",
    "data",
    "target",
    "scale",
    "minimum",
    "clips",
    "evaluation",
    "widths",
    "videos",
    "seed",
    "epochs",
    "epoch",
    "protocol",
    "precision",
    "recipe",
    "validation",
    "texts",
    "row",
    "source",
    "clip_seconds",
    "top1",
    "fingerprint",
    "sha256",
}


def save_trained(
    model: nn.Module,
    folder: str | Path,
    dataset: Dataset,
    *,
    history: History | None = None,
    recipe: Recipe | None = None,
    run: Run | None = None,
    texts: TextFeatures | None = None,
    validation: Mapping[str, Any] | None = None,
    weights: bool = True,
    **facts: Any,
) -> None:
    """Write a trained model into a folder, for `mag2.load_trained`.

    Models of registered classes (all of this library; `mag2.saving.register` adds yours), with or without guides and
    weighted edges, are loaded again without further arguments. For a model of another class
    `load_trained(folder, build=...)` needs a function that makes one.

    Files are written atomically: first predictions and plug-in, at the end weights and `trained.json`.

    Args:
        model: the trained model.
        folder: made if it does not exist.
        dataset: the dataset that the model was trained on.
        history: of the training, with the predictions of the test set; without it they are computed here.
        recipe, run: of the training, recorded in `trained.json`.
        texts: the text features of the training, if the model itself has none.
        validation: the settings of a `Validation`, recorded in `trained.json`.
        weights: False leaves out the model and its plug-in, and writes everything else.
        facts: further entries of `trained.json`: row, source, clip_seconds, top1, sport, data.

    Raises:
        ValueError: an unknown entry in `facts`; or the `config` of a registered class of your own is no JSON.
    """
    for name in sorted(facts):
        check_name("fact", name, sorted(KEYS))
    folder = Path(folder)
    make_folder(folder)
    if history is None or not history.epochs:
        device = str(next(iter(model.parameters())).device)
        clips = None if recipe is None else recipe.clips
        scoring = {"device": device} if run is None else run.scoring(clips) | {"device": device}
        history, epochs = History(predictions=[predict(model, dataset.test, **scoring)]), {"last_epoch": 1}
    else:
        epochs = _protocol_epochs(history)
        write_atomically(_history_csv(history), folder / HISTORY)
    write_predictions(folder, dataset.test, history, epochs)
    texts = texts_inside(model) or texts
    if texts is not None:
        texts.save(folder / TEXTS)
    if weights:
        save_attached(model, folder)
    spec = DATASETS.get(dataset.name)
    about = {
        "format": FORMAT,
        "mag2": library_version(),
        "model": describe_model(model),
        "dataset": dataset.name,
        "sport": texts.sport if texts is not None else spec.sport if spec is not None else None,
        "weights": weights,
        "simulated": dataset.simulated,
        "data": f"simulated {dataset.name}" if dataset.simulated else dataset.name,
        "target": dataset.target,
        "scale": float(dataset.test.scale),
        "minimum": float(dataset.test.minimum),
        "clips": int((recipe and recipe.clips) or dataset.test.clips),
        "evaluation": "crops" if run is None else run.evaluation,
        "widths": dataset.train.widths,
        "videos": {"train": len(dataset.train), "test": len(dataset.test)},
        "seed": None if run is None else run.seed,
        "epochs": len(history.epochs) or None,
        "epoch": history.chosen,
        "protocol": next(iter(epochs)),
        "precision": "float32" if run is None else run.precision,
        "recipe": None if recipe is None else asdict(recipe),
        "validation": validation,
        "texts": None if texts is None else texts.provenance.config | {"width": texts.width},
        "row": None,
        "source": None,
        "clip_seconds": getattr(spec, "clip_seconds", None),
        "top1": None,
        "fingerprint": dataset.fingerprint,
        **facts,
    }
    try:
        if weights:
            write_folder(folder, (WEIGHTS, ABOUT), weights_to_keep(model), about)
        else:
            write_atomically(json.dumps({**about, "sha256": None}, indent=2, ensure_ascii=False) + "\n", folder / ABOUT)
            (folder / WEIGHTS).unlink(missing_ok=True)
    except TypeError as error:
        raise ValueError(
            f"the description of this {type(model).__name__} is no JSON ({error}); its config must hold plain values"
        ) from None


def _protocol_epochs(history: History) -> dict[str, int]:
    """The number of the epoch of each protocol; the first is that whose weights the model has."""
    others = [protocol for protocol in PROTOCOLS if protocol != "last_epoch"]
    epochs = {"last_epoch": history.last.epoch, **{name: getattr(history, name).epoch for name in others}}
    if history.chosen is not None and history.chosen != history.last.epoch:
        return {VALIDATED: history.chosen, **epochs}
    return epochs


def _history_csv(history: History) -> str:
    text = io.StringIO()
    rows = csv.DictWriter(text, [field.name for field in fields(Epoch)], lineterminator="\n")
    rows.writeheader()
    rows.writerows(epoch.plain for epoch in history.epochs)
    return text.getvalue()
