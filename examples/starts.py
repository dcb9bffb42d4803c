"""Compare the starts of a guide (residual, identity, replace) with the plain model, for several numbers of epochs.

    python examples/starts.py
    python examples/starts.py --epochs 12 --models GDLT QTD --datasets FS1000

The data are simulated performances of figure skating (FS1000), and simulated features around real programmes and scores
(ISU-simulated); the target is TES. Sizes, narrow models and recipes are those of the tables, and the last epoch is
reported. The guide is that of the "+MAG2" rows; in PAMFN it is attached before the branches are trained. Paired
differences are to the plain model of the same seed.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import interrupts
import torch
from measuring import add_grid_options, add_names, ended, markdown, mean_and_spread, paired, train_all, write_csv
from rows import build_cofinal, build_gdlt, build_pamfn, build_qtd

from mag2.data import DATASETS
from mag2.saving.arguments import whole_number
from mag2.saving.atomic_io import write_atomically
from mag2.training import Run
from mag2.training.cells import Cell
from mag2.training.dataset_providers import read_once, simulation_provider
from mag2.training.first_look import first_look_recipe
from mag2.training.recipes.cofinal import cofinal
from mag2.training.recipes.gdlt import gdlt
from mag2.training.recipes.pamfn import pamfn
from mag2.training.recipes.qtd import qtd
from mag2.training.stages import train
from mag2.training.tables import ModelInputs
from mag2.training.target import Target

MODELS = {
    "GDLT": (build_gdlt, gdlt),
    "CoFInAl": (build_cofinal, cofinal),
    "QTD": (build_qtd, qtd),
    "PAMFN": (build_pamfn, pamfn),
}
SIMULATED = {
    "FS1000": "SIMULATED performances (FS1000)",
    "ISU-simulated": "real programmes and scores (ISU), SIMULATED features",
}
ENTRIES = ("plain", "residual", "identity", "replace")
TARGET = "TES"


def cell_of(model: str, entry: str, epochs: int, dataset: str, seed: int) -> Cell:
    """One training."""
    return Cell(f"{model}-{entry}-{epochs}", Target(dataset, TARGET), seed)


def work(cell: Cell, folder: Path, tick) -> dict:
    """Train one cell."""
    name, entry, epochs = cell.row.split("-")
    build, recipes = MODELS[name]
    dataset = read_once(simulation_provider(cell.target.dataset), TARGET)
    recipe = first_look_recipe(dataset.name, recipes(dataset.name, TARGET)).with_epochs(int(epochs)).with_clips(None)
    sport = DATASETS[dataset.name].sport
    inputs = ModelInputs(sport, dict(dataset.train.widths), small=True, settings=recipe.settings)
    guide = {} if entry == "plain" else {"with_mag2": True, "start": entry}
    torch.manual_seed(cell.seed)
    model = build(inputs, **guide)
    run = Run(epochs=recipe.epochs, seed=cell.seed, evaluation=recipe.evaluation)
    stages = {"branches": recipe.branches, "branch_epochs": recipe.branch_epochs}
    history = train(model, dataset, recipe.recipe, run, on_epoch=lambda _: tick(), **stages)
    return {"spearman": history.last.spearman}


def table(dataset: str, options: argparse.Namespace, results: dict[Cell, dict]) -> str:
    """The rows of a dataset."""

    def numbers(model: str, entry: str, epochs: int) -> list[float]:
        return [results[cell_of(model, entry, epochs, dataset, seed)]["spearman"] for seed in options.seeds]

    def line(model: str, epochs: int) -> Sequence[str]:
        plain = numbers(model, "plain", epochs)
        gaps = [paired(numbers(model, entry, epochs), plain) for entry in ENTRIES[1:]]
        return [model, str(epochs), mean_and_spread(plain), *gaps]

    lines = [line(model, epochs) for epochs in options.epochs for model in options.models]
    columns = ["model", "epochs", "plain", *(f"{entry} - plain" for entry in ENTRIES[1:])]
    return f"**{SIMULATED[dataset]}**\n\n{markdown(columns, lines)}"


def main() -> int:
    """Train all and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_names(parser, "--models", MODELS)
    add_names(parser, "--datasets", SIMULATED)
    parser.add_argument(
        "--epochs",
        nargs="+",
        type=whole_number(1),
        default=[12, 50, 150],
        help="numbers of epochs, one training for each (12 50 150)",
    )
    add_grid_options(parser, range(3), Path("runs") / "starts")
    options = parser.parse_args()
    return ended(partial(_run, options))


def _run(options: argparse.Namespace) -> None:
    cells = [
        cell_of(model, entry, epochs, dataset, seed)
        for epochs in options.epochs
        for dataset in options.datasets
        for seed in options.seeds
        for model in options.models
        for entry in ENTRIES
    ]
    results = train_all(cells, work, options.out, workers=options.workers, settings={"target": TARGET})
    title = f"{TARGET}, Spearman of the last epoch, {len(options.seeds)} seeds (mean ± standard deviation)."
    page = "\n\n".join([title, *(table(dataset, options, results) for dataset in options.datasets)])
    write_atomically(page + "\n", options.out / "starts.md")
    lines = [[*c.row.split("-"), c.target.dataset, c.seed, results[c]["spearman"]] for c in cells]
    write_csv(options.out / "starts.csv", ["model", "start", "epochs", "data", "seed", "spearman"], lines)
    print(page)
    print(f"\nWritten: {options.out / 'starts.md'}, {options.out / 'starts.csv'}")


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
