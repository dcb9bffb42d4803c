"""MLAVL's recipe, and those of two systems whose comparison with it in Table 6 released none."""

from mag2.published import recipes as published
from mag2.training.recipe import MBERT_RECIPE, MLAVL_RECIPE, SGN_RECIPE, published_epochs
from mag2.training.recipes.model_recipe import ModelRecipe

__all__ = ["mbert", "mlavl", "sgn"]

SMALL = {"dim": 64, "n_heads": 4, "dropout": 0.1}
CHOSEN = "rate 1e-3 as its options have it (its README shows 1e-2), dropout 0.3 as its README (its options have 0)"
OURS = "optimizer and batch, since no source has the recipe of the comparison of Table 6; epochs as MLAVL"


def mlavl(dataset: str, target: str) -> ModelRecipe:
    """MLAVL: one recipe, epochs by target."""
    return ModelRecipe(
        MLAVL_RECIPE,
        published_epochs(dataset, target),
        source="scripts of github.com/XuHuangbiao/MLAVL; epochs of the paper's supplement",
        chosen=_epochs(dataset, target, CHOSEN),
        settings={"dropout": 0.3},
        small=SMALL,
    )


def mbert(dataset: str, target: str) -> ModelRecipe:
    """M-BERT with late fusion."""
    return ModelRecipe(
        MBERT_RECIPE,
        published_epochs(dataset, target),
        source="sizes of github.com/sangho-vision/avbert",
        chosen=_epochs(dataset, target, OURS),
        small={**SMALL, "n_layers": 2},
    )


def sgn(dataset: str, target: str) -> ModelRecipe:
    """SGN."""
    return ModelRecipe(
        SGN_RECIPE,
        published_epochs(dataset, target),
        source="none: its code is not released",
        chosen=_epochs(dataset, target, OURS),
        small=SMALL,
    )


def _epochs(dataset: str, target: str, chosen: str) -> str:
    known = (dataset, target) in published()
    return chosen if known else f"{chosen}; its largest number of epochs, since the paper has none for this dataset"
