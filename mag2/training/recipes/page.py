"""All recipes as a page of Markdown: a table for each model, with where it is from and what is our choice."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mag2.data import DATASETS
from mag2.saving.sentences import check_name
from mag2.training.recipe import Recipe
from mag2.training.recipes.model_recipe import ModelRecipe, Recipes
from mag2.training.run import EVALUATIONS

__all__ = ["described", "main", "recipes_page"]

COMMAND = "python -m mag2.training.recipes"
# The datasets of the tables; others get the settings of the most alike one, and the command prints those too.
PUBLISHED = ("FS1000", "Fis-V", "RG", "LOGO")
COLUMNS = ("targets", "stage", "optimizer", "schedule", "batch", "clip norm", "crop", "epochs", "constructor")
INTRODUCTION = f"""# Recipes

How every model of the tables is trained at the size of its paper, by dataset and target. `{COMMAND}`
prints this page. The commands of the tables use the same recipes (`mag2.training.recipes.find_recipe`).

- *From* names the source of the settings. *Ours* lists settings that no source gives, and how they were chosen.
- *Crop* is the number of clips of a training crop; "own" is the length of the dataset. Models that are scored on whole
  videos take each test video from its first to its last clip, one video at a time; `--evaluation crops` scores middle
  crops.
- *Constructor* lists the arguments of the model that the released scripts set. All others keep their defaults. The
  widths of the features are those of the files.
- Epochs separated by slashes are those of the targets, in the same order.
- For every model, labels are divided by the scales of MLAVL's paper. The released scripts of other models divide the
  labels of Fis-V by other numbers: 43 (QTD), 45 for PCS (PAMFN), 25 for TES and PCS (CoFInAl, by mistake the scale of
  RG).
- A random crop may begin at any clip from which a whole crop is left. The released loaders never use the last of them.
- A gradient whose norm is above *clip norm* is scaled down to it. The learning rate of named parameters is given as a
  share of the optimizer's rate.
- Narrow models (`--size small`, the default on simulated data) use batches of 16, and 12 epochs on simulated data.
  Models whose branches are trained first use 18 epochs in every stage on real programmes with simulated features. The
  sizes of narrow models, and every recipe as it was used, are in `settings.json` beside the results.
"""


def recipes_page(recipes: Mapping[str, Recipes], datasets: Sequence[str] = PUBLISHED) -> str:
    """The page of the recipes of some models (`mag2.training.recipes.RECIPES`) for some datasets of `DATASETS`.

    Raises:
        ValueError: no such dataset.
    """
    for name in datasets:
        check_name("dataset", name, DATASETS)
    return "\n".join([INTRODUCTION, *(_section(model, recipe, datasets) for model, recipe in recipes.items())])


def described(recipes: Mapping[str, Recipes], datasets: Sequence[str] = PUBLISHED) -> list[dict[str, Any]]:
    """The same as plain values: one mapping for each model and target."""
    return [
        {"model": model, "dataset": name, "target": target, "source": own.source, "chosen": own.chosen}
        | {"settings": own.described()}
        for model, recipe in recipes.items()
        for name in datasets
        for target in DATASETS[name].targets
        for own in [recipe(name, target)]
    ]


def main(recipes: Mapping[str, Recipes], arguments: Sequence[str] | None = None) -> int:
    """Print the page; the exit status is 0, or 2 where an argument is at fault."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Print the recipes of all models as Markdown.")
    parser.add_argument("--models", nargs="+", choices=recipes, default=list(recipes), metavar="MODEL")
    parser.add_argument("--datasets", nargs="+", choices=list(DATASETS), default=PUBLISHED, metavar="DATASET")
    options = parser.parse_args(arguments)
    print(recipes_page({name: recipes[name] for name in options.models}, options.datasets), end="")
    return 0


