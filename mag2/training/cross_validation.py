"""Cross-validation: every video is tested once, by a model that was not trained on it or on its group."""

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mag2.data import Dataset
from mag2.data.folds import make_folds
from mag2.data.pooling import pooled
from mag2.data.splits import checked_groups, make_split
from mag2.training.history import Epoch, History
from mag2.training.prediction import predict
from mag2.training.recipe import Recipe, check_recipe
from mag2.training.run import Run, check_run
from mag2.training.stages import train
from mag2.training.validation import Validation

__all__ = ["CrossValidation", "Fold", "Spread", "cross_validate"]


@dataclass(frozen=True)
class Spread:
    """Mean and spread (sample standard deviation) of a measure over folds; nan where it is undefined in a fold."""

    mean: float
    spread: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Compute both from the values of two folds or more."""
        undefined = any(math.isnan(value) for value in values)
        return cls(math.nan, math.nan) if undefined else cls(fmean(values), stdev(values))

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.spread:.3f}"


@dataclass(frozen=True, repr=False)
class Fold:
    """One fold.

    Attributes:
        names: of its n test videos.
        prediction: (n,) the scores that the trained model gives them, in the target's units.
        history: of its training.
    """

    names: list[str]
    prediction: Tensor
    history: History

    @property
    def result(self) -> Epoch:
        """The epoch whose weights the model has: the best one on validation where one chooses it, else the last."""
        chosen = self.history.chosen
        return self.history.last if chosen is None else self.history.epochs[chosen - 1]

    def __repr__(self) -> str:
        result = self.result
        return f"Fold({len(self.names)} test videos; Spearman {result.spearman:.3f}, MSE {result.mse:.4g})"


@dataclass(frozen=True, repr=False)
class CrossValidation:
    """The folds of a cross-validation, each with its `Fold.result`.

    Attributes:
        folds: the folds in their order.
        simulated: whether the data were drawn.
    """

    folds: list[Fold]
    simulated: bool = False

    @property
    def spearman(self) -> Spread:
        """Spearman's rank correlation over folds."""
        return self._over_folds("spearman")

    @property
    def mse(self) -> Spread:
        """Mean squared error over folds, in the target's units, squared."""
        return self._over_folds("mse")

    @property
    def rl2(self) -> Spread:
        """R-l2 over folds, in percent."""
        return self._over_folds("rl2")

    @property
    def predictions(self) -> dict[str, float]:
        """The score of every video, in the target's units, by the model that was not trained on it."""
        return {
            name: score for fold in self.folds for name, score in zip(fold.names, fold.prediction.tolist(), strict=True)
        }

    def __repr__(self) -> str:
        kind = ", simulated data" if self.simulated else ""
        mse = self.mse
        return (
            f"CrossValidation({len(self.folds)} folds{kind}; Spearman {self.spearman}, "
            f"MSE {mse.mean:.4g} ± {mse.spread:.4g})"
        )

    def _over_folds(self, name: str) -> Spread:
        return Spread.of([getattr(fold.result, name) for fold in self.folds])


