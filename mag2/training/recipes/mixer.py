"""Skating-Mixer's recipe."""

from mag2.training.recipe import MIXER_RECIPE
from mag2.training.recipes.model_recipe import ModelRecipe

__all__ = ["mixer"]


def mixer(dataset: str, target: str) -> ModelRecipe:
    """Skating-Mixer: one recipe."""
    return ModelRecipe(
        MIXER_RECIPE,
        500,
        source="script of github.com/AndyFrancesco29/Audio-Visual-Figure-Skating (FS1000)",
        chosen="" if dataset == "FS1000" else "as FS1000, the only dataset that its script has",
        settings={"dim": 512, "depth": 2, "dropout": 0.0},
        small={"dim": 64, "dropout": 0.1},
    )
