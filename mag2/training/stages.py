"""Train a model in all its stages: most have one; PAMFN trains its branches before it fuses them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import nn

from mag2.data import Dataset
from mag2.training.contract import branches_of
from mag2.training.fit import fit
from mag2.training.history import Epoch, History
from mag2.training.recipe import Recipe
from mag2.training.run import Run
from mag2.training.validation import Validation

__all__ = ["stages", "train"]


def stages(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules to train, in turn, the model itself last, under the name "".

    A model with `branches` has these trained first; its `start_fusion()` is called before its own turn
    (`mag2.training.contract.ScoringModel`).
    """
    branches = branches_of(model)
    yield from branches.items()
    if branches:
        model.start_fusion()  # type: ignore[operator]
    yield "", model


def train(
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    run: Run,
    on_epoch: Callable[[Epoch], object] | None = None,
    *,
    branches: Recipe | None = None,
    branch_epochs: int | None = None,
    validation: Validation | None = None,
    keep_model: bool = False,
) -> History:
    """`fit` every stage; the history of the last stage, the model itself, is returned.

    Each earlier stage has its checkpoint in a folder of its name inside `run.folder`. `validation` holds in every
    stage; `keep_model` writes the whole model, after its last stage.

    Args:
        recipe: of the model, and of its branches unless `branches` is given. run: with the epochs of the model.
        branches: the recipe of the branches. branch_epochs: their epochs; by default those of `run`.

    Raises:
        ValueError: `branches` or `branch_epochs` for a model without branches; or as `fit`.
    """
    if not branches_of(model) and (branches is not None or branch_epochs is not None):
        given = "branch_epochs" if branches is None else "branches"
        raise ValueError(f"{type(model).__name__} has no branches to train before it: leave {given} out")
    for name, module in stages(model):
        folder = run.folder and run.folder / name
        own, epochs = (branches or recipe, branch_epochs or run.epochs) if name else (recipe, run.epochs)
        history = fit(
            module,
            dataset,
            own,
            replace(run, folder=folder, epochs=epochs, record=() if name else run.record),
            on_epoch,
            validation=validation,
            keep_model=keep_model and not name,
        )
    return history
