"""The recipe of one model: how it is built, trained in its stages, and measured."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from mag2.saving.sentences import check_name
from mag2.training.recipe import Recipe
from mag2.training.run import EVALUATIONS

__all__ = ["SMALL_BATCH", "ModelRecipe", "Recipes"]

SMALL_BATCH = 16
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class ModelRecipe:
    """How one model is built, trained and measured for one target of one dataset.

    Attributes:
        recipe: of the model itself.
        epochs: the number of epochs.
        source: the source of the settings, in one line.
        chosen: settings that are in no source, so our choice, with the reason; "" for none.
        settings: arguments of the model's constructor that the scripts set.
        branches: the recipe of its branches, which are trained first; None for `recipe`.
        branch_epochs: the number of their epochs; None for `epochs`.
        evaluation: "crops", or "whole" for whole videos one at a time (`mag2.training.Run`).
        small: arguments of the constructor of a narrow model, for a first trial on a few cores.
    """

    recipe: Recipe
    epochs: int
    source: str = "given with the row"
    chosen: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    branches: Recipe | None = None
    branch_epochs: int | None = None
    evaluation: str = "crops"
    small: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        for count in (self.epochs, self.branch_epochs):
            if count is not None and count < 1:
                raise ValueError(f"a recipe has at least one epoch, got {count}")
        check_name("evaluation", self.evaluation, EVALUATIONS)

    def total_epochs(self, stages: int) -> int:
        """The epochs of all stages together, the last one that of the model itself."""
        return self.epochs + (stages - 1) * (self.branch_epochs or self.epochs)

    def with_epochs(self, epochs: int) -> "ModelRecipe":
        """The same with this number of epochs in every stage."""
        return replace(self, epochs=epochs, branch_epochs=self.branch_epochs and epochs)

    def with_clips(self, clips: int | None) -> "ModelRecipe":
        """The same with crops of this length in every stage; None for those of the dataset."""
        branches = self.branches and replace(self.branches, clips=clips)
        return replace(self, recipe=replace(self.recipe, clips=clips), branches=branches)

    def narrowed(self) -> "ModelRecipe":
        """Return the recipe of a narrow model on few videos: more and smaller steps."""
        branches = self.branches and replace(self.branches, batch=SMALL_BATCH)
        return replace(
            self,
            recipe=replace(self.recipe, batch=SMALL_BATCH),
            branches=branches,
            settings={**self.settings, **self.small},
        )

    def described(self) -> dict[str, Any]:
        """The settings as plain values, for JSON; where they are from is left out."""
        stages = {"branches": {**asdict(self.branches), "epochs": self.branch_epochs}} if self.branches else {}
        return {
            **asdict(self.recipe),
            "epochs": self.epochs,
            **stages,
            "evaluation": self.evaluation,
            "model": dict(self.settings),
        }


# The recipe of a model for each target: `recipes(dataset, target)`.
Recipes = Callable[[str, str], ModelRecipe]
