"""What sits at a place in a model: a plug, and the one for features that go into or come out of a module."""

import copy
import dataclasses
import difflib
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from mag2.plugin.kinds import kind, uncompiled

SIDES = ("output", "input")
# How (B, T, C) stands in a model: the permutation from its layout to ours and back.
LAYOUTS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "btd": ((0, 1, 2), (0, 1, 2)),
    "bdt": ((0, 2, 1), (0, 2, 1)),
    "tbd": ((1, 0, 2), (1, 0, 2)),
}
Index = int | str


class Plug:
    """Something that sits at a place in a model, through forward hooks. Subclasses say which.

    `module` holds what it learns (registered under `model.mag2.guides`), `enabled` is what `disabled` turns off. The
    hooks are bound methods of this plain object, which deepcopy and pickle copy together with the module that it
    calls; a closure would keep pointing at the original.
    """

    def __init__(self, at: str, module: nn.Module):
        self.at, self.module, self.enabled = at, module, True
        self.handles: list[Any] = []

    @property
    def config(self) -> dict[str, Any]:
        """What it was built with beside its place and its module, for JSON."""
        return {}

    @property
    def spot(self) -> tuple:
        """What of the module at its path it takes: only one plug may."""
        return (type(self),)

    def check(self, model: nn.Module) -> None:
        """Raise a ValueError where the plug cannot sit in the model, which is not touched."""
        submodule(model, self.at)

    def hooks(self, model: nn.Module) -> list[Any]:
        """Hook into the model; returns the handles of the hooks."""
        raise NotImplementedError

    def insert(self, model: nn.Module) -> None:
        """Take the place in the model."""
        self.handles = self.hooks(model)

    def remove(self, model: nn.Module) -> None:
        """Leave the model as `insert` found it."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def switch(self, model: nn.Module, on: bool) -> None:
        """Turn the plug on or off in the model that it was inserted into."""
        self.enabled = on

    def describe(self, at: str) -> str:
        """In words, seen from a module from which the path to the place is `at`."""
        return f"{_class(self.module)} at {at or 'the model itself'!r}"

    def __repr__(self) -> str:
        return self.describe(self.at)


@kind
class FeaturePlug(Plug):
    """Guides features of a module; `mag2.attach` makes it and says what the arguments mean.

    Raises:
        ValueError: no such side or layout; the module at the path takes no argument of a name that is wanted; a guide
            that hears no edge weights where they are wanted; or, when the model is called, features of another kind,
            width or layout.
    """

    def __init__(
        self,
        at: str,
        module: nn.Module,
        *,
        side: str = "output",
        layout: str = "btd",
        item: Index | None = None,
        mask: Index | None = None,
        padding_mask: Index | None = None,
        edge_weight: Index | None = None,
    ):
        super().__init__(at, module)
        if side not in SIDES:
            raise ValueError(f"unknown side {side!r}; there are {', '.join(SIDES)}")
        if layout not in LAYOUTS:
            raise ValueError(f"unknown layout {layout!r}; there are {', '.join(LAYOUTS)}")
        if mask is not None and padding_mask is not None:
            raise ValueError(f"one mask says it all; give mask={mask!r} or padding_mask={padding_mask!r}")
        self.side, self.layout, self.item = side, layout, item
        self.mask, self.padding_mask, self.edge_weight = mask, padding_mask, edge_weight
        self.names: tuple[str, ...] = ()
        self.lent: Tensor | None = None  # the weights of an `edge_weights_of` around the call
        self.was_lent = False  # whether the last call had any

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: whatever is lent stays with whom it was lent to."""
        return {**self.__dict__, "lent": None}

    @property
    def config(self) -> dict[str, Any]:
        """What `attach` was told."""
        told = ("side", "layout", "item", "mask", "padding_mask", "edge_weight")
        return {name: getattr(self, name) for name in told}

    @property
    def spot(self) -> tuple:
        """A side, and what is taken there; an argument is the same by name and by position."""
        item: Any = self.item
        if self.side == "input":
            item = self.names.index(item) if item in self.names else item or 0
        return (type(self), self.side, item)

    def check(self, model: nn.Module) -> None:
        """Is the path there, and does the module take the arguments that are wanted?"""
        target = submodule(model, self.at)
        taken = _Arguments(target)
        self.names = taken.in_order
        names = ("mask", "padding_mask", "edge_weight")
        wanted: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.side == "input":
            wanted["item"] = self.item
        for what, index in wanted.items():
            if index is not None and not taken.have(index):
                raise ValueError(
                    f"{self!r}: {what}={index!r} is no argument of that {type(target).__name__}; "
                    f"it takes {listed((*taken.in_order, *taken.by_name))}"
                )
        if self.edge_weight is not None:
            self.want_hearing()
        if (self.mask is not None or self.padding_mask is not None) and not _takes(self.module, "clip_mask"):
            raise ValueError(f"{self!r} takes no clip_mask; leave the mask out, or attach a guide that takes one")

    def hooks(self, model: nn.Module) -> list[Any]:
        """Behind the module or before it."""
        target = submodule(model, self.at)
        if self.side == "output":
            return [target.register_forward_hook(self._on_output, with_kwargs=True)]
        return [target.register_forward_pre_hook(self._on_input, with_kwargs=True)]

    def describe(self, at: str) -> str:
        """Guide, side, item and path."""
        item = "" if self.item is None else f"[{self.item!r}]"
        return f"{_class(self.module)} on the {self.side}{item} of {at or 'the model itself'!r}"

    def _on_output(self, target: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        if not self.enabled:
            return None
        features = output if self.item is None else self._pick(output)
        return self._put(output, self._guided(features, self._told(args, kwargs)))

    def _on_input(self, target: nn.Module, args: tuple, kwargs: dict) -> Any:
        if not self.enabled:
            return None
        index = self._found(0 if self.item is None else self.item, args, kwargs)
        if index is None:
            raise ValueError(
                f"{self!r}: the call had {len(args)} positional arguments and the names {listed(kwargs)}; "
                f"no {self.item or 0!r} among them, set item= to one that is"
            )
        told = self._told(args, kwargs)
        if isinstance(index, str):
            return args, {**kwargs, index: self._guided(kwargs[index], told)}
        return (*args[:index], self._guided(args[index], told), *args[index + 1 :]), kwargs

    def _found(self, index: Index, args: tuple, kwargs: dict) -> Index | None:
        """Where in this call the argument is: a caller may give it by position or by name."""
        if isinstance(index, str):
            if index in kwargs:
                return index
            index = self.names.index(index) if index in self.names else len(args)
        if index < len(args):
            return index
        name = self.names[index] if index < len(self.names) else None
        return name if name in kwargs else None

    def _told(self, args: tuple, kwargs: dict) -> dict[str, Tensor]:
        """What the guide is told in this call beside the clips."""
        told = {"clip_mask": self._clip_mask(args, kwargs), "edge_weight": self._edge_weight(args, kwargs)}
        return {name: value for name, value in told.items() if value is not None}

    def _edge_weight(self, args: tuple, kwargs: dict) -> Tensor | None:
        """The weights (B, T, M) of this call: those in it, otherwise those that are lent."""
        index = None if self.edge_weight is None else self._found(self.edge_weight, args, kwargs)
        given = None if index is None else kwargs[index] if isinstance(index, str) else args[index]
        weights = self.lent if given is None else given
        self._want_what_was_lent()
        # Compiled code does not look at signatures; the guide's own refusal has to do.
        if weights is not None and not torch.compiler.is_compiling():
            self.want_hearing()
        return weights

    def _want_what_was_lent(self) -> None:
        """Refuse to run again in the backward pass, as checkpointing does, without the weights of the first time."""
        if torch.compiler.is_compiling():
            return
        if torch._C._current_graph_task_id() == -1:  # torch.utils.checkpoint asks the same: -1 is no backward pass
            self.was_lent = self.lent is not None
        elif self.was_lent and self.lent is None:
            raise RuntimeError(
                f"{self!r} runs again in the backward pass, after its edge weights went back: run that pass inside "
                f"`edge_weights_of`, or let nothing around it be checkpointed"
            )

    def want_hearing(self) -> None:
        """Raise a ValueError where the guide takes no edge weights."""
        if not hears_weights(self.module):
            why = "of its texts it keeps the sum alone" if is_folded(self.module) else "it takes no edge_weight"
            raise ValueError(f"{self!r} cannot hear edge weights, {why}; attach an ActionGraphGuidance")

    def _clip_mask(self, args: tuple, kwargs: dict) -> Tensor | None:
        """The mask (B, T) of this call, True where a clip is real."""
        wanted = self.mask if self.padding_mask is None else self.padding_mask
        index = None if wanted is None else self._found(wanted, args, kwargs)
        if index is None:
            return None
        mask = kwargs[index] if isinstance(index, str) else args[index]
        if mask is None or self.padding_mask is None:
            return None if mask is None else mask.bool()
        # Masks that are added to scores mark padding by a large negative number and what is real by 0.
        return mask == 0

    def _guided(self, features: Any, told: dict[str, Tensor]) -> Tensor:
        self._check_features(features)
        there, back = LAYOUTS[self.layout]
        clips = features.permute(there)
        guided = self.module(clips, **told)
        if not isinstance(guided, Tensor) or guided.shape != clips.shape:
            made = f"shape {tuple(guided.shape)}" if isinstance(guided, Tensor) else f"a {type(guided).__name__}"
            raise ValueError(f"{self!r}: a guide keeps the shape of clips {tuple(clips.shape)}, this one made {made}")
        return guided.permute(back)

    def _check_features(self, features: Any) -> None:
        if not isinstance(features, Tensor):
            offer = ""
            if isinstance(features, (tuple, list, dict)) or dataclasses.is_dataclass(features):
                offer = f" of {listed(_items(features))}; say which with item="
            raise ValueError(f"{self!r} wants a tensor there, got a {type(features).__name__}{offer}")
        if features.is_nested:
            raise ValueError(
                f"{self!r} got a nested tensor, which torch's encoder makes of padded batches in evaluation; "
                f"set `use_nested_tensor = False` on the nn.TransformerEncoder"
            )
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
        item: Any = self.item
        try:
            by_name = isinstance(item, str) and not isinstance(output, dict)
            return getattr(output, item) if by_name else output[item]
        except (KeyError, IndexError, TypeError, AttributeError):
            raise ValueError(
                f"{self!r}: the output is a {type(output).__name__} of {listed(_items(output))}; no {item!r} among them"
            ) from None

    def _put(self, output: Any, guided: Tensor) -> Any:
        item: Any = self.item
        if item is None:
            return guided
        if type(output) is dict:
            return {**output, item: guided}
        if isinstance(output, dict):
            changed = copy.copy(output)
            # Outputs of Hugging Face models are dicts that may be read by position as well.
            changed[list(output)[item] if isinstance(item, int) and item not in output else item] = guided
            return changed
        if isinstance(item, str):
            return output._replace(**{item: guided}) if hasattr(output, "_replace") else _replaced(output, item, guided)
        position = range(len(output))[item]
        return rebuilt(output, [guided if i == position else value for i, value in enumerate(output)])


@kind
class Residual(nn.Module):
    """A guide that starts as the identity: ``clips + W guide(clips) + b`` with W and b of zeros.

    Shapes: clips (B, T, d); returns (B, T, d).

    Raises:
        ValueError: the guide does not say its width as `dim`.
    """

    def __init__(self, guide: nn.Module):
        super().__init__()
        dim = getattr(guide, "dim", None)
        if not isinstance(dim, int):
            raise ValueError(f"start='identity' wants the width of the guide; give {type(guide).__name__} a `dim`")
        self.dim, self.guide = dim, guide
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        like = first_floating(guide)
        if like is not None:
            self.out.to(like.device, like.dtype)

    def forward(self, clips: Tensor, **told: Tensor) -> Tensor:
        """Add what the guide has to say; it is told what this is told beside the clips (a mask, edge weights)."""
        return clips + self.out(self.guide(clips, **told))

    @property
    def config(self) -> dict[str, Any]:
        """The guide; its width is the guide's."""
        return {"guide": self.guide}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Residual":
        """Around a guide."""
        return cls(config["guide"])


def rebuilt(output: Any, values: list) -> Any:
    """A list, tuple or named tuple like `output`, of other values."""
    return type(output)(*values) if hasattr(output, "_fields") else type(output)(values)


def first_floating(*modules: nn.Module) -> nn.Parameter | None:
    """The parameter whose device and precision others follow: the first one of the first module that has any."""
    return next((each for module in modules for each in module.parameters() if each.is_floating_point()), None)


def hears_weights(guide: nn.Module) -> bool:
    """Does a guide take `edge_weight`, as `ActionGraphGuidance` does?"""
    guide = uncompiled(guide)
    if isinstance(guide, Residual):
        return hears_weights(guide.guide)
    taken = _Arguments(guide)
    return "edge_weight" in (*taken.in_order, *taken.by_name)


def _takes(guide: nn.Module, name: str) -> bool:
    guide = uncompiled(guide)
    return _takes(guide.guide, name) if isinstance(guide, Residual) else _Arguments(guide).have(name)


def is_folded(guide: nn.Module) -> bool:
    """Is it what `ActionGraphGuidance.fold` makes, bare or inside a residual?"""
    guide = uncompiled(guide)
    return is_folded(guide.guide) if isinstance(guide, Residual) else hasattr(guide, "text_sum1")


def paths(model: nn.Module) -> dict[str, nn.Module]:
    """The submodules by their dotted paths, all of them; what `torch.compile` wrapped stands for its inside."""
    return {plain(path): part for path, part in model.named_modules(remove_duplicate=False)}


def plain(path: str) -> str:
    """A path or a key without what `torch.compile` adds to it."""
    return ".".join(name for name in path.split(".") if name != "_orig_mod")


def submodule(model: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path.

    Raises:
        ValueError: there is none; paths that would work are named.
    """
    parts = paths(model)
    if plain(path) in parts:
        return parts[plain(path)]
    near = difflib.get_close_matches(path, parts, n=4, cutoff=0.5) or [name for name in parts if name][:8]
    raise ValueError(f"{type(model).__name__} has no submodule {path!r}; it has {listed(near)}")


def occupant(model: nn.Module, plug: Plug) -> Plug | None:
    """The plug that sits where this one wants to, whichever module it was attached to."""
    target = submodule(model, plug.at)
    for hook in (*target._forward_hooks.values(), *target._forward_pre_hooks.values()):
        owner = getattr(hook, "__self__", None)
        if isinstance(owner, Plug) and owner.spot == plug.spot:
            return owner
    return None


def listed(names: Any) -> str:
    """Names for a sentence."""
    return ", ".join(repr(name) for name in names) or "none"


class _Arguments:
    """What a module may be called with: names in their order, names that go by name only, any more of either."""

    def __init__(self, target: nn.Module):
        try:
            taken = list(inspect.signature(target.forward).parameters.values())
        except (TypeError, ValueError):
            taken = [*inspect.signature(lambda *args, **kwargs: None).parameters.values()]
        kinds = {parameter.kind for parameter in taken}
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.in_order = tuple(parameter.name for parameter in taken if parameter.kind in positional)
        self.by_name = tuple(p.name for p in taken if p.kind is inspect.Parameter.KEYWORD_ONLY)
        self.any_name = inspect.Parameter.VAR_KEYWORD in kinds
        self.any_number = inspect.Parameter.VAR_POSITIONAL in kinds

    def have(self, index: Index) -> bool:
        """Can an argument be there?"""
        if isinstance(index, str):
            return self.any_name or index in (*self.in_order, *self.by_name)
        return index >= 0 and (self.any_number or index < len(self.in_order))


def _class(module: nn.Module) -> str:
    module = uncompiled(module)
    return f"residual {_class(module.guide)}" if isinstance(module, Residual) else type(module).__name__


def _items(output: Any) -> Any:
    if isinstance(output, dict):
        return list(output)
    if hasattr(output, "_fields"):
        return list(output._fields)
    if isinstance(output, (tuple, list)):
        return list(range(len(output)))
    return [field.name for field in dataclasses.fields(output)] if dataclasses.is_dataclass(output) else []


def _replaced(output: Any, item: str, guided: Tensor) -> Any:
    changed = copy.copy(output)
    # Frozen dataclasses too: the copy is ours.
    object.__setattr__(changed, item, guided)
    return changed
