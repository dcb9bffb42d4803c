"""The default training of models on the real programmes that need no download."""

from collections.abc import Iterable

from mag2.training.recipe import Recipe
from mag2.training.recipes.model_recipe import SMALL_BATCH, ModelRecipe

__all__ = ["EPOCHS_OF", "first_look_notes", "first_look_recipe"]

# Epochs of the datasets of real programmes, where no others are requested.
EPOCHS_OF = {"ISU": 12, "ISU-simulated": 12}
# One recipe for all narrow models there: with the rates of their papers, which are for wide models and hundreds of
# epochs, CoFInAl and QTD have hardly begun to learn after twelve.
_RECIPE = Recipe("adam", lr=1e-3, batch=SMALL_BATCH)


def first_look_recipe(dataset: str, recipe: ModelRecipe) -> ModelRecipe:
    """The recipe of a narrow model: the row's own, narrowed; for the datasets of real programmes one for all.

    That one sets the narrow sizes alone, has the same rate in all stages, and scores crops.
    """
    if dataset not in EPOCHS_OF:
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
    known = [name for name in dict.fromkeys(datasets) if name in EPOCHS_OF]
    return [f"- Narrow models on {' and '.join(known)} are trained with Adam, learning rate 1e-3."] if known else []
