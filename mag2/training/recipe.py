"""How a model is optimised: the optimizer, its schedule, the batch and the crop."""

import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, StepLR

from mag2.published import recipes
from mag2.saving.sentences import check_name

__all__ = [
    "COFINAL_RECIPE",
    "GDLT_RECIPE",
    "MBERT_RECIPE",
    "MIXER_RECIPE",
    "MLAVL_RECIPE",
    "PAMFN_BRANCH_RECIPE",
    "PAMFN_RECIPE",
    "QTD_RECIPE",
    "SGN_RECIPE",
    "Recipe",
    "check_recipe",
    "published_epochs",
]

SCHEDULES = ("cosine", "step", "constant")
UNITS = ("epoch", "iteration")


@dataclass(frozen=True)
class Recipe:
    """How one model is optimised. `mag2.training.recipes` has the recipes of the models of the tables.

    The defaults are those of MLAVL (released code), with a learning rate of 1e-3.

    Attributes:
        optimizer: "adam", "adamw" or "sgd".
        lr: learning rate.
        weight_decay: weight decay of the optimizer.
        momentum: of "sgd".
        batch: number of videos in a batch.
        schedule: "cosine": from `lr` to `final` times `lr` over all epochs; "step": times `gamma` every `step` epochs
            or batches; or "constant".
        final, step, gamma: of the schedule.
        grad_clip: largest norm of the gradient of all parameters together; None for no limit.
        floor: the rate at which the cosine ends, the same for all parameters; None for `final` times each rate.
        step_unit: what `step` counts: "epoch" or "iteration" (batches). With "iteration" batch number `step` is the
            first with the smaller rate, because the released script (of QTD) steps its schedule before its optimizer.
        rates: pairs of a prefix of parameter names and a factor of their learning rate; the first prefix that fits is
            used. Names are those of the model without its wrappers.
        clips: T, the length of crops in training and evaluation; None for the dataset's own.

    Raises:
        ValueError: an unknown optimizer, schedule or step_unit; or an lr, batch, step, clips or factor in `rates` that
            is not above 0.
    """

    optimizer: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    batch: int = 64
    schedule: str = "cosine"
    final: float = 0.01
    step: int = 400
    gamma: float = 0.1
    grad_clip: float | None = None
    floor: float | None = None
    step_unit: str = "epoch"
    rates: tuple[tuple[str, float], ...] = ()
    clips: int | None = None

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        for name, known in (
            ("optimizer", ("adam", "adamw", "sgd")),
            ("schedule", SCHEDULES),
            ("step_unit", UNITS),
        ):
            check_name(name, getattr(self, name), known)
        for name in ("lr", "batch", "step", "clips"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; give a number above 0")
        for beginning, share in self.rates:
            if not share > 0:
                raise ValueError(f"the share of the rate for {beginning!r} is {share}; give a number above 0")

    @property
    def identity(self) -> dict[str, Any]:
        """The settings as plain values, by which a checkpoint is compared with a recipe.

        Settings that were added after version 0.1 are left out where they have their default.
        """
        defaults = {field.name: field.default for field in fields(self)}
        return {key: value for key, value in asdict(self).items() if key not in LATER or value != defaults[key]}

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer over the trainable parameters of a model.

        Learning rates are multiplied by the factors in `rates`, and by the `lr_scale` of modules that have one.

        Raises:
            ValueError: no parameter name begins with a prefix in `rates`.
        """
        groups = self._groups(model)
        # Fused: one pass over all parameters. A loop over hundreds of small ones took a tenth of a small model's step.
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(groups, self.lr, weight_decay=self.weight_decay, fused=True)

    def make_schedule(self, optimizer: torch.optim.Optimizer, epochs: int) -> LRScheduler:
        """Return the schedule; it is stepped after every epoch or, with `by_iteration`, after every batch."""
        if self.schedule == "cosine":
            return self._cosine(optimizer, epochs)
        if self.by_iteration:
            return LambdaLR(optimizer, lambda batch: self.gamma ** ((batch + 1) // self.step))
        every = self.step if self.schedule == "step" else epochs + 1
        return StepLR(optimizer, every, self.gamma)

    @property
    def by_iteration(self) -> bool:
        """Whether the schedule is stepped after every batch."""
        return self.schedule == "step" and self.step_unit == "iteration"

    def _cosine(self, optimizer: torch.optim.Optimizer, epochs: int) -> LRScheduler:
        if self.floor is not None:
            return CosineAnnealingLR(optimizer, epochs, eta_min=self.floor)
        if len(optimizer.param_groups) > 1:
            # The end is a share of each group's own rate.
            return LambdaLR(optimizer, lambda epoch: self._share(epoch / epochs))
        return CosineAnnealingLR(optimizer, epochs, eta_min=self.final * self.lr)

    def _share(self, part: float) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * part)) / 2

    def _groups(self, model: nn.Module) -> list[Any]:
        scaled = [part for part in model.modules() if hasattr(part, "lr_scale")]
        scales: dict[Any, Any] = {p: part.lr_scale for part in scaled for p in part.parameters()}
        by_scale: dict[Any, list[nn.Parameter]] = {}
        unused = dict(self.rates)
        for name, parameter in model.named_parameters():
            own = WRAPPERS.sub("", name)
            beginning, share = next((rate for rate in self.rates if own.startswith(rate[0])), ("", 1.0))
            unused.pop(beginning, None)
            if parameter.requires_grad:
                by_scale.setdefault(share * scales.get(parameter, 1.0), []).append(parameter)
        if unused:
            raise ValueError(
                f"the recipe has a rate for {next(iter(unused))!r} and {type(model).__name__} has no parameter whose "
                f"name begins so; leave it out"
            )
        if set(by_scale) <= {1.0}:
            return by_scale.get(1.0, [])
        # The whole rate first: this one is logged.
        return [{"params": by_scale[scale], "lr": scale * self.lr} for scale in sorted(by_scale, reverse=True)]


# The settings of `Recipe` that version 0.1 did not have.
LATER = ("floor", "step_unit", "rates", "clips")
# What wrappers put before the names of parameters: DDP, `torch.compile`, `SimilarityWeighted`.
WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|model)\.)+")

# One stage of each model, as its repository's scripts have it; `mag2.training.recipes` says what differs by target.
MLAVL_RECIPE = Recipe()
GDLT_RECIPE = Recipe("sgd", lr=1e-2, batch=32)
COFINAL_RECIPE = Recipe("sgd", lr=1e-2, batch=32)
QTD_RECIPE = Recipe("adam", lr=1e-4, weight_decay=1e-5, batch=48, schedule="step", step_unit="iteration")
PAMFN_BRANCH_RECIPE = Recipe("sgd", lr=1e-2, batch=32, grad_clip=2.0, floor=5e-6)
# Decay is torch's default: the configured 1e-4 is not passed on.
PAMFN_RECIPE = Recipe("adamw", lr=5e-4, weight_decay=1e-2, batch=32, grad_clip=2.0, floor=5e-6, rates=(("fc.", 0.1),))
MIXER_RECIPE = Recipe("adam", lr=1e-4, weight_decay=5e-6, batch=16, schedule="constant")
# No source has a recipe for these in the comparison of Table 6; they are ours.
MBERT_RECIPE = Recipe("adamw", lr=1e-3, batch=32, grad_clip=2.0)
SGN_RECIPE = Recipe("adamw", lr=5e-4, batch=32, grad_clip=2.0)


def published_epochs(dataset: str, target: str) -> int:
    """Return MLAVL's number of epochs for a target; for targets that its paper does not list, its largest one."""
    known = recipes()
    if (dataset, target) in known:
        return known[dataset, target].epochs
    return max(recipe.epochs for recipe in known.values())


def check_recipe(recipe: object) -> None:
    """Raise TypeError if this is no `Recipe`."""
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe is a {type(recipe).__name__}: give Recipe(...), then the run")