def cross_validate(
    build: Callable[[], nn.Module],
    dataset: Dataset,
    recipe: Recipe,
    run: Run,
    *,
    folds: int = 5,
    groups: Any = None,
    fold_seed: int = 0,
    on_epoch: Callable[[Epoch], object] | None = None,
    branches: Recipe | None = None,
    branch_epochs: int | None = None,
    validation: Validation | None = None,
    keep_model: bool = False,
) -> CrossValidation:
    """Train and test one model for each fold, on all videos of a dataset; the dataset's own split is not used.

    The folds depend on the videos, the groups, `folds` and `fold_seed` alone, so that different models of one dataset
    are compared on the same folds. With `run.folder` each fold has a folder in it, and a killed cross-validation is
    resumed by the same call.

    Args:
        build: a function without arguments that makes a new model: ``lambda: MLAVL(texts)``. It is called once for each
            fold, each time after `torch.manual_seed(run.seed)`.
        dataset: its train, validation and test videos together are the N videos, in the order of
            `mag2.data.pooling.pooled`: for `Dataset.from_arrays` that of the arrays.
        recipe, run: as in `mag2.training.train`.
        folds: the number of folds; 5 by default (our choice).
        groups: (N,) the group of each video (an athlete, a surgeon); all videos of a group are in one fold. By default
            the groups of the dataset, if it has any.
        fold_seed: seed of the order in which videos, or groups, are placed into folds.
        on_epoch: called after each epoch of each fold.
        branches, branch_epochs: of models with branches, as `mag2.training.train` takes them.
        validation: in each fold hold back a share of its training videos, to stop early or to keep the best epoch;
            whole groups where there are groups. The test videos of the fold have no part in it.
        keep_model: write the trained model of each fold into its folder in `run.folder`.

    Returns:
        The `CrossValidation`: ``.spearman`` and ``.mse`` with ``.mean`` and ``.spread``, ``.folds``, ``.predictions``.

    Raises:
        DataError: a number of folds that the videos or groups do not allow, or not one group per video.
        TypeError: `build` is no function without arguments, or does not return a new module; `dataset`, `recipe` or
            `run` is of another type.
        ValueError: a validation that names videos, which are others in every fold; or as `mag2.training.train`.
    """
    _check_build(build)
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}: give a Dataset, Dataset.from_arrays(features, scores) for example"
        )
    check_recipe(recipe)
    check_run(run)
    if validation is not None and validation.videos is not None:
        raise ValueError("validation.videos are numbers of one training set, which is another in each fold; give share")
    everything = pooled(dataset)
    own_groups = everything.groups if groups is None else checked_groups(groups, len(everything))
    parts = make_folds(len(everything), folds, own_groups, fold_seed)
    done: list[Fold] = []
    models: list[nn.Module] = []
    for number, (training, testing) in enumerate(parts, 1):
        part = Dataset(
            dataset.name,
            dataset.target,
            everything.subset(training),
            everything.subset(testing),
            dataset.simulated,
        )
        model = _built(build, run.seed, models)
        folder = None if run.folder is None else Path(run.folder) / f"fold-{number}"
        history = train(
            model,
            part,
            recipe,
            replace(run, folder=folder),
            on_epoch,
            branches=branches,
            branch_epochs=branch_epochs,
            validation=_of_groups(validation, own_groups, training),
            keep_model=keep_model,
        )
        scores = history.predictions[(history.chosen or len(history.epochs)) - 1]
        if scores is None:  # of an epoch that a checkpoint of version 0.1 has without them
            scores = predict(model, part.test, **run.scoring(recipe.clips))
        done.append(Fold(part.test.names, part.test.in_units(scores), history))
        models = [model.cpu()]  # to recognise it, should `build` return it again
    result = CrossValidation(done, dataset.simulated)
    undefined = [str(n) for n, fold in enumerate(done, 1) if math.isnan(fold.history.last.spearman)]
    if undefined:
        warnings.warn(
            f"fold {', '.join(undefined)} has equal scores for all of its test videos, given or predicted, and so no "
            f"rank correlation; the mean over folds is nan",
            stacklevel=2,
        )
    return result


def _of_groups(
    validation: Validation | None, groups: Sequence[Any] | None, training: NDArray[np.int64]
) -> Validation | None:
    """The validation of one fold: of whole groups of its training videos, where there are groups."""
    if validation is None or groups is None:
        return validation
    own = [groups[video] for video in training]
    held = make_split(validation.share, len(own), own, validation.seed).test
    return replace(validation, videos=tuple(held.tolist()))


def _check_build(build: Any) -> None:
    wanted = "give a function that makes a fresh model for every fold, lambda: MLAVL(texts) for example"
    if isinstance(build, nn.Module) or not callable(build):
        raise TypeError(f"build is a {type(build).__name__}: {wanted}")
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError):  # a compiled or built-in one; its call decides
        return
    try:
        signature.bind()
    except TypeError as error:
        name = getattr(build, "__name__", type(build).__name__)
        raise TypeError(f"build is {name} and is called without arguments ({error}): {wanted}") from None


def _built(build: Callable[[], nn.Module], seed: int, before: Sequence[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build()
    if not isinstance(model, nn.Module):
        raise TypeError(f"build returned a {type(model).__name__}: return a model, a torch.nn.Module")
    if any(model is each for each in before):
        raise TypeError("build returned one model twice, which has seen the videos of an earlier fold: make a new one")
    return model
