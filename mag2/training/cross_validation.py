"""Cross-validation: every video is tested once, by a model that was not trained on it or on its group."""

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from mag2.data import Dataset
from mag2.data.folds import make_folds
from mag2.data.pooling import pooled
from mag2.data.splits import checked_groups
from mag2.training.history import Epoch, History
from mag2.training.recipe import Recipe, check_recipe
from mag2.training.run import Run, check_run
from mag2.training.stages import train

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
        history: of its training; `history.last` is its result.
    """

    names: list[str]
    prediction: Tensor
    history: History

    def __repr__(self) -> str:
        last = self.history.last
        return f"Fold({len(self.names)} test videos; Spearman {last.spearman:.3f}, MSE {last.mse:.4g})"


@dataclass(frozen=True, repr=False)
class CrossValidation:
    """The folds of a cross-validation, each with the result of its last epoch.

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
        return Spread.of([getattr(fold.history.last, name) for fold in self.folds])


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

    Returns:
        The `CrossValidation`: ``.spearman`` and ``.mse`` with ``.mean`` and ``.spread``, ``.folds``, ``.predictions``.

    Raises:
        DataError: a number of folds that the videos or groups do not allow, or not one group per video.
        TypeError: `build` is no function without arguments, or does not return a new module; `dataset`, `recipe` or
            `run` is of another type.
        ValueError: as `mag2.training.fit`.
    """
    _check_build(build)
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}: give a Dataset, Dataset.from_arrays(features, scores) for example"
        )
    check_recipe(recipe)
    check_run(run)
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
        history = train(model, part, recipe, replace(run, folder=folder), on_epoch)
        scores = history.predictions[-1]
        assert scores is not None  # `fit` fills in those that a checkpoint of version 0.1 lacks
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