def _section(model: str, recipe: Recipes, datasets: Sequence[str]) -> str:
    """The part of one model: what its recipes share, and a table of their settings by dataset."""
    by_target = {(name, target): recipe(name, target) for name in datasets for target in DATASETS[name].targets}
    every = list(by_target.values())
    sources = dict.fromkeys(each.source for each in every)
    evaluations = dict.fromkeys(EVALUATIONS[each.evaluation] for each in every)
    lines = [f"## {model}", "", f"- From: {'; '.join(sources)}.", f"- Scored on {'; '.join(evaluations)}."]
    for chosen, of in _grouped((each.chosen, f"{name} {target}") for (name, target), each in by_target.items()):
        if chosen:
            lines.append(f"- Ours, for {_shortened(of)}: {chosen}.")
    lines += ["", f"| dataset | {' | '.join(COLUMNS)} |", f"|{' --- |' * (len(COLUMNS) + 1)}"]
    for name in datasets:
        rows = ((tuple(_rows(by_target[name, target])), target) for target in DATASETS[name].targets)
        for stages, targets in _grouped(rows):
            own = [by_target[name, target] for target in targets]
            for number, cells in enumerate(stages):
                first = (name, ", ".join(targets)) if number == 0 else ("", "")
                branch = len(stages) == 2 and number == 0
                epochs = [each.branch_epochs or each.epochs if branch else each.epochs for each in own]
                said = str(epochs[0]) if len(set(epochs)) == 1 else " / ".join(map(str, epochs))
                lines.append(f"| {' | '.join((*first, *cells[:-1], said, cells[-1]))} |")
    return "\n".join(lines) + "\n"


def _rows(recipe: ModelRecipe) -> Iterable[tuple[str, ...]]:
    """The cells of each stage, from `stage` on; epochs are left out."""
    settings = ", ".join(f"{name} {_plain(value)}" for name, value in recipe.settings.items())
    if recipe.branches is None:
        yield ("", *_cells(recipe.recipe), settings)
        return
    yield ("branches", *_cells(recipe.branches), settings)
    yield ("fusion", *_cells(recipe.recipe), "the same")


def _cells(recipe: Recipe) -> tuple[str, ...]:
    clip = "" if recipe.grad_clip is None else _plain(recipe.grad_clip)
    crop = "own" if recipe.clips is None else str(recipe.clips)
    return _optimizer(recipe), _schedule(recipe), str(recipe.batch), clip, crop


def _optimizer(recipe: Recipe) -> str:
    names = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
    momentum = f", momentum {_plain(recipe.momentum)}" if recipe.optimizer == "sgd" else ""
    rates = "".join(f", `{beginning}*` at {_plain(share)} of the rate" for beginning, share in recipe.rates)
    rate, decay = (_plain(value) for value in (recipe.lr, recipe.weight_decay))
    return f"{names[recipe.optimizer]}, rate {rate}, decay {decay}{momentum}{rates}"


def _schedule(recipe: Recipe) -> str:
    if recipe.schedule == "constant":
        return "constant"
    if recipe.schedule == "step":
        return f"times {_plain(recipe.gamma)} every {recipe.step} {recipe.step_unit}s"
    return "cosine to " + (f"{100 * recipe.final:g} %" if recipe.floor is None else _plain(recipe.floor))


def _grouped(pairs: Iterable[tuple[Any, str]]) -> Iterable[tuple[Any, list[str]]]:
    """Every value once, with all that have it, in the order of the first of them."""
    groups: dict[Any, list[str]] = {}
    for value, of in pairs:
        groups.setdefault(value, []).append(of)
    return groups.items()


def _shortened(targets: Sequence[str]) -> str:
    """ "FS1000 TES", "FS1000 PCS" as "FS1000", where a group has all targets of a dataset."""
    said = []
    for name, own in _grouped((target.partition(" ")[0], target.partition(" ")[2]) for target in targets):
        said.append(name if set(own) == set(DATASETS[name].targets) else f"{name} {', '.join(own)}")
    return "; ".join(said)


def _plain(value: Any) -> str:
    """A value of a recipe: small numbers as 5e-6, the others as usual."""
    if isinstance(value, float) and 0 < value < 0.01:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:g}" if isinstance(value, float) else str(value)
