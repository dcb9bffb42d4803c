"""What a `checkpoint.pt` holds, checked before any of it reaches a model."""

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from mag2.saving.bounded_json import is_number
from mag2.saving.sentences import one_line
from mag2.saving.torch_files import TorchFileError, load_torch
from mag2.training.history import Epoch
from mag2.training.optimizer_state import load_optimizer

__all__ = ["SavedTraining"]

_ADVICE = "delete it to train from the start, or give another folder"
_STATES = {torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"), torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq")}


class SavedTraining:
    """The checkpoint at a path.

    Raises:
        ValueError: it is damaged, or mag2 did not write it; one sentence with what to do.
    """

    def __init__(self, path: Path, device: torch.device | str):
        self.path = path
        try:
            content = load_torch(path, device, checksums=True)
        except TorchFileError as fault:
            raise self._refusal(str(fault)) from fault
        if not isinstance(content, dict):
            raise self._refusal("holds no training")
        for key, kind in {
            "identity": dict,
            "model": dict,
            "optimizer": dict,
            "schedule": dict,
            "history": list,
        }.items():
            if not isinstance(content.get(key), kind):
                raise self._refusal(f"has no {key} of a training")
        self.identity: dict[str, Any] = content["identity"]
        self._content: dict[str, Any] = content

    def is_of(self, identity: Mapping[str, Any]) -> bool:
        """Whether the training has this identity."""
        try:
            return bool(self.identity == identity)
        except (RuntimeError, TypeError):  # tensors, where plain values belong
            return False

    def load_into(self, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler) -> list[Epoch]:
        """Load it into all three, in place; the epochs that it has trained.

        Raises:
            ValueError: it does not fit, or is damaged; one sentence.
        """
        try:
            epochs = [_epoch(line, number) for number, line in enumerate(self._content["history"], 1)]
            rates = _checked_schedule(self._content["schedule"], schedule)
            _check_groups(self._content["optimizer"], optimizer)
            weights = self._content["model"]
            _load_weights(model, weights)
            names = self._content.get("parameters")
            load_optimizer(optimizer, self._content["optimizer"], model, names, list(weights))
            _check_states(optimizer)
            schedule.load_state_dict(rates)
        except Exception as fault:  # values of other kinds than training writes can fail in any way, in torch too
            why = f" ({one_line(str(fault))})" if isinstance(fault, ValueError) and str(fault) else ""
            raise self._refusal(f"does not fit this training{why}") from fault
        return epochs

    def predictions(self) -> list[Tensor | None]:
        """For each epoch the scores (n,) of the n test videos; None where they were not kept, as in version 0.1.

        Raises:
            ValueError: they are of another number of epochs, or no numbers; one sentence.
        """
        stacked, epochs = self._content.get("predictions"), len(self._content["history"])
        if stacked is None:
            return [None] * epochs
        if not isinstance(stacked, Tensor) or not stacked.is_floating_point() or stacked.dim() != 2:
            raise self._refusal("holds other predictions than scores of test videos")
        if len(stacked) != epochs:
            raise self._refusal(f"holds predictions of {len(stacked)} epochs and a history of {epochs}")
        return [None if row.isnan().all() else row.clone() for row in stacked.cpu()]

    def best_weights(self, model: nn.Module) -> dict[str, Tensor] | None:
        """The weights of the best epoch on validation; None without one.

        Raises:
            ValueError: they are not those of the model; one sentence.
        """
        best = self._content.get("best")
        if best is None:
            return None
        own = model.state_dict()
        if not isinstance(best, dict) or best.keys() != own.keys():
            raise self._refusal("holds best weights of another model")
        if not all(isinstance(best[name], Tensor) and best[name].shape == own[name].shape for name in own):
            raise self._refusal("holds best weights of other shapes")
        return best

    def _refusal(self, clause: str) -> ValueError:
        return ValueError(f"{self.path} is damaged or foreign: it {clause}; {_ADVICE}")


def _load_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    try:
        model.load_state_dict(weights)  # whose hooks know the keys of earlier versions
    except RuntimeError:  # torch lists every key, in many lines
        raise ValueError("its weights are those of another model") from None


def _epoch(line: Any, number: int) -> Epoch:
    names = {field.name for field in fields(Epoch)}
    if not isinstance(line, dict) or not names - {"validation"} <= set(line) <= names:
        raise ValueError(f"epoch {number} of its history has other values")
    if line["epoch"] != number or not all(map(is_number, line.values())):
        raise ValueError(f"epoch {number} of its history has values that are no numbers")
    return Epoch(**line)


def _checked_schedule(state: Mapping[str, Any], schedule: LRScheduler) -> dict[str, Any]:
    """What becomes attributes of the schedule, without those of other releases of torch."""
    own = schedule.state_dict()
    known = {key: value for key, value in state.items() if key in own}
    if not all(_alike(value, own[key]) for key, value in known.items()):
        raise ValueError("its schedule of the learning rate has other values")
    return known


def _check_groups(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    groups = state.get("param_groups")
    if not isinstance(groups, list) or not isinstance(state.get("state"), dict):
        raise ValueError("its optimizer has no state")
    for theirs, ours in zip(groups, optimizer.param_groups, strict=False):
        for key in set(theirs) & set(ours) - {"params"}:
            if not _alike(theirs[key], ours[key]):
                raise ValueError("its optimizer has other settings")


def _check_states(optimizer: torch.optim.Optimizer) -> None:
    """A step would fail at what is missing."""
    wanted = _STATES.get(type(optimizer), ())
    for state in optimizer.state.values():
        if any(not isinstance(state.get(name), Tensor) for name in wanted):
            raise ValueError("its optimizer lacks a part of its state")


def _alike(value: Any, own: Any) -> bool:
    """Whether a saved value is of the kind that the present one is; settings that may be None are not looked at."""
    if is_number(own):
        return is_number(value) and math.isfinite(value)
    if isinstance(own, list | tuple) and all(map(is_number, own)):
        return isinstance(value, list | tuple) and len(value) == len(own) and all(map(is_number, value))
    if isinstance(own, bool):
        return isinstance(value, bool)
    return value is None or own is None or isinstance(value, type(own))
