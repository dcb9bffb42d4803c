"""Where nothing may be attached, because it would not run or not train, and where it might mix videos."""

import warnings

import torch
from torch import nn

from mag2.plugin.plug import HOME, Plug, plugs_in
from mag2.plugin.wrappers import WHOLES, parallel_around

__all__ = ["check_home", "check_wrappers", "warn_of_axes"]

_PARALLEL = (nn.parallel.DistributedDataParallel, nn.DataParallel)


def check_home(base: nn.Module, plug: Plug, home: nn.Module) -> None:
    """Refuse a home in which a plug could not live.

    Raises:
        ValueError: it is parallel or sharded already, is never called itself, or has an attribute of our name.
    """
    around = parallel_around(home)
    if around is not None:
        raise ValueError(f"{around} counts parameters when it is made; attach to the model, then wrap it")
    own = (vars(home), vars(type(home)), home._modules, home._parameters, home._buffers)
    if plugs_in(home) is None and any(HOME in names for names in own):
        raise ValueError(f"the model has an attribute {HOME!r} of its own, where plugs would live; rename it")
    why = _never_called(base, home)
    if why is not None:
        raise ValueError(f"{plug!r} would never run: {why}")


def warn_of_axes(plug: Plug, home: nn.Module) -> None:
    """Warn where a module says that its batch is the second axis and the layout says that it is the first."""
    placement = getattr(plug, "placement", None)
    if placement is None or placement.layout != "btd":
        return
    for part in home.modules():
        first = getattr(part, "batch_first", None)
        if isinstance(first, bool):
            if not first:
                warnings.warn(
                    f"{plug!r} has layout 'btd', and {type(part).__name__} there has batch_first=False: its features "
                    f"are (T, B, C), so that a guide would mix videos; attach with layout='tbd'",
                    stacklevel=4,
                )
            return


def check_wrappers(model: nn.Module) -> None:
    """Raise a ValueError where a model is inside DDP or DataParallel."""
    while True:
        if isinstance(model, _PARALLEL):
            name = type(model).__name__
            raise ValueError(f"{name} counts parameters when it is made; attach to the model, then wrap it")
        names = [WHOLES[cls.__name__] for cls in type(model).__mro__ if cls.__name__ in WHOLES]
        inner = next((model._modules[name] for name in names if name in model._modules), None)
        if inner is None:
            return
        model = inner


def _never_called(base: nn.Module, home: nn.Module) -> str | None:
    """Why a module is never called as module(...), where that can be known."""
    if home is not base and type(home).forward is nn.Module.forward and "forward" not in vars(home):
        return (
            f"a {type(home).__name__} is gone through and not called; attach to its items, at '...0', or to the "
            f"module that goes through it"
        )
    for part in base.modules():
        inside = part is home or any(inner is home for inner in part.modules())
        if inside and isinstance(part, torch.jit.ScriptModule):
            return "scripted code calls no hooks; attach before torch.jit.script"
        if inside and part is not home and hasattr(part, "_in_spec") and isinstance(part, torch.fx.GraphModule):
            return "an exported graph calls none of its modules; attach before torch.export"
        if isinstance(part, nn.MultiheadAttention) and part.out_proj is home:
            return (
                "nn.MultiheadAttention reads the weights of its out_proj and does not call it; attach to the attention"
            )
    return None
