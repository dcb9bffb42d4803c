"""The folder of one training: a checkpoint to resume from, and a line of metrics for each epoch."""

import json
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from mag2.saving.atomic_io import save_atomically, write_atomically
from mag2.saving.full_disk import append_whole
from mag2.training.history import Epoch, History
from mag2.training.optimizer_state import parameter_names
from mag2.training.run import Run
from mag2.training.saved_training import SavedTraining

__all__ = ["Checkpoint"]


class Checkpoint:
    """The files of a training, `checkpoint.pt` and `metrics.jsonl` in `run.folder`; none without a folder.

    Args:
        run: the settings of the training.
        identity: everything that the numbers depend on, as plain values. A checkpoint of another identity is refused.
        marks: further entries of every line of metrics.
    """

    def __init__(self, run: Run, identity: Mapping[str, Any], marks: Mapping[str, str]):
        self.run = run
        self.identity = json.loads(json.dumps(identity))
        self.marks = dict(marks)
        self.last_saved = time.monotonic()
        self.best: dict[str, Tensor] | None = None  # the weights of the best epoch so far, where these are kept

    def resume(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler, history: History
    ) -> None:
        """Load the checkpoint of the folder, in place; metrics of epochs after it are removed.

        Raises:
            ValueError: the checkpoint is of another training, damaged or foreign; one sentence with what to do.
        """
        folder = self.run.folder
        if folder is None:
            return
        path = folder / "checkpoint.pt"
        if path.exists() or path.is_symlink():
            saved = SavedTraining(path, self.run.device)
            if not saved.is_of(self.identity):
                raise ValueError(f"{path} is of another training (other data or settings); give another folder")
            history.epochs.extend(saved.load_into(model, optimizer, schedule))
            history.predictions.extend(saved.predictions())
            self.best = saved.best_weights(model)
        # Epochs that were measured after the checkpoint are trained again, so their lines are removed.
        lines = "".join(self._line(epoch) for epoch in history.epochs)
        write_atomically(lines, folder / "metrics.jsonl")

    def keep_best(self, model: nn.Module) -> None:
        """Keep the present weights as those of the best epoch."""
        self.best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler,
        history: History,
        *,
        ended: bool = False,
    ) -> None:
        """Add the last epoch's line, and write a checkpoint where one is due: after the last epoch always."""
        folder = self.run.folder
        if folder is None:
            return
        append_whole(self._line(history.last).encode(), folder / "metrics.jsonl")
        if (
            ended
            or len(history.epochs) == self.run.epochs
            or time.monotonic() - self.last_saved >= self.run.checkpoint_seconds
        ):
            state = {
                "identity": self.identity,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "parameters": parameter_names(model, optimizer),
                "schedule": schedule.state_dict(),
                "history": [epoch.plain for epoch in history.epochs],
                "predictions": _stacked(history.predictions),
            }
            if self.best is not None:
                state["best"] = self.best
            save_atomically(state, folder / "checkpoint.pt")
            self.last_saved = time.monotonic()

    def _line(self, epoch: Epoch) -> str:
        return json.dumps(epoch.plain | self.marks) + "\n"


def _stacked(predictions: list[Tensor | None]) -> Tensor | None:
    """The predictions (epochs, n) of all epochs in one tensor, nan where they were not kept; None without any."""
    known = next((each for each in predictions if each is not None), None)
    if known is None:
        return None
    return torch.stack([torch.full_like(known, torch.nan) if each is None else each for each in predictions])
