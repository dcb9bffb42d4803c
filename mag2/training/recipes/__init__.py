"""The recipes of the models of the tables, a file each: constructor, stages, epochs, and where they are from."""

from mag2.training.recipes.cofinal import cofinal
from mag2.training.recipes.gdlt import gdlt
from mag2.training.recipes.mixer import mixer
from mag2.training.recipes.mlavl import mbert, mlavl, sgn
from mag2.training.recipes.model_recipe import ModelRecipe, Recipes
from mag2.training.recipes.pamfn import pamfn
from mag2.training.recipes.qtd import qtd

__all__ = [
    "RECIPES",
    "ModelRecipe",
    "Recipes",
    "cofinal",
    "find_recipe",
    "gdlt",
    "mbert",
    "mixer",
    "mlavl",
    "pamfn",
    "qtd",
    "sgn",
]

# By the names that tables give the models.
RECIPES: dict[str, Recipes] = {
    "MLAVL": mlavl,
    "GDLT": gdlt,
    "CoFInAl": cofinal,
    "QTD": qtd,
    "PAMFN": pamfn,
    "Skating-Mixer": mixer,
    "M-BERT": mbert,
    "SGN": sgn,
}


def find_recipe(model: str, dataset: str, target: str) -> ModelRecipe:
    """Return the recipe of a model for a target of a dataset.

        recipe = find_recipe("CoFInAl", "RG", "Ball")
        model = CoFInAl(in_dim=1024, **recipe.settings)

    Args:
        model: a key of `RECIPES`.
        dataset, target: of `mag2.data.TARGETS`, or others; then the attribute `chosen` of the recipe names the dataset
            whose settings are used.

    Raises:
        ValueError: no such model.
    """
    if model not in RECIPES:
        raise ValueError(f"no recipe of {model!r}; there are those of {', '.join(RECIPES)}")
    return RECIPES[model](dataset, target)
