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
    """Yield the modules to train with their names: the branches, then the model itself, under the name "".

    After the branches `start_fusion()` of the model is called (`mag2.training.contract.ScoringModel`).
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
    """Train a model in all its stages: first its `branches`, if it has any, then the model itself.

    Each stage is one call of `mag2.training.fit`; a model without branches has one stage. Each branch has its
    checkpoint in a folder of its name inside `run.folder`.

    Args:
        model, dataset, on_epoch, validation: as in `fit`, for every stage.
        recipe: of the model, and of its branches unless `branches` is given.
        run: with the epochs of the model.
        branches: the recipe of the branches.
        branch_epochs: the epochs of each branch; by default those of `run`.
        keep_model: as in `fit`; the whole model is written after its last stage.

    Returns:
        The `History` of the last stage.

    Raises:
        TypeError, ContractError, ValueError, FloatingPointError, DiskFullError: as `fit`.
        ValueError: also `branches` or `branch_epochs` for a model without branches.
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
