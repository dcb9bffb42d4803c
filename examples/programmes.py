"""Predict real scores from text features of real programmes: GDLT, CoFInAl and QTD with texts and MAG2, and baselines.

    python examples/programmes.py

The data are those of `mag2.data.read_isu`: 1,391 performances for training, 335 of four later competitions for testing.
A clip is an executed element; its feature is a text encoder's embedding of its description. Programmes and scores are
real; no video is used. The models are narrow, and the last epoch is reported. Two correlations are printed: over all
test performances, and the Fisher average of those within a discipline and segment. The first is high for any score that
separates men's free skating from short dances, so the second is the meaningful one.

Paired differences, seed by seed, are those of the second correlation. Texts and guides are compared with the plain
model, controls and weighted edges with the residual guide.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import interrupts
import numpy as np
import torch
from measuring import add_grid_options, add_names, ended, markdown, mean_and_spread, paired, train_all, write_csv
from rows import build_cofinal, build_gdlt, build_qtd
from torch import nn

from mag2.data import Dataset, read_isu
from mag2.programmes import (
    TARGETS,
    Agreement,
    ElementTexts,
    Performance,
    fit_ridge,
    rank_agreement,
    read_performances,
    train_and_test,
)
from mag2.saving.arguments import whole_number
from mag2.saving.atomic_io import write_atomically
from mag2.texts import CONTROLS
from mag2.training import Recipe, Run, fit
from mag2.training.cells import Cell
from mag2.training.prediction import predict
from mag2.training.recipes.cofinal import cofinal
from mag2.training.recipes.gdlt import gdlt
from mag2.training.recipes.qtd import qtd
from mag2.training.tables import ModelInputs, build_weighted
from mag2.training.target import Target

SPORT = "figure_skating_elements"
BUILDERS = {"GDLT": build_gdlt, "CoFInAl": build_cofinal, "QTD": build_qtd}
RECIPES = {"GDLT": gdlt, "CoFInAl": cofinal, "QTD": qtd}  # of which the narrow sizes are taken
STARTS = ("residual", "identity", "replace")
DEFAULT_TARGETS, EPOCHS = ("TES", "PCS", "SS"), 12
RECIPE = Recipe("adam", lr=1e-3, batch=32)


@dataclass(frozen=True)
class Variant:
    """A row: what is built, what is removed from its guide, and the row that it is compared with."""

    build: Callable[[ModelInputs], nn.Module]
    compared: str = ""
    control: str | None = None


def variants(models: Sequence[str], controlled: Sequence[str]) -> dict[str, Variant]:
    """The rows by name."""
    rows: dict[str, Variant] = {}
    for model in models:
        build = BUILDERS[model]
        rows[model] = Variant(build)
        rows[f"{model} +Texts"] = Variant(partial(build, with_texts=True), model)
        for start in STARTS:
            rows[f"{model} +MAG2, {start}"] = Variant(partial(build, with_mag2=True, start=start), model)
        residual, guided = f"{model} +MAG2, residual", partial(build, with_mag2=True)
        rows[f"{residual}, weighted edges"] = Variant(partial(build_weighted, build=guided), residual)
        for control in CONTROLS if model in controlled else ():
            rows[f"{residual}, {control.replace('_', ' ')}"] = Variant(guided, residual, control)
    return rows


@cache
def data(target: str) -> Dataset:
    """The words of the programmes, with the labels of a target."""
    return read_isu(target)


@cache
def split() -> tuple[tuple[Performance, ...], tuple[Performance, ...]]:
    """The same performances, as the protocols have them."""
    return train_and_test(read_performances())


def work(cell: Cell, folder: Path, tick, *, rows: dict[str, Variant], epochs: int) -> dict:
    """Train one cell."""
    dataset, variant = data(cell.target.name), rows[cell.row]
    torch.manual_seed(cell.seed)
    sizes = RECIPES[cell.row.split()[0]](dataset.name, dataset.target).small
    inputs = ModelInputs(SPORT, dict(dataset.train.widths), small=True, control=variant.control, settings=sizes)
    model = variant.build(inputs)
    fit(model, dataset, RECIPE, Run(epochs=epochs, seed=cell.seed), on_epoch=lambda _: tick())
    agreement = rank_agreement(predict(model, dataset.test).numpy(), split()[1], cell.target.name)
    return {"overall": agreement.overall, "within": agreement.within}


def sober(target: str) -> dict[str, Agreement]:
    """The baselines without a network."""
    words, (train, test) = ElementTexts.load(), split()

    def ridge(pooled: Callable) -> Agreement:
        x_train, x_test = (np.stack([pooled(words.clips(each).numpy(), axis=0) for each in side]) for side in split())
        return rank_agreement(fit_ridge(x_train, [each.score(target) for each in train]).predict(x_test), test, target)

    rows = {"ridge regression, mean of the words": ridge(np.mean), "ridge regression, sum of the words": ridge(np.sum)}
    if target == "TES":
        base = [sum(element.base_value for element in each.elements) for each in test]
        rows["sum of the base values"] = rank_agreement(base, test, target)
    return rows


def table(target: str, rows: dict[str, Variant], results: dict[Cell, dict], seeds: Sequence[int]) -> str:
    """The rows of a target, below its baselines."""

    def numbers(row: str, what: str) -> list[float]:
        return [results[Cell(row, Target("ISU", target), seed)][what] for seed in seeds]

    lines = [[name, f"{each.overall:.3f}", f"{each.within:.3f}", ""] for name, each in sober(target).items()]
    for name, variant in rows.items():
        within = numbers(name, "within")
        gap = paired(within, numbers(variant.compared, "within")) if variant.compared else ""
        lines.append([name, mean_and_spread(numbers(name, "overall")), mean_and_spread(within), gap])
    return f"**{target}**\n\n" + markdown(["", "over all", "within", "paired difference, within"], lines)


def main() -> int:
    """Train all rows and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_names(parser, "--targets", TARGETS, DEFAULT_TARGETS)
    add_names(parser, "--models", BUILDERS)
    parser.add_argument(
        "--controls",
        nargs="*",
        choices=BUILDERS,
        default=list(BUILDERS),
        metavar="MODEL",
        help="models with rows of controls (default all; none: no controls)",
    )
    parser.add_argument("--epochs", type=whole_number(1), default=EPOCHS, help=f"epochs of each training ({EPOCHS})")
    add_grid_options(parser, range(5), Path("runs") / "programmes")
    options = parser.parse_args()
    return ended(partial(_run, options))


def _run(options: argparse.Namespace) -> None:
    rows = variants(options.models, options.controls)
    cells = [Cell(row, Target("ISU", t), seed) for t in options.targets for seed in options.seeds for row in rows]
    job = partial(work, rows=rows, epochs=options.epochs)
    results = train_all(cells, job, options.out, workers=options.workers, settings={"epochs": options.epochs})
    title = (
        f"Real programmes and scores (ISU), the words of the programme as features. Spearman's rho of the last of "
        f"{options.epochs} epochs, {len(options.seeds)} seeds (mean ± standard deviation)."
    )
    page = "\n\n".join([title, *(table(target, rows, results, options.seeds) for target in options.targets)])
    write_atomically(page + "\n", options.out / "programmes.md")
    written = [[c.row, c.target.name, c.seed, results[c]["overall"], results[c]["within"]] for c in cells]
    write_csv(options.out / "programmes.csv", ["row", "target", "seed", "overall", "within"], written)
    print(page)
    print(f"\nWritten: {options.out / 'programmes.md'}, {options.out / 'programmes.csv'}")


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
