"""Freezing a base, so that its guides alone learn, and undoing it.

Each module of the base notes which of its own parameters were frozen. The note goes where the module goes: into copies
and pickles, and away with a part that is exchanged.
"""

from torch import nn

from mag2.plugin.plug import Plug, Plugs

__all__ = ["freeze_base", "is_frozen", "thaw_base"]

_NOTE = "_mag2_frozen"


def freeze_base(model: nn.Module) -> None:
    """Freeze what no plug learns, and note it."""
    learned = {id(p) for part in model.modules() if isinstance(part, Plug) for p in part.parameters()}
    for part in _base(model):
        names = [name for name, p in part.named_parameters(recurse=False) if p.requires_grad and id(p) not in learned]
        for name in names:
            getattr(part, name).requires_grad_(False)
        if names:
            part.__dict__[_NOTE] = [*part.__dict__.get(_NOTE, ()), *names]


def thaw_base(model: nn.Module) -> None:
    """Have what was frozen learn again, as far as it is still there."""
    for part in _base(model):
        own = dict(part.named_parameters(recurse=False))
        for name in part.__dict__.pop(_NOTE, ()):
            if name in own:
                own[name].requires_grad_(True)


def is_frozen(model: nn.Module) -> bool:
    """Whether anything of the model was frozen by `freeze_base`."""
    return any(_NOTE in part.__dict__ for part in _base(model))


def _base(model: nn.Module) -> list[nn.Module]:
    """The modules of a model without those of its plugs."""
    inside = {part for plugs in model.modules() if isinstance(plugs, Plugs) for part in plugs.modules()}
    return [part for part in model.modules() if part not in inside]
