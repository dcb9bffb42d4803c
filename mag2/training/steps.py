"""A training step of a recipe: gradient, clipping, optimizer and, if it is stepped by batches, schedule."""

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from mag2.training.recipe import Recipe

__all__ = ["Steps"]


class Steps:
    """Takes the training steps of a model.

    Args:
        model: whose parameters are clipped together. recipe: how it is trained.
        optimizer, schedule: as `Recipe.make_optimizer` and `Recipe.make_schedule` return them.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, optimizer: torch.optim.Optimizer, schedule: LRScheduler):
        self.model, self.recipe = model, recipe
        self.optimizer, self.schedule = optimizer, schedule

    def take(self, loss: Tensor) -> None:
        """Update the parameters by the gradient of a scalar loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.grad_clip)
        self.optimizer.step()
        if self.recipe.by_iteration:
            self.schedule.step()

    def end_epoch(self) -> None:
        """Step the schedule, if it is stepped by epochs."""
        if not self.recipe.by_iteration:
            self.schedule.step()
