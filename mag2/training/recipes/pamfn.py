"""PAMFN's recipes: the branches first, then the fusion."""

from dataclasses import replace
from typing import Any

from mag2.training.recipe import PAMFN_BRANCH_RECIPE, PAMFN_RECIPE
from mag2.training.recipes.likeness import most_alike
from mag2.training.recipes.model_recipe import ModelRecipe

__all__ = ["pamfn"]

BRANCH_EPOCHS = 250
EPOCHS = {"Ball": 400, "Clubs": 500, "Hoop": 300, "Ribbon": 500}
SHARED: dict[str, Any] = {"ms_heads": 1, "cm_heads": 1, "fc_reduction": 2, "feature_dropout": 0.5, "fc_dropout": 0.0}


def pamfn(dataset: str, target: str) -> ModelRecipe:
    """PAMFN: experts, rate, schedule and crops by dataset."""
    like, chosen = most_alike(dataset, ["RG", "Fis-V"])
    if like == "Fis-V":
        fusion = replace(PAMFN_RECIPE, lr=8e-4, schedule="constant", floor=None)
        epochs, kinds, clips = 500, 6, 130
    else:
        fusion = PAMFN_RECIPE
        epochs, kinds, clips = EPOCHS.get(target, EPOCHS["Ball"]), 10, 70
    recipe = ModelRecipe(
        fusion,
        epochs,
        source="configurations of github.com/qinghuannn/PAMFN (RG, Fis-V; feats1)",
        chosen=f"{chosen}; crops of the dataset's own length" if chosen else "",
        settings={**SHARED, "n_kinds": kinds},
        branches=PAMFN_BRANCH_RECIPE,
        branch_epochs=BRANCH_EPOCHS,
        evaluation="whole",
        small={"dim": 32},
    )
    return recipe.with_clips(None if chosen else clips)
