"""The folder of one training: a checkpoint to resume from, and a line of metrics for each epoch."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from mag2.saving.atomic_io import save_atomically, write_atomically
from mag2.training.history import Epoch, History
from mag2.training.optimizer_state import parameter_names
from mag2.training.run import Run
from mag2.training.saved_training import SavedTraining

__all__ = ["Checkpoint"]


class Checkpoint:
    """What a training keeps on disk, `checkpoint.pt` and `metrics.jsonl` in `run.folder`; nothing without a folder.

    Args:
        run: how the training runs.
        identity: everything that the numbers depend on, as plain values. A checkpoint of another identity is refused.
        marks: what every line of metrics says beside its numbers.
    """

    def __init__(self, run: Run, identity: Mapping[str, Any], marks: Mapping[str, str]):
        self.run = run
        self.identity = json.loads(json.dumps(identity))
        self.marks = dict(marks)
        self.last_saved = time.monotonic()

    def resume(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler, history: History
    ) -> None:
        """Load the checkpoint that is there, in place; metrics of epochs after it are removed.

        Raises:
            ValueError: the checkpoint is of another training, damaged or foreign; one sentence with what to do.
        """
        folder = self.run.folder
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "checkpoint.pt"
        if path.exists() or path.is_symlink():
            saved = SavedTraining(path, self.run.device)
            if not saved.is_of(self.identity):
                raise ValueError(f"{path} is of another training (other data or settings); give another folder")
            history.epochs.extend(saved.load_into(model, optimizer, schedule))
        # Epochs that were measured after the checkpoint are trained again, so their lines are removed.
        lines = "".join(self._line(epoch) for epoch in history.epochs)
        write_atomically(lines, folder / "metrics.jsonl")

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler, history: History) -> None:
        """Add the last epoch's line, and write a checkpoint where one is due."""
        folder = self.run.folder
        if folder is None:
            return
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(self._line(history.last))
        done = len(history.epochs) == self.run.epochs
        if done or time.monotonic() - self.last_saved >= self.run.checkpoint_seconds:
            state = {
                "identity": self.identity,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "parameters": parameter_names(model, optimizer),
                "schedule": schedule.state_dict(),
                "history": [asdict(epoch) for epoch in history.epochs],
            }
            save_atomically(state, folder / "checkpoint.pt")
            self.last_saved = time.monotonic()

    def _line(self, epoch: Epoch) -> str:
        return json.dumps(asdict(epoch) | self.marks) + "\n"
