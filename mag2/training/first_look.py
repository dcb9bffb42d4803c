"""The default training of models on the real programmes that need no download."""

from collections.abc import Iterable

from mag2.training.recipe import Recipe
from mag2.training.recipes.model_recipe import SMALL_BATCH, ModelRecipe

__all__ = ["FIRST_LOOK", "first_look_epochs", "first_look_notes", "first_look_recipe"]

# The datasets of real programmes.
FIRST_LOOK = ("ISU", "ISU-simulated")
# After so many epochs a plain row is within 0.05 of what it reaches after three times as many (docs/programmes.md). A
# model that trains its branches first needs more: the part that fuses them settles after about fifteen.
EPOCHS, EPOCHS_IN_STAGES = 12, 18
# One recipe for all narrow models there: with the rates of their papers, which are for wide models and hundreds of
# epochs, CoFInAl and QTD have hardly begun to learn after twelve.
_RECIPE = Recipe("adam", lr=1e-3, batch=SMALL_BATCH)


def first_look_epochs(dataset: str, stages: int) -> int | None:
    """Return the default epochs of each stage on a dataset of real programmes; None for other datasets."""
    if dataset not in FIRST_LOOK:
        return None
    return EPOCHS if stages == 1 else EPOCHS_IN_STAGES


def first_look_recipe(dataset: str, recipe: ModelRecipe) -> ModelRecipe:
    """Return the recipe of a narrow model: the row's own, narrowed; on real programmes one recipe for all models.

    That one sets only the narrow sizes, has the same learning rate in all stages, and scores crops.
    """
    if dataset not in FIRST_LOOK:
        return recipe.narrowed()
    return ModelRecipe(
        _RECIPE,
        recipe.epochs,
        chosen="one recipe for all narrow models on real programmes",
        settings=recipe.small,
        small=recipe.small,
    )


def first_look_notes(datasets: Iterable[str]) -> list[str]:
    """Return the remarks about the recipe on a page of narrow models."""
    known = [name for name in dict.fromkeys(datasets) if name in FIRST_LOOK]
    return [f"- Narrow models on {' and '.join(known)} are trained with Adam, learning rate 1e-3."] if known else []
