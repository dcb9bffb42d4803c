"""Warnings of guides that have no effect: never called, never moved by an optimizer, or frozen unseen. Each once."""

import gc
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from mag2.plugin.finding import find_plugs
from mag2.plugin.plug import Hook, OutsideHook, Plug, plugs_in
from mag2.plugin.wrappers import is_adapter

__all__ = ["Called", "found_idle", "warn_once", "watch_training"]

# Plugs that may train and that no optimizer has moved yet.
_watched: "weakref.WeakSet[Plug]" = weakref.WeakSet()
_PATIENCE = 2  # steps without effect before it is said, where an optimizer may work on copies
_state: dict[str, Any] = {"hook": None}


def warn_once(plug: Plug, kind: str, sentence: str) -> None:
    """Give a warning about a plug, once for each kind of fault."""
    said = plug.__dict__.setdefault("_warned", set())
    if kind not in said:
        said.add(kind)
        warnings.warn(f"{plug!r} {sentence}", stacklevel=3)


def found_idle(plug: Plug) -> bool:
    """Whether a plug was found that did not run when its model ran."""
    return bool({"called", "gone", "idle"} & plug.__dict__.get("_warned", set()))


def watch_training(plug: Plug) -> None:
    """Warn where the parameters of a plug do not train; called when it is attached and when it runs in training mode.

    Replicas of `nn.DataParallel` have no parameters of their own and are not checked.
    """
    if not plug.was_trainable or getattr(plug, "_is_replica", False):
        return
    if _is_frozen(plug):
        warn_once(
            plug,
            "frozen",
            "trains nothing: all its parameters were frozen after it was attached, as `get_peft_model` does for "
            "example; set requires_grad_(True) on `attached(model)[i].module` to train it",
        )
    elif "_settled" not in plug.__dict__:
        _warn_of_adapters(plug)  # at every call until a step has moved it: PEFT may come after `attach`
        if plug not in _watched:
            if _state["hook"] is None:
                _state["hook"] = register_optimizer_step_post_hook(_after_step)
            _watched.add(plug)


def _is_frozen(plug: Plug) -> bool:
    """Whether it has parameters and none of them learns; FSDP may take them away altogether."""
    parameter = None
    for parameter in plug.guide.parameters():
        if parameter.requires_grad:
            return False
    return parameter is not None


def _warn_of_adapters(plug: Plug) -> None:
    if any(is_adapter(part) for part in plug.guide.modules()):
        warn_once(
            plug,
            "adapted",
            "has layers that PEFT adapts, so that its own weights are frozen; give the config of PEFT "
            r"exclude_modules=r'.*\.mag2\..*' to leave guides alone",
        )


def _after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Look whether the watched plugs are among what this step moves."""
    for plug in list(_watched):
        parameters = [parameter for parameter in plug.guide.parameters() if parameter.requires_grad]
        graded = any(parameter.grad is not None for parameter in parameters)
        if not parameters:
            _settle(plug)
        elif _trains(optimizer, parameters):
            if graded or plug.calls:
                _settle(plug)
            elif plug.is_counted and plug.enabled and _has_gradients(optimizer):
                warn_once(
                    plug,
                    "idle",
                    "is trained and was never called: a guide runs where its module is called as module(...), and not "
                    "by a method as `forward_features`, by its weights, or as a list that is gone through",
                )
        elif graded:
            _miss(plug, optimizer, parameters)


def _miss(plug: Plug, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Say that no optimizer moves a plug that has gradients, where that is sure."""
    if "_first" not in plug.__dict__:
        steepest = max((each for each in parameters if each.grad is not None), key=_steepness)
        plug.__dict__["_first"] = weakref.ref(steepest), steepest.detach().clone()
    steepest, first = plug.__dict__["_first"]
    missed = plug.__dict__["_missed"] = plug.__dict__.get("_missed", 0) + 1
    # This optimizer works on the parameters around the guide themselves; others may keep copies that they write back.
    sure = _trains(optimizer, _around(plug))
    now = steepest()
    if not sure and (missed <= _PATIENCE or now is None or not torch.equal(first, now.detach())):
        return
    _settle(plug)
    # Another optimizer may have its turn more rarely.
    if not any(_trains(other, parameters) for other in _optimizers()):
        warn_once(
            plug,
            "optimizer",
            "gets gradients and no optimizer moves it: an optimizer that was built before `attach` does not know its "
            "parameters; build it after, or add them with add_param_group",
        )


def _steepness(parameter: nn.Parameter) -> float:
    return 0.0 if parameter.grad is None else float(parameter.grad.abs().max())


