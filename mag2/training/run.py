"""The settings of a training that do not belong to the model: epochs, seed, device, folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mag2.saving.sentences import check_name

__all__ = ["EVALUATIONS", "PRECISIONS", "Run", "autocast", "check_run"]

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
# What is scored when a model is measured, in words.
EVALUATIONS = {"crops": "the middle crop of a video", "whole": "whole videos, one at a time"}


@dataclass(frozen=True)
class Run:
    """The settings of a training that do not belong to the model.

    Of these only `epochs`, `seed`, `precision` and `evaluation` change the numbers.

    Attributes:
        epochs: the number of epochs.
        seed: seed of dropout, order and crops. The initial weights of the model are drawn before, by the caller.
        device: "cpu", "cuda", "cuda:1", ...
        precision: "float32", or "bfloat16" for autocast.
        compile: True runs the model through `torch.compile`.
        folder: for the checkpoint and `metrics.jsonl`; with None nothing is written.
        evaluation: what is scored after every epoch: "crops", the centre crop of every test video; or "whole", every
            test video from its first to its last clip, alone in its batch.
        checkpoint_seconds: smallest time between two checkpoints in seconds; 0 for one after every epoch.
        record: numbers of the epochs after which the decoded grades of the test videos are saved, in the folder
            `recorded`, for the figures of an early stage (`mag2.figures`).

    Raises:
        ValueError: epochs or seed is no whole number, fewer than 1 epoch, an unknown precision or evaluation, or an
            epoch in `record` that does not exist.
    """

    epochs: int
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    compile: bool = False
    folder: Path | None = None
    evaluation: str = "crops"
    checkpoint_seconds: float = 60.0
    record: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if self.folder is not None:
            object.__setattr__(self, "folder", Path(self.folder))  # a text will do
        for name in ("epochs", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} is a whole number, got {value!r}")
        if self.epochs < 1:
            raise ValueError(f"a training wants at least one epoch, got {self.epochs}")
        check_name("precision", self.precision, PRECISIONS)
        beyond = [epoch for epoch in self.record if not 1 <= epoch <= self.epochs]
        if beyond:
            raise ValueError(
                f"a training of {self.epochs} epochs cannot record epoch {beyond[0]}; give 1 to {self.epochs}"
            )
        check_name("evaluation", self.evaluation, EVALUATIONS)

    def scoring(self, clips: int | None) -> dict[str, Any]:
        """Return the options of `predict` for scoring as this run does; `clips` is the crop length of a recipe."""
        return {"device": self.device, "precision": self.precision, "clips": clips, "evaluation": self.evaluation}


def check_run(run: object) -> None:
    """Raise TypeError if this is no `Run`."""
    if not isinstance(run, Run):
        hint = f"Run(epochs={run})" if isinstance(run, int) and not isinstance(run, bool) else "Run(epochs=...)"
        raise TypeError(f"run is a {type(run).__name__}: give {hint}")


def autocast(device: str, precision: str) -> torch.autocast:
    """The context in which a model runs at a precision of `PRECISIONS`."""
    dtype = PRECISIONS[precision]
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not None)
