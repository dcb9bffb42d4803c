"""Attach guidance to any model and take it out again: attach, detach, disabled, attached.

The model keeps its class, its modules and its own state_dict keys. What a plug learns is registered under `model.mag2`,
where optimizers, DDP, `.to()` and `state_dict()` find it. `detach` gives the model back as it was.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mag2.nn.modules import first_floating, uncompiled, unwrapped
from mag2.plugin.feature_plug import FeaturePlug
from mag2.plugin.placement import Placement
from mag2.plugin.places import joined, paths, submodule
from mag2.plugin.plug import Plug, occupant
from mag2.plugin.residual import Residual
from mag2.plugin.signature import Index

__all__ = ["Attached", "attach", "attached", "detach", "disabled", "insert"]

STARTS = ("paper", "identity")
CONTAINER = "mag2"  # the attribute of a model under which its plugs are registered


class Plugs(nn.Module):
    """What is attached to a model: the plugs, and their modules as submodules, so that they train and are saved.

    In an `nn.Sequential` it is one more child that is called in its turn: it returns what it is given.
    """

    holds_plugs = True

    def __init__(self) -> None:
        super().__init__()
        self.guides = nn.ModuleList()
        self.plugs: list[Plug] = []
        self.frozen: list[str] = []  # names of the parameters that `freeze` froze

    def forward(self, features: Any, *others: Any, **named: Any) -> Any:
        """The identity."""
        return features


@dataclass(frozen=True, repr=False)
class Attached:
    """A plug and the path of its place in the model that `attached` was called with."""

    at: str
    plug: Plug

    @property
    def module(self) -> nn.Module:
        """What it learns."""
        return self.plug.module

    @property
    def enabled(self) -> bool:
        """False inside `disabled`."""
        return self.plug.enabled

    def __repr__(self) -> str:
        return self.plug.describe(self.at)


def attach(
    model: nn.Module,
    guide: nn.Module | Sequence[nn.Module],
    at: str | Sequence[str],
    *,
    side: str = "output",
    layout: str = "btd",
    item: Index | None = None,
    mask: Index | None = None,
    padding_mask: Index | None = None,
    edge_weight: Index | None = None,
    start: str = "paper",
    freeze: bool = False,
) -> nn.Module:
    """Guide the features at a place of the model, which is changed in place and returned.

    Args:
        model: any module, compiled ones too.
        guide: a module from clips (B, T, d) to clips (B, T, d), such as `ActionGraphGuidance`; it moves to the
            device and dtype of the model. One for all paths is shared by them; a list has one for each.
        at: dotted path of a submodule ("transformer.encoder"), "" for the model itself, or several paths.
        side: "output" or "input" of that module.
        layout: the order of the axes of its features: "btd", "bdt" or "tbd".
        item: where the features are: a name or a position in an output that is a dict, a tuple or a dataclass, or of
            an argument, however the call gives it. By default the whole output, or the first argument.
        mask: name or position of the module's argument that holds a clip mask (B, T), True where a clip is real.
            Calls that do not give it are guided without a mask.
        padding_mask: the same for a mask that is True, or below 0, where a clip is padding, as torch's masks are.
        edge_weight: name or position of the module's argument that holds edge weights (B, T, M), whatever the layout,
            for a guide that takes them. Calls that do not give it use those of `edge_weights_of`, if any.
        start: "paper", guided features replace the features; or "identity", ``features + W guided + b`` with W and b
            of zeros, so that the model starts from what it was. For that the guide says its width as `dim`.
        freeze: the model's own parameters stop learning until `detach`. (Its BatchNorms still follow the mode.)

    Raises:
        ValueError: no such path, side, layout, start or argument, a place that is taken, a guide that is no module,
            a model in DDP; or, when the model is called, features of another kind, width or layout.
    """
    if start not in STARTS:
        raise ValueError(f"unknown start {start!r}; there are {', '.join(STARTS)}")
    places = [at] if isinstance(at, str) else list(at)
    several = isinstance(guide, (list, tuple, nn.ModuleList))
    guides: list[Any] = list(guide) if several else [guide] * len(places)  # type: ignore[arg-type]
    if len(guides) != len(places) or not places:
        raise ValueError(f"{len(places)} places want one guide or as many, got {len(guides)}")
    for module in guides:
        if not isinstance(module, nn.Module):
            raise ValueError(f"a guide is an nn.Module from clips to clips, got a {type(module).__name__}")
    if start == "identity":
        around = {module: Residual(module) for module in guides}
        guides = [around[module] for module in guides]
    placement = Placement(side, layout, item, mask, padding_mask, edge_weight)
    plugs = [FeaturePlug(place, module, placement) for place, module in zip(places, guides, strict=True)]
    return insert(model, *plugs, freeze=freeze)


def insert(model: nn.Module, *plugs: Plug, freeze: bool = False) -> nn.Module:
    """Put plugs into a model, all of them or, if one does not fit, none."""
    inner = uncompiled(model)
    check(inner, plugs)
    container = container_of(inner)
    if container is None:
        container = Plugs().train(inner.training)
        inner._modules[CONTAINER] = (
            container  # add_module would see the container of a model that a wrapper forwards attributes of
        )
    for plug in plugs:
        plug.module.train(inner.training)
        # A guide has the device and the precision of its place; a model may have several of both.
        like = first_floating(submodule(inner, plug.at), inner)
        if like is not None and all(plug.module is not guide for guide in container.guides):
            plug.module.to(like.device, like.dtype)
        if all(plug.module is not guide for guide in container.guides):
            container.guides.append(plug.module)
        plug.insert(inner)
        container.plugs.append(plug)
    if freeze:
        freeze_base(inner)
    forget_compiled()
    return model


def check(model: nn.Module, plugs: Sequence[Plug]) -> None:
    """Raise a ValueError where one of the plugs cannot sit in the model; nothing is touched."""
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        raise ValueError(f"{type(model).__name__} counts parameters when it is made; attach to the model, then wrap it")
    own = (vars(model), vars(type(model)), model._modules, model._parameters, model._buffers)
    if container_of(model) is None and any(CONTAINER in names for names in own):
        raise ValueError(f"the model has an attribute {CONTAINER!r} of its own, where plugs would live; rename it")
    taken: dict[tuple, Plug] = {}
    for plug in plugs:
        plug.check(model)
        place = (submodule(model, plug.at), plug.spot)
        other = occupant(model, plug) or taken.get(place)
        if other is not None:
            raise ValueError(f"{other!r} sits there already; detach the model first")
        taken[place] = plug


def freeze_base(model: nn.Module) -> None:
    """Freeze what is not of a plug, and note it for `detach`."""
    container = container_of(model)
    assert container is not None
    learned = {parameter for _, other in containers(model) for parameter in other.parameters()}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter not in learned:
            parameter.requires_grad_(False)
            container.frozen.append(name)


def detach(model: nn.Module) -> nn.Module:
    """Take every plug out again: outputs, state_dict keys and requires_grad are as before `attach`."""
    inner = unwrapped(model)
    left = [(paths(inner)[path], container) for path, container in containers(inner)]
    for part, container in left:
        for plug in reversed(container.plugs):
            plug.remove(part)
    # Last, because plugs may have noted what was frozen already.
    for part, container in left:
        for name in container.frozen:
            part.get_parameter(name).requires_grad_(True)
        delattr(part, CONTAINER)
    forget_compiled()
    return model


@contextlib.contextmanager
def disabled(model: nn.Module) -> Iterator[nn.Module]:
    """Run the model without its plugs inside a `with`, for before-and-after comparisons."""
    inner = unwrapped(model)
    parts = paths(inner)
    before = [(plug, parts[path], plug.enabled) for path, container in containers(inner) for plug in container.plugs]
    try:
        for plug, part, _ in before:
            plug.switch(part, False)
        yield model
    finally:
        for plug, part, was in reversed(before):
            plug.switch(part, was)


def attached(model: nn.Module) -> list[Attached]:
    """What is attached where in a model, its parts included: plugs live in the module that they were attached to."""
    return [
        Attached(joined(path, plug.at), plug)
        for path, container in containers(unwrapped(model))
        for plug in container.plugs
    ]


def containers(model: nn.Module) -> list[tuple[str, Plugs]]:
    """The containers of plugs in a model, by the paths of the modules that something was attached to."""
    found = {
        container: path
        for path, part in reversed(paths(model).items())
        if (container := container_of(part)) is not None
    }
    return [(path, container) for container, path in reversed(found.items())]


def container_of(module: nn.Module) -> Plugs | None:
    """What is attached to a module itself, its parts not included."""
    # Not getattr: wrappers that forward attributes would show the container of what they wrap as theirs.
    container = module._modules.get(CONTAINER)
    return container if isinstance(container, Plugs) else None


def forget_compiled() -> None:
    """Have compiled code made anew: it does not look at hooks again once it is made."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
