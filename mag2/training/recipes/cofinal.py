"""CoFInAl's recipes."""

from dataclasses import replace
from typing import Any

from mag2.training.recipe import COFINAL_RECIPE
from mag2.training.recipes.likeness import most_alike
from mag2.training.recipes.model_recipe import ModelRecipe

__all__ = ["cofinal"]

SHARED: dict[str, Any] = {"dropout": 0.3, "fine_dropout": 0.3, "margin": 1.0}
# By apparatus of RG: epochs, and the set of coarse weights and the alignment of the triplet loss.
RG: dict[str, tuple[int, dict[str, Any]]] = {
    "Ball": (250, {"coarse_weights": 2, "loss_align": 1, "alpha": 1.0}),
    "Clubs": (400, {"coarse_weights": 3, "loss_align": 1, "alpha": 1.0}),
    "Hoop": (300, {"coarse_weights": 2, "loss_align": 2, "alpha": 1.0}),
    "Ribbon": (150, {"coarse_weights": 3, "loss_align": 1, "alpha": 1.0, "reversed_branch": False}),
}
FISV: tuple[int, dict[str, Any]] = (
    200,
    {"coarse_weights": 3, "loss_align": 1, "alpha": 0.5, "dim": 448, "n_heads": 7},
)
CLIPS = 68  # of a training crop, on every dataset


def cofinal(dataset: str, target: str) -> ModelRecipe:
    """CoFInAl: coarse weights, alignment and size by target."""
    like, chosen = most_alike(dataset, ["RG", "Fis-V"])
    epochs, settings = FISV if like == "Fis-V" else RG.get(target, RG["Ball"])
    return ModelRecipe(
        replace(COFINAL_RECIPE, clips=CLIPS if dataset == "Fis-V" else None),
        epochs,
        source="scripts of github.com/ZhouKanglei/CoFInAl_AQA (RG, Fis-V)",
        chosen=f"{chosen}; crops of the dataset's own length" if chosen else "",
        settings={**SHARED, **settings},
        evaluation="whole",
        small={"dim": 64, "n_heads": 4, "dropout": 0.1},
    )
