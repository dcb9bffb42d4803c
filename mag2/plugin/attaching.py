"""Attach guidance to any model and take it out again: attach, detach, disabled, attached.

The model keeps its class, its modules and its own state_dict keys. A guide lives in the module that it guides, under
the name `mag2`, where optimizers, DDP, `.to()` and `state_dict()` find it. `detach` gives the model back as it was.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mag2.plugin.checks import check_home, check_wrappers, warn_of_axes
from mag2.plugin.feature_plug import FeaturePlug
from mag2.plugin.finding import find_plugs
from mag2.plugin.former_keys import FormerKeys
from mag2.plugin.freezing import freeze_base, thaw_base
from mag2.plugin.homes import move_in, move_out, separate, unhook
from mag2.plugin.placement import Placement
from mag2.plugin.places import path_of, paths
from mag2.plugin.plug import Hook, OutsideHook, Plug, plugs_in
from mag2.plugin.signature import Index
from mag2.plugin.starts import around
from mag2.plugin.watch import Called, watch_training
from mag2.plugin.wrappers import base_of, walk

__all__ = ["Attached", "attach", "attached", "detach", "disabled", "insert", "print_trainable_parameters"]


@dataclass(frozen=True, repr=False)
class Attached:
    """A plug, and the path of its place in the model that `attached` was called with."""

    at: str
    plug: Plug

    @property
    def root(self) -> str:
        """The path of the model that it was attached to, of which `plug.at` is a place; "" where it has moved since."""
        at = self.plug.at
        if at == "":
            return self.at
        return self.at[: -len(at) - 1] if self.at.endswith(f".{at}") else ""

    @property
    def module(self) -> nn.Module:
        """What it learns."""
        return self.plug.guide

    @property
    def enabled(self) -> bool:
        """False inside `disabled`."""
        return self.plug.enabled

    def __repr__(self) -> str:
        learning, every = _counts(self.plug.guide)
        calls = {0: "never called", 1: "called once"}.get(self.plug.calls, f"called {self.plug.calls:,} times")
        facts = [self.plug.how, f"{learning:,} of {every:,} parameters train", calls]
        return f"{self.plug.describe(self.at)} ({'; '.join(facts + ['disabled'] * (not self.enabled))})"


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
    start: str = "residual",
    freeze: bool = False,
) -> nn.Module:
    """Guide the features at a place of the model, which is changed in place and returned.

    Attach before the optimizer is built: it trains the parameters that it is given. Copies for averaging (EMA) are made
    after it too. Hooks that were registered before see features without guidance, and `model.apply(init)` reaches the
    guide as it reaches every part. A guide that did not fit when the model was called first gives way to the next one.

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
        start: how the guide enters. "residual": ``features + guide(features)``; "identity":
            ``features + W guide(features) + b`` with W and b of zeros, so that the model starts from what it was, for
            which the guide says its width as `dim`; "replace": ``guide(features)``.
        freeze: the model's own parameters stop learning until `detach`. (Its BatchNorms still follow the mode.)

    Raises:
        ValueError: no such path, side, layout, start or argument, a place that is taken or never called, a guide that
            is no module, a model that is parallel or sharded already; or, when the model is called, features of
            another kind, width or layout.
    """
    places: list[Any] = list(at) if isinstance(at, (list, tuple)) else [at]
    for place in places:
        if not isinstance(place, str):
            raise ValueError(_no_path(model, place))
    several = isinstance(guide, (list, tuple, nn.ModuleList))
    guides: list[Any] = list(guide) if several else [guide] * len(places)  # type: ignore[arg-type]
    if len(guides) != len(places) or not places:
        raise ValueError(f"{len(places)} places want one guide or as many, got {len(guides)}")
    for module in guides:
        if not isinstance(module, nn.Module):
            raise ValueError(f"a guide is an nn.Module from clips to clips, got a {type(module).__name__}")
    placement = Placement(side, layout, item, mask, padding_mask, edge_weight, start)
    entering = zip(places, around(guides) if start == "identity" else guides, strict=True)
    return insert(model, *(FeaturePlug(place, module, placement) for place, module in entering), freeze=freeze)


def insert(model: nn.Module, *plugs: Plug, freeze: bool = False) -> nn.Module:
    """Attach plugs to a model, all of them or, if one does not fit, none."""
    base = base_of(model)
    replaced = check(model, plugs)
    try:
        for home, plug in replaced:
            move_out(home, plug, base)
        for plug in plugs:
            move_in(base, plug)
        if freeze:
            freeze_base(base)
    except BaseException:
        for plug in reversed(plugs):
            move_out(plug.home(base), plug, base)
        for _, plug in reversed(replaced):
            move_in(base, plug)
        raise
    for plug in plugs:
        plug.froze = freeze
        warn_of_axes(plug, plug.home(base))
        watch_training(plug)
    if any(plug.froze for _, plug in replaced) and not any(place.plug.froze for place in attached(base)):
        thaw_base(base)
    _watch_calls(base)
    forget_compiled()
    return model


def check(model: nn.Module, plugs: Sequence[Plug]) -> list[tuple[nn.Module, Plug]]:
    """Raise a ValueError where one of the plugs cannot be attached to the model; nothing is touched.

    Returns the plugs that give way, with their homes: those that failed when they were called first.
    """
    check_wrappers(model)
    base = base_of(model)
    taken: dict[tuple, Plug] = {}
    replaced: list[tuple[nn.Module, Plug]] = []
    for plug in plugs:
        plug.check(base)
        home = plug.home(base)
        check_home(base, plug, home)
        there = list(plugs_in(home) or ())
        replaced += [(home, other) for other in there if other.failed and (home, other) not in replaced]
        kept = [each for each in there if not each.failed and (each.spot == plug.spot or each.key == plug.key)]
        other = next(iter(kept), taken.get((home, plug.spot), taken.get((home, plug.key))))
        if other is not None:
            raise ValueError(f"{other.describe(plug.at or other.at)} sits there already; detach the model first")
        taken[home, plug.spot] = taken[home, plug.key] = plug
    return replaced


def detach(model: nn.Module) -> nn.Module:
    """Take every plug out again: outputs, state_dict keys and requires_grad are as before `attach`."""
    base = base_of(model)
    if _is_shallow_copy(base):
        separate(base)
    parts = [part for _, part, _ in walk(base)]
    # Where each plug was attached, before the first of them goes.
    roots = {plug: _root_of(base, Attached(path, plug)) for plug, path in find_plugs(base).items()}
    for part in parts:
        for plug in reversed(list(plugs_in(part) or ())):
            move_out(part, plug, roots[plug])
    for part in parts:
        # Also of what was hooked to a module that another one has replaced.
        unhook(part, lambda hook: isinstance(hook, (Hook, OutsideHook)))
    # Last, because plugs may have noted what was frozen already.
    thaw_base(base)
    forget_compiled()
    return model


@contextlib.contextmanager
def disabled(model: nn.Module) -> Iterator[nn.Module]:
    """Run the model without its plugs inside a `with`, for before-and-after comparisons."""
    base = base_of(model)
    plugs = [(plug, _root_of(base, Attached(path, plug))) for plug, path in find_plugs(base).items()]
    try:
        for plug, root in plugs:
            plug.paused += 1
            plug.switched(root)
        yield model
    finally:
        for plug, root in plugs:
            plug.paused -= 1
            plug.switched(root)


def attached(model: nn.Module) -> list[Attached]:
    """What is attached where in a model, its parts included, in the order in which it was attached.

    Each prints its guide, its place, how it enters, how many of its parameters train, and how often it ran.
    """
    return [Attached(path, plug) for plug, path in find_plugs(base_of(model), used=True).items()]


def print_trainable_parameters(model: nn.Module) -> None:
    """Print how many parameters of a model train, of how many, as PEFT does, and how many of these are attached."""
    learning, every = _counts(model)
    inside = {p for place in attached(model) for p in place.module.parameters() if p.requires_grad}
    print(
        f"trainable params: {learning:,} || all params: {every:,} || trainable%: {100 * learning / max(every, 1):.4f} "
        f"|| attached and trainable: {sum(p.numel() for p in inside):,}"
    )


def forget_compiled() -> None:
    """Have compiled code made anew: it does not look at hooks again once it is made."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _no_path(model: nn.Module, place: Any) -> str:
    kind = type(place).__name__
    path = path_of(base_of(model), place) if isinstance(place, nn.Module) else None
    hint = "" if path is None else f", which stands at {path!r}"
    return f'at= is the path of a submodule, "transformer.encoder" for example, got a {kind}{hint}'


def _root_of(base: nn.Module, place: Attached) -> nn.Module:
    """The model that a plug was attached to; the whole one, where its home has moved since."""
    return paths(base).get(place.root, base)


def _is_shallow_copy(base: nn.Module) -> bool:
    """Whether a model was made by `copy.copy` of one that something is attached to and that still lives."""
    made_for = [hook.model for hook in base._forward_hooks.values() if isinstance(hook, Called)]
    plugs = plugs_in(base)
    made_for += [] if plugs is None else [plugs.home]
    originals = [each() for each in made_for if each is not None]
    return any(original is not None and original is not base for original in originals)


def _watch_calls(base: nn.Module) -> None:
    """Have a hook behind the model, the last one, look whether what is attached to it ran."""
    unhook(base, lambda hook: isinstance(hook, (Called, FormerKeys)))
    base.register_forward_hook(Called(base, [place.plug for place in attached(base) if place.plug.is_counted]))
    base.register_load_state_dict_pre_hook(FormerKeys())


def _counts(module: nn.Module) -> tuple[int, int]:
    """How many numbers of a module train, and how many there are."""
    parameters = list(module.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)
