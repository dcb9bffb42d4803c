"""The state of an optimizer by the names of parameters: it finds them again where a later version orders them anew."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mag2.plugin.former_keys import present_names

__all__ = ["load_optimizer", "parameter_names"]


def parameter_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[list[str]]:
    """The names of the parameters of each group of an optimizer, in its order."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [[names[parameter] for parameter in group["params"]] for group in optimizer.param_groups]


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    model: nn.Module,
    saved_names: Sequence[Sequence[str]] | None,
    saved_keys: Sequence[str],
) -> None:
    """Load a saved state, each parameter's by its name.

    Args:
        state: the `state_dict` of the optimizer that was saved.
        model: whose parameters it trains.
        saved_names: `parameter_names` at that time. None in checkpoints of version 0.1, which did not keep them: its
            optimizers had the parameters in the order of the model's state_dict.
        saved_keys: the keys of the saved `state_dict` of the model.

    Raises:
        ValueError: it is the state of other parameters.
    """
    present = parameter_names(model, optimizer)
    if saved_names is None:
        order = {name: number for number, name in enumerate(present_names(model, saved_keys))}
        saved_names = [sorted(group, key=lambda name: order.get(name, len(order))) for group in present]
    fits = [sorted(ours) == sorted(theirs) for ours, theirs in zip(present, saved_names, strict=False)]
    groups = state["param_groups"]
    if len(present) != len(saved_names) or len(present) != len(groups) or not all(fits):
        raise ValueError("the optimizer's state is of other parameters")
    numbers: dict[str, int] = {}
    for group, held in zip(saved_names, groups, strict=True):
        numbers |= dict(zip(group, held["params"], strict=True))
    parameters = dict(model.named_parameters())
    fresh: dict[str, Any] = {"state": {}, "param_groups": []}
    count = 0
    for names, group in zip(present, groups, strict=True):
        fresh["param_groups"].append({**group, "params": list(range(count, count + len(names)))})
        for name in names:
            if (own := state["state"].get(numbers[name])) is not None:
                _check_shapes(own, parameters[name], name)
                fresh["state"][count] = own
            count += 1
    optimizer.load_state_dict(fresh)


def _check_shapes(state: Mapping[str, Any], parameter: Tensor, name: str) -> None:
    """Kernels of optimizers read past the end of a state that is too small."""
    for value in state.values():
        if isinstance(value, Tensor) and value.dim() > 0 and value.shape != parameter.shape:
            raise ValueError(f"the optimizer's state of {name} is {tuple(value.shape)}, not {tuple(parameter.shape)}")