def _around(plug: Plug) -> list[nn.Parameter]:
    """The parameters of the model that a plug was attached to, as far as it is known, without those of the plug."""
    root = plug.attached_to()
    inside = {id(parameter) for parameter in plug.parameters()}
    return [] if root is None else [parameter for parameter in root.parameters() if id(parameter) not in inside]


def _trains(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> bool:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return any(id(parameter) in held for parameter in parameters)


def _has_gradients(optimizer: torch.optim.Optimizer) -> bool:
    return any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])


def _optimizers() -> list[torch.optim.Optimizer]:
    return [value for value in gc.get_objects() if issubclass(type(value), torch.optim.Optimizer)]


def _settle(plug: Plug) -> None:
    _watched.discard(plug)
    plug.__dict__["_settled"] = True
    plug.__dict__.pop("_first", None)
    if not _watched and _state["hook"] is not None:
        _state["hook"].remove()
        _state["hook"] = None


class Called(OutsideHook):
    """A hook that runs after a model with plugs and warns of enabled plugs that did not run.

    Training and evaluation are checked separately, because a model may run other parts in each. A copy of the model has
    a copy of the hook, for the plugs of the copy.
    """

    def __init__(self, model: nn.Module, plugs: Sequence[Plug]):
        self.model: weakref.ref[nn.Module] | None = weakref.ref(model)  # unknown of a deep copy
        self.plugs = list(plugs)
        self.before = {id(plug): plug.calls for plug in plugs}
        self.ran: set[tuple[int, bool]] = set()  # in which of the two modes
        self.ways: dict[int, list[str]] = {}  # the names on the way to a home

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: copies of plugs have not run."""
        return {"model": None, "plugs": self.plugs, "before": {}, "ran": set(), "ways": {}}

    def __call__(self, model: nn.Module, args: tuple, output: Any) -> None:
        """Check the plugs; torch calls it."""
        if torch.compiler.is_compiling() or getattr(model, "_is_replica", False):
            return
        for plug in list(self.plugs):
            if plug.calls != self.before.get(id(plug), 0):
                self.before[id(plug)] = plug.calls
                self.ran.add((id(plug), model.training))
            elif plug.enabled:
                self._look_for(model, plug)

    def _look_for(self, model: nn.Module, plug: Plug) -> None:
        """Say why a plug did not run; models may well leave out a part now and then, but not always."""
        way = _along(model, self.ways.get(id(plug), []), plug)
        if way is None:
            used = [other for other in find_plugs(model, used=True) if other.is_counted]
            if plug not in used and any((other.at, other.key) == (plug.at, plug.key) for other in used):
                # A copy of its home runs in its stead, as PEFT makes them.
                self.plugs = used
                return
            found = _names_to(model, plug)
            if found is None:
                warn_once(plug, "gone", "went away with its module, which was exchanged; attach it to the new one")
                self.plugs.remove(plug)
                return
            self.ways[id(plug)] = found
            way = _along(model, found, plug) or []
        if not any(isinstance(hook, Hook) and hook.key == plug.key for hook in _hooks(way[-1])):
            warn_once(
                plug,
                "gone",
                "guides nothing: its module was exchanged for another one, which took the guide over and does not run "
                "it; detach the model, and attach again",
            )
        # Calls of compiled code are not counted.
        elif (id(plug), model.training) not in self.ran and not any(map(_is_compiled, way)):
            mode = "training" if model.training else "evaluation"
            warn_once(
                plug,
                "called",
                f"was not called while its model ran in {mode} mode, so it guided nothing: a guide runs where its "
                f"module is called as module(...), not by .forward, by its weights, or as a list that is gone through",
            )


def _along(model: nn.Module, names: list[str], plug: Plug) -> list[nn.Module] | None:
    """The modules on the way to the home of a plug, the home the last one; None where it is not there."""
    way = [model]
    for name in names:
        part = way[-1]._modules.get(name)
        if part is None:
            return None
        way.append(part)
    return way if any(other is plug for other in plugs_in(way[-1]) or ()) else None


def _names_to(model: nn.Module, plug: Plug) -> list[str] | None:
    """The names on the way to the home of a plug; None where it is not in the model."""
    if any(other is plug for other in plugs_in(model) or ()):
        return []
    for name, part in model._modules.items():
        names = None if part is None else _names_to(part, plug)
        if names is not None:
            return [name, *names]
    return None


def _hooks(home: nn.Module) -> list[Any]:
    return [getattr(hook, "hook", hook) for hook in (*home._forward_hooks.values(), *home._forward_pre_hooks.values())]


def _is_compiled(part: nn.Module) -> bool:
    return "_orig_mod" in part._modules or getattr(part, "_compiled_call_impl", None) is not None
