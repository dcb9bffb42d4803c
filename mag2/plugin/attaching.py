"""Attach guidance to any model and detach it: attach, detach, disabled, attached.

The model keeps its class, its modules and its own state_dict keys. A guide is registered in the module that it guides,
under the name `mag2`, where optimizers, DDP, `.to()` and `state_dict()` find it. `detach` restores the model.
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
    """One entry of `attached`: a plug and the path of its place.

    Attributes:
        at: the path of the module that the plug is attached to, in the model that `attached` was called with.
        plug: the plug.
    """

    at: str
    plug: Plug

    @property
    def root(self) -> str:
        """The path of the model that the plug was attached to: `plug.at` is a path in that model."""
        at = self.plug.at
        if at == "":
            return self.at
        return self.at[: -len(at) - 1] if self.at.endswith(f".{at}") else ""

    @property
    def module(self) -> nn.Module:
        """The attached module, such as an `ActionGraphGuidance`."""
        return self.plug.guide

    @property
    def enabled(self) -> bool:
        """Whether the plug runs; False inside `mag2.disabled`."""
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
    """Attach a guide to a submodule, so that it changes the submodule's features; the model is changed in place.

    Attach before the optimizer is built, because an optimizer trains only the parameters that it was given. Make copies
    for averaging (EMA) after attaching too. Hooks that were registered before get features without guidance.
    `model.apply(init)` reaches the guide as every other part. If the first call fails because the guide does not fit,
    the next `attach` at that place replaces it.

    Args:
        model: any module, compiled ones too.
        guide: a module that maps clips (B, T, d) to clips (B, T, d), such as `ActionGraphGuidance`. It is moved to the
            device and dtype of the model. One guide for several paths is shared by them; a list has one for each path.
        at: dotted path of a submodule ("transformer.encoder"), "" for the model itself, or several paths.
        side: whether the guide changes the "output" or the "input" of that submodule.
        layout: order of the axes of its features: "btd", "bdt" or "tbd" (batch, time, width).
        item: where the features are: a name or position in an output that is a dict, a tuple or a dataclass; or the
            name or position of an argument, which a call may give either way. By default the whole output, or the first
            argument.
        mask: name or position of the submodule's argument that holds a clip mask (B, T), True where a clip is real.
            Calls without that argument are guided without a mask.
        padding_mask: the same for a mask as torch's: False or 0 where a clip is real, True or another number where it
            is padding.
        edge_weight: name or position of the submodule's argument that holds edge weights (B, T, M), in any layout, for
            a guide that accepts them. Calls without that argument use the weights of `edge_weights_of`, if any.
        start: how the guide's output enters the model. "residual": ``features + guide(features)``. "identity":
            ``features + W guide(features) + b`` with W and b initialised to zeros, so that the model's output is
            unchanged at the start of training; the guide needs an attribute `dim`, its width. "replace":
            ``guide(features)``, as inside MLAVL. The paper does not say how MAG2 enters other models; the default is
            our choice (docs/starts.md has the measurements).
        freeze: True freezes the model's own parameters until `detach`. (Its BatchNorms still follow train and eval.)

    Returns:
        The model.

    Raises:
        ValueError: no such path, side, layout, start or argument; a place where a guide is attached already, or a
            submodule that is never called; a guide that is no module, or without `dim` for "identity"; a mask or edge
            weights for a guide that accepts none; a model that is parallel or sharded already. When the model is
            called: features of another kind, width or layout, or a mask that is no tensor.
        RuntimeError: when the model is called: the submodule is sharded by `fully_shard` and the guide is not.
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
    """Attach plugs to a model: all of them or, if one cannot be attached, none. Returns the model.

    `attach` calls it. Use it for plugs of your own class.

    Args:
        model: changed in place.
        plugs: the `Plug`s to attach.
        freeze: True freezes the model's own parameters until `detach`.

    Raises:
        ValueError: as `attach`, and as the `check` of the plugs.
    """
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
    """Remove every plug from a model: outputs, state_dict keys and requires_grad are as before `attach`.

    The model is changed in place and returned. Without plugs nothing happens.
    """
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
    """Run the model without its plugs inside a `with` block, to compare its outputs with and without them."""
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
    """List what is attached to a model and to its submodules, in the order in which it was attached.

    Each entry prints its guide, its place, how it enters, how many of its parameters train, and how often it ran.
    """
    return [Attached(path, plug) for plug, path in find_plugs(base_of(model), used=True).items()]


def print_trainable_parameters(model: nn.Module) -> None:
    """Print how many parameters of a model are trainable, as PEFT does, and how many of these are attached."""
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
