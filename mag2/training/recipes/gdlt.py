"""GDLT's recipe."""

from mag2.training.recipe import GDLT_RECIPE
from mag2.training.recipes.likeness import most_alike
from mag2.training.recipes.model_recipe import ModelRecipe

__all__ = ["gdlt"]

EPOCHS = {"Ball": 250, "Clubs": 400, "Hoop": 500, "Ribbon": 150}


def gdlt(dataset: str, target: str) -> ModelRecipe:
    """GDLT: one recipe, epochs by apparatus."""
    _, chosen = most_alike(dataset, ["RG"])
    return ModelRecipe(
        GDLT_RECIPE,
        EPOCHS.get(target, EPOCHS["Ball"]),
        source="scripts of github.com/xuangch/CVPR22_GDLT (RG)",
        chosen=chosen,
        settings={"n_decoder": 2, "n_grades": 4, "alpha": 1.0, "margin": 1.0, "dropout": 0.3},
        evaluation="whole",
        small={"dim": 64, "n_heads": 4, "dropout": 0.1},
    )
