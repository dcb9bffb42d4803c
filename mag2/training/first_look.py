"""How models are trained on the real programmes that need no download, unless the call says otherwise."""

from collections.abc import Iterable
from dataclasses import replace

from mag2.training.recipe import Recipe
from mag2.training.recipes.model_recipe import SMALL_BATCH, ModelRecipe

__all__ = ["EPOCHS_OF", "first_look_notes", "first_look_recipe"]

# Epochs of the datasets of real programmes, where no others are requested.
EPOCHS_OF = {"ISU": 12, "ISU-simulated": 12}
# One recipe for all narrow models there: with the rates of their papers, which are for wide models and hundreds of
# epochs, CoFInAl and QTD have hardly begun to learn after twelve.
_RECIPE = Recipe("adam", lr=1e-3, batch=SMALL_BATCH)


def first_look_recipe(dataset: str, recipe: ModelRecipe) -> ModelRecipe:
    """The recipe of a narrow model: the row's own, but for the datasets of real programmes one for all stages."""
    narrow = recipe.narrowed()
    return replace(narrow, recipe=_RECIPE, branches=None) if dataset in EPOCHS_OF else narrow


def first_look_notes(datasets: Iterable[str]) -> list[str]:
    """What a page of narrow models says of their recipe."""
    known = [name for name in dict.fromkeys(datasets) if name in EPOCHS_OF]
    return [f"- Narrow models on {' and '.join(known)} are trained with Adam, learning rate 1e-3."] if known else []
