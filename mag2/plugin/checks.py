"""Refuse places where a plug would not run or not train, and warn where it might mix videos of a batch."""

import warnings

import torch
from torch import nn

from mag2.plugin.plug import HOME, Plug, plugs_in
from mag2.plugin.wrappers import inside, is_sharded, names_of, parallel_around

__all__ = ["check_home", "check_shards", "check_wrappers", "warn_of_axes"]

_PARALLEL = {"DistributedDataParallel", "DataParallel", "DeepSpeedEngine"}


def check_home(base: nn.Module, plug: Plug, home: nn.Module) -> None:
    """Refuse a module that cannot be the home of a plug.

    Raises:
        ValueError: it is parallel or sharded already, is never called itself, or has an attribute named `HOME`.
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


def check_wrappers(model: nn.Module) -> None:
    """Raise a ValueError where a model is inside DDP or DataParallel, or sharded."""
    if is_sharded(model):
        raise ValueError("fully_shard or FSDP counts parameters when it is made; attach to the model, then wrap it")
    while (name := inside(model)) is not None:
        if _PARALLEL & names_of(model):
            kind = type(model).__name__
            raise ValueError(f"{kind} counts parameters when it is made; attach to the model, then wrap it")
        model = model._modules[name]  # type: ignore[assignment]


def check_shards(plug: Plug, home: nn.Module) -> None:
    """Refuse to run a plug that `fully_shard` does not manage in a module that it manages.

    `fully_shard` goes over the children of modules, and the plugs of containers are not among these. Each process would
    then train a guide of its own.

    Raises:
        RuntimeError: the plug is not sharded with its module.
    """
    if "_is_fsdp_managed_module" in home.__dict__ and not _is_managed(plug):
        raise RuntimeError(
            f"{plug!r} is not sharded with its {type(home).__name__}, and each process would train one of its own: "
            f"before fully_shard(model), call fully_shard(place.module) for every place in attached(model)"
        )


def _is_managed(plug: Plug) -> bool:
    return all("_is_fsdp_managed_module" in part.__dict__ for part in plug.guide.modules())


def warn_of_axes(plug: Plug, home: nn.Module) -> None:
    """Warn where a module's `batch_first` contradicts the layout of a plug."""
    placement = getattr(plug, "placement", None)
    speaker = None if placement is None else _axes_of(home, placement.side)
    first = getattr(speaker, "batch_first", None)
    if placement is None or not isinstance(first, bool) or placement.layout not in ("btd", "tbd"):
        return
    fits, axes = ("btd", "(B, T, C)") if first else ("tbd", "(T, B, C)")
    if placement.layout != fits:
        warnings.warn(
            f"{plug!r} has layout {placement.layout!r}, and {type(speaker).__name__} there has batch_first={first}: "
            f"its features are {axes}, so that a guide would mix videos; attach with layout={fits!r}",
            stacklevel=4,
        )


def _axes_of(home: nn.Module, side: str) -> nn.Module | None:
    """The module that says `batch_first` for what comes out of, or goes into, a module."""
    while not isinstance(getattr(home, "batch_first", None), bool):
        if isinstance(home, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
            return home.self_attn
        if isinstance(home, (nn.TransformerEncoder, nn.TransformerDecoder)):
            items = list(home.layers)
        elif isinstance(home, nn.Sequential):
            items = list(home)
        else:
            return None
        if not items:
            return None
        home = items[-1 if side == "output" else 0]
    return home


def _never_called(base: nn.Module, home: nn.Module) -> str | None:
    """Why a module is never called as module(...), where that can be known."""
    for part in base.modules():
        within = part is home or any(inner is home for inner in part.modules())
        if within and isinstance(part, torch.jit.ScriptModule):
            return "scripted code calls no hooks; attach before torch.jit.script"
        if within and part is not home and hasattr(part, "_in_spec") and isinstance(part, torch.fx.GraphModule):
            return "an exported graph calls none of its modules; attach before torch.export"
        if isinstance(part, nn.MultiheadAttention) and part.out_proj is home:
            return (
                "nn.MultiheadAttention reads the weights of its out_proj and does not call it; attach to the attention"
            )
    if type(home).forward is nn.Module.forward and "forward" not in vars(home):
        kind = type(home).__name__
        if isinstance(home, (nn.ModuleList, nn.ModuleDict)):
            return (
                f"a {kind} is gone through and not called; attach to its items, at '...0', or to the module that goes "
                f"through it"
            )
        return f"a {kind} has no forward; attach to a part that is called"
    return None
