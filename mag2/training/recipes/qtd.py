"""QTD's recipes."""

from dataclasses import replace
from typing import Any

from mag2.training.recipe import QTD_RECIPE
from mag2.training.recipes.likeness import most_alike
from mag2.training.recipes.model_recipe import ModelRecipe

__all__ = ["qtd"]

SHARED: dict[str, Any] = {"dropout": 0.7, "positional": "query"}
SETTINGS: dict[str, dict[str, Any]] = {
    "LOGO": {"n_queries": 48, "query_var": 0.5, "noise": 0.0},
    "RG": {"n_queries": 68, "query_var": 2.0, "noise": 0.05},
    "Fis-V": {"n_queries": 136, "query_var": 5.0, "noise": 0.05},
}
BATCHES = {"Fis-V": 32}
EPOCHS = 1000


def qtd(dataset: str, target: str) -> ModelRecipe:
    """QTD: queries, their deviation and the noise on scores by dataset."""
    like, chosen = most_alike(dataset, SETTINGS)
    return ModelRecipe(
        replace(QTD_RECIPE, batch=BATCHES.get(like, QTD_RECIPE.batch)),
        EPOCHS,
        source="configurations of github.com/dx199771/Interpretability-AQA (LOGO, RG, Fis-V)",
        chosen=chosen,
        settings={**SHARED, **SETTINGS[like]},
        # Queries of that deviation, and noise, drown what sixteen narrow queries learn.
        small={"dim": 64, "feed_forward": 64, "n_queries": 16, "dropout": 0.1, "query_var": 1.0, "noise": 0.0},
    )
