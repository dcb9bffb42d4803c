"""Freeze the model under its plugs, so that only the guides train, and undo it.

Each module of the model records which of its own parameters were frozen. The record is copied and pickled with the
module, and disappears with a module that is replaced. Parameters of a parametrisation (`weight_norm` and others) are
recorded by the module whose weight it makes, so that a layer may gain or lose one while it is frozen.
"""

from torch import nn

from mag2.plugin.plug import Plug, Plugs

__all__ = ["freeze_base", "thaw_base"]

_NOTE = "_mag2_frozen"


def freeze_base(model: nn.Module) -> None:
    """Freeze all parameters that belong to no plug, and record which ones."""
    learned = {id(p) for part in model.modules() if isinstance(part, Plug) for p in part.parameters()}
    for part in _base(model):
        own = _parameters(part)
        names = [name for name, each in own.items() if each.requires_grad and id(each) not in learned]
        for name in names:
            # Not requires_grad_, which parameters of lazy modules do not have yet.
            own[name].requires_grad = False
        if names:
            part.__dict__[_NOTE] = [*part.__dict__.get(_NOTE, ()), *names]


def thaw_base(model: nn.Module) -> None:
    """Make the recorded parameters trainable again, where they still exist."""
    for part in _base(model):
        own = _parameters(part)
        for name in part.__dict__.pop(_NOTE, ()):
            for found in _now(name, own):
                own[found].requires_grad = True


def _parameters(part: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a module itself and of its parametrisations, by name."""
    own = dict(part.named_parameters(recurse=False))
    kept = part._modules.get("parametrizations")
    for name, each in () if kept is None else kept.named_parameters():
        own[f"parametrizations.{name}"] = each
    return own


def _now(name: str, own: dict[str, nn.Parameter]) -> list[str]:
    """The names that a noted parameter has now: one that was parametrised since has the originals of its own."""
    if name in own:
        return [name]
    made = [other for other in own if other.startswith(f"parametrizations.{name}.original")]
    plain = name.removeprefix("parametrizations.").partition(".original")[0]
    return made or [other for other in [plain] if other in own]


def _base(model: nn.Module) -> list[nn.Module]:
    """The modules of a model without those of its plugs and of parametrisations, which their owners speak for."""
    apart: list[nn.Module | None] = [part for part in model.modules() if isinstance(part, Plugs)]
    apart += [part._modules["parametrizations"] for part in model.modules() if "parametrizations" in part._modules]
    inside = {inner for part in apart if part is not None for inner in part.modules()}
    return [part for part in model.modules() if part not in inside]
