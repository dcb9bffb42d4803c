"""Warnings of guides that have no effect: never called, never moved by an optimizer, or frozen unseen. Each once."""

import gc
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from mag2.nn.modules import uncompiled
from mag2.plugin.plug import Plug, plugs_in

__all__ = ["Called", "warn_once", "watch_training"]

# Plugs in training that no optimizer has moved yet.
_watched: "weakref.WeakSet[Plug]" = weakref.WeakSet()
_PATIENCE = 2  # steps without effect before it is said
_state: dict[str, Any] = {"hook": None}


def warn_once(plug: Plug, kind: str, sentence: str) -> None:
    """Warn of a plug, one time for each kind of fault."""
    said = plug.__dict__.setdefault("_warned", set())
    if kind not in said:
        said.add(kind)
        warnings.warn(f"{plug!r} {sentence}", stacklevel=3)


def watch_training(plug: Plug) -> None:
    """For a plug that runs in training mode: its parameters should learn, or somebody should have said that not.

    Replicas of `nn.DataParallel` have no parameters of their own and are passed over.
    """
    if getattr(plug, "_is_replica", False) or plug.__dict__.get("_settled", False):
        return
    if plug.was_trainable and not any(parameter.requires_grad for parameter in plug.guide.parameters()):
        plug.__dict__["_settled"] = True
        warn_once(
            plug,
            "frozen",
            "trains nothing: all its parameters were frozen after it was attached, as `get_peft_model` does for "
            "example; set requires_grad_(True) on `attached(model)[i].module` to train it",
        )
        return
    if _state["hook"] is None:
        _state["hook"] = register_optimizer_step_post_hook(_after_step)
    _watched.add(plug)


def _after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Look whether the watched plugs are among what this step moves."""
    for plug in list(_watched):
        parameters = [parameter for parameter in plug.guide.parameters() if parameter.requires_grad]
        if not parameters or _trains(optimizer, parameters):
            _settle(plug)
        elif any(parameter.grad is not None for parameter in parameters):
            smallest = min(parameters, key=torch.Tensor.numel)
            first = plug.__dict__.setdefault("_first_values", smallest.detach().clone())
            plug.__dict__["_missed"] = plug.__dict__.get("_missed", 0) + 1
            if plug.__dict__["_missed"] > _PATIENCE:
                _settle(plug)
                # Another optimizer may have its turn more rarely, or keep copies that it writes back.
                if torch.equal(first, smallest.detach()) and not any(_trains(o, parameters) for o in _optimizers()):
                    _warn_of_optimizer(plug)


def _warn_of_optimizer(plug: Plug) -> None:
    warn_once(
        plug,
        "optimizer",
        "gets gradients and no optimizer moves it: an optimizer that was built before `attach` does not know its "
        "parameters; build it after, or add them with add_param_group",
    )


def _trains(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> bool:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return any(id(parameter) in held for parameter in parameters)


def _optimizers() -> list[torch.optim.Optimizer]:
    return [value for value in gc.get_objects() if issubclass(type(value), torch.optim.Optimizer)]


def _settle(plug: Plug) -> None:
    _watched.discard(plug)
    plug.__dict__["_settled"] = True
    plug.__dict__.pop("_first_values", None)
    if not _watched and _state["hook"] is not None:
        _state["hook"].remove()
        _state["hook"] = None


class Called:
    """A hook behind a model that something was attached to: each enabled plug should have run in the call.

    A copy of the model has a copy of it, for the plugs of the copy.
    """

    def __init__(self, plugs: Sequence[tuple[str, Plug]]):
        self.plugs = list(plugs)
        self.before = {number: plug.calls for number, (_, plug) in enumerate(plugs)}

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: copies of plugs have not run."""
        return {"plugs": self.plugs, "before": {}}

    def __call__(self, model: nn.Module, args: tuple, output: Any) -> None:
        """Look; torch calls it."""
        if torch.compiler.is_compiling() or getattr(model, "_is_replica", False):
            return
        for number, (path, plug) in enumerate(self.plugs):
            if plug.enabled and plug.calls == self.before.get(number, 0):
                self._say(model, path, plug)
            self.before[number] = plug.calls

    def _say(self, model: nn.Module, path: str, plug: Plug) -> None:
        parts = _along(model, path)
        plugs = None if parts is None else plugs_in(uncompiled(parts[-1]))
        if parts is None or plugs is None or all(other is not plug for other in plugs):
            warn_once(plug, "gone", "went away with its module, which was exchanged; attach it to the new one")
        # Calls of compiled code are not counted.
        elif not any(uncompiled(part) is not part or _is_compiled(part) for part in parts):
            warn_once(
                plug,
                "called",
                "was not called while its model ran, so it guides nothing: a guide runs where its module is called as "
                "module(...), not by .forward, by its weights, or as a list that is gone through",
            )


def _along(model: nn.Module, path: str) -> list[nn.Module] | None:
    """The modules on the way to a place; None where it is not there any more."""
    parts: list[nn.Module] = [model]
    for name in path.split(".") if path else []:
        part = uncompiled(parts[-1])._modules.get(name)
        if part is None:
            return None
        parts.append(part)
    return parts


def _is_compiled(part: nn.Module) -> bool:
    return getattr(part, "_compiled_call_impl", None) is not None
