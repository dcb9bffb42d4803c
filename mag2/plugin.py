"""Put guidance into any model and take it out again: attach, detach, disabled, attached.

A plug is a loan. The model keeps its class, its modules and its own state_dict keys; what a plug learns is registered
under `model.mag2`, where optimizers, DDP, `.to()` and `state_dict()` find it; `detach` gives the model back as it was.
"""

import contextlib
import difflib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

SIDES = ("output", "input")
# How (B, T, C) stands in a model: the permutation from its layout to ours and back.
LAYOUTS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "btd": ((0, 1, 2), (0, 1, 2)),
    "bdt": ((0, 2, 1), (0, 2, 1)),
    "tbd": ((1, 0, 2), (1, 0, 2)),
}
ROOM = "mag2"  # the attribute of a model under which its plugs live


class Plug:
    """Something that sits at a place in a model. Subclasses say how it gets in and out.

    `module` holds what it learns (registered under `model.mag2.guides`), `enabled` is what `disabled` turns off.
    """

    def __init__(self, at: str, module: nn.Module):
        self.at, self.module, self.enabled = at, module, True

    @property
    def place(self) -> tuple:
        """What may be occupied only once."""
        return (type(self), self.at)

    def insert(self, model: nn.Module) -> None:
        """Take the place in the model."""
        raise NotImplementedError

    def remove(self, model: nn.Module) -> None:
        """Leave the model as `insert` found it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self.module).__name__} at {self.at or 'the model itself'!r}"


class FeaturePlug(Plug):
    """Guides the features that go into or come out of a module, through a forward hook.

    The hook is a bound method of this plain object, which deepcopy and pickle copy together with the module that it
    calls; a closure would keep pointing at the original.
    """

    def __init__(
        self,
        at: str,
        module: nn.Module,
        *,
        side: str = "output",
        layout: str = "btd",
        item: int | str | None = None,
        mask: int | str | None = None,
    ):
        super().__init__(at, module)
        self.side, self.layout, self.item, self.mask = side, layout, item, mask
        self.handle: Any = None

    @property
    def place(self) -> tuple:
        """A place is a side of a module and what is taken there."""
        return (type(self), self.at, self.side, self.item)

    def insert(self, model: nn.Module) -> None:
        """Hook the module at the path."""
        target = submodule(model, self.at)
        if self.side == "output":
            self.handle = target.register_forward_hook(self._on_output, with_kwargs=True)
        else:
            self.handle = target.register_forward_pre_hook(self._on_input, with_kwargs=True)

    def remove(self, model: nn.Module) -> None:
        """Unhook it."""
        self.handle.remove()
        self.handle = None

    def __repr__(self) -> str:
        item = "" if self.item is None else f"[{self.item!r}]"
        return f"{type(self.module).__name__} on the {self.side}{item} of {self.at or 'the model itself'!r}"

    def _on_output(self, target: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        if not self.enabled:
            return None
        features = output if self.item is None else self._pick(output)
        return self._put(output, self._guided(features, self._mask(args, kwargs)))

    def _on_input(self, target: nn.Module, args: tuple, kwargs: dict) -> Any:
        if not self.enabled:
            return None
        mask = self._mask(args, kwargs)
        item = 0 if self.item is None else self.item
        if isinstance(item, str) and item in kwargs:
            return args, {**kwargs, item: self._guided(kwargs[item], mask)}
        if isinstance(item, int) and item < len(args):
            return (*args[:item], self._guided(args[item], mask), *args[item + 1 :]), kwargs
        raise ValueError(
            f"{self!r}: the call had {len(args)} positional arguments and the names {_listed(kwargs)}; "
            f"no {item!r} among them, set item= to one that is"
        )

    def _guided(self, features: Any, clip_mask: Tensor | None) -> Tensor:
        self._check(features)
        there, back = LAYOUTS[self.layout]
        clips = features.permute(there)
        guided = self.module(clips) if clip_mask is None else self.module(clips, clip_mask=clip_mask)
        return guided.permute(back)

    def _check(self, features: Any) -> None:
        if not isinstance(features, Tensor):
            offer = ""
            if isinstance(features, dict):
                offer = f" with the keys {_listed(features)}; name the features with item="
            elif isinstance(features, (tuple, list)):
                offer = f" of {len(features)}; give the number of the features with item="
            raise ValueError(f"{self!r} wants a tensor there, got a {type(features).__name__}{offer}")
        if features.dim() != 3:
            raise ValueError(f"{self!r} wants features of three axes, got shape {tuple(features.shape)}")
        width = getattr(self.module, "dim", None)
        given = features.shape[LAYOUTS[self.layout][0][2]]
        if width is not None and given != width:
            fits = [name for name, (there, _) in LAYOUTS.items() if features.shape[there[2]] == width]
            hint = f"layout {' or '.join(map(repr, fits))} would fit" if fits else f"build the guide {given} wide"
            raise ValueError(
                f"{self!r} is {width} wide, with layout {self.layout!r} the features {tuple(features.shape)} are "
                f"{given} wide; {hint}"
            )

    def _pick(self, output: Any) -> Any:
        try:
            return output[self.item]
        except (KeyError, IndexError, TypeError):
            keys = _listed(output) if isinstance(output, dict) else f"a {type(output).__name__}"
            raise ValueError(f"{self!r}: the output has no item {self.item!r}; it is {keys}") from None

    def _put(self, output: Any, guided: Tensor) -> Any:
        if self.item is None:
            return guided
        if isinstance(output, dict):
            return type(output)({**output, self.item: guided})
        position = range(len(output))[int(self.item)]
        values = [guided if i == position else value for i, value in enumerate(output)]
        named = hasattr(output, "_fields")
        return type(output)(*values) if named else type(output)(values)

    def _mask(self, args: tuple, kwargs: dict) -> Tensor | None:
        if self.mask is None:
            return None
        if isinstance(self.mask, int):
            return args[self.mask] if self.mask < len(args) else None
        return kwargs.get(self.mask)


class Plugs(nn.Module):
    """What is plugged into a model: the plugs, and their modules as submodules, so that they train and travel."""

    def __init__(self) -> None:
        super().__init__()
        self.guides = nn.ModuleList()
        self.plugs: list[Plug] = []


def attach(
    model: nn.Module,
    guide: nn.Module | Sequence[nn.Module],
    at: str | Sequence[str],
    *,
    side: str = "output",
    layout: str = "btd",
    item: int | str | None = None,
    mask: int | str | None = None,
) -> nn.Module:
    """Guide the features at a place of the model, which is changed in place and returned.

    Args:
        model: any module, compiled ones too.
        guide: a module from clips (B, T, d) to clips (B, T, d), such as `ActionGraphGuidance`. One for all paths is
            shared by them; a list has one for each.
        at: dotted path of a submodule ("transformer.encoder"), "" for the model itself, or several paths.
        side: "output" or "input" of that module.
        layout: how its features stand: "btd", "bdt" or "tbd".
        item: where the features are, if the output is a tuple or a dict, or the input is not the first argument:
            position or name.
        mask: position or name of the module's argument that holds a clip mask (B, T), True where a clip is real.

    Raises:
        ValueError: no such path, side or layout, a place that is taken, or (when the model is called) features of
            another kind, width or layout.
    """
    if side not in SIDES:
        raise ValueError(f"unknown side {side!r}; there are {', '.join(SIDES)}")
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; there are {', '.join(LAYOUTS)}")
    paths = [at] if isinstance(at, str) else list(at)
    guides = [guide] * len(paths) if isinstance(guide, nn.Module) else list(guide)
    if len(guides) != len(paths):
        raise ValueError(f"{len(paths)} places want one guide or as many, got {len(guides)}")
    return insert(
        model,
        *(
            FeaturePlug(path, module, side=side, layout=layout, item=item, mask=mask)
            for path, module in zip(paths, guides, strict=True)
        ),
    )


def insert(model: nn.Module, *plugs: Plug) -> nn.Module:
    """Put plugs into a model, all of them or, if one does not fit, none."""
    inner = uncompiled(model)
    for plug in plugs:
        submodule(inner, plug.at)
    room = _room(inner)
    taken = {plug.place: plug for plug in (room.plugs if room else ())}
    for plug in plugs:
        if plug.place in taken:
            raise ValueError(f"{taken[plug.place]!r} sits there already; detach the model first")
        taken[plug.place] = plug
    if room is None:
        if hasattr(inner, ROOM):
            raise ValueError(f"the model has an attribute {ROOM!r} of its own, where plugs would live; rename it")
        room = Plugs()
        inner.add_module(ROOM, room)
    like = next(inner.parameters(), None)
    for plug in plugs:
        plug.module.train(inner.training)
        if like is not None:
            plug.module.to(like.device)
        if all(plug.module is not known for known in room.guides):
            room.guides.append(plug.module)
        plug.insert(inner)
        room.plugs.append(plug)
    _forget_compiled()
    return model


def detach(model: nn.Module) -> nn.Module:
    """Take every plug out again: outputs, state_dict keys and requires_grad are as before `attach`."""
    for part in list(uncompiled(model).modules()):
        room = _room(part)
        if room is not None:
            for plug in reversed(room.plugs):
                plug.remove(part)
            delattr(part, ROOM)
    _forget_compiled()
    return model


@contextlib.contextmanager
def disabled(model: nn.Module) -> Iterator[nn.Module]:
    """Run the model without its plugs inside a `with`, for before-and-after comparisons."""
    plugs = attached(model)
    before = [plug.enabled for plug in plugs]
    try:
        for plug in plugs:
            plug.enabled = False
        yield model
    finally:
        for plug, was in zip(plugs, before, strict=True):
            plug.enabled = was


def attached(model: nn.Module) -> list[Plug]:
    """What sits where in a model, its parts included: plugs live in the module that they were attached to."""
    rooms = (_room(part) for part in uncompiled(model).modules())
    return [plug for room in rooms if room is not None for plug in room.plugs]


def _room(module: nn.Module) -> Plugs | None:
    room = getattr(module, ROOM, None)
    return room if isinstance(room, Plugs) else None


def submodule(model: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path; a ValueError names paths that would work."""
    names = dict(model.named_modules())
    if path in names:
        return names[path]
    near = difflib.get_close_matches(path, names, n=4, cutoff=0.5) or [name for name in names if name][:8]
    raise ValueError(f"{type(model).__name__} has no submodule {path!r}; it has {_listed(near)}")


def uncompiled(model: nn.Module) -> nn.Module:
    """The module inside what `torch.compile` returns."""
    return getattr(model, "_orig_mod", model)


def _forget_compiled() -> None:
    # Compiled code does not look at hooks again once it is made, so a change of plugs must make it anew.
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names) or "none"
