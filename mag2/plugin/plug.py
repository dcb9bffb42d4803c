"""A plug: a module that is attached to another module, its home, and runs when the home is called."""

import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from torch import Tensor, nn

from mag2.plugin.places import submodule
from mag2.plugin.signature import title

__all__ = ["HOME", "Hook", "OutsideHook", "Plug", "Plugs", "plugs_in"]

HOME = "mag2"  # the attribute of a guided module under which its plugs are registered
_ORDER = itertools.count()
# What was seen of a plug and said about it (`mag2.plugin.watch`), which is nothing of a copy.
_OF_THIS_ONE = ("_warned", "_settled", "_missed", "_first")


class Plug(nn.Module):
    """Base class of what `mag2.plugin.insert` attaches: a module registered in another one, its home.

    The home is the module at the path `at`. A plug and its home are copied, saved, moved, sharded and deleted together.
    The hooks that run a plug hold only its name (`Hook`): each copy of a home, and each replica of `nn.DataParallel`,
    runs its own plug.

    Args:
        at: path of the place in the model.
        guide: the module that is attached.

    Attributes:
        at: path of the place, as it was given to `attach`.
        guide: the attached module, with all trainable parameters of the plug.
        enabled: False inside `mag2.disabled`. A copy that is made there is enabled.
        calls: number of runs, those in replicas of `nn.DataParallel` included; runs of compiled code are not counted.
        failed: True where its first call failed; then the next plug at this place replaces it.
        order: larger than that of every plug made before in this process.
        froze: whether the model was frozen when the plug was attached.
    """

    inner: str = ""  # the path from the home to the place that is shown
    is_counted: ClassVar[bool] = False  # whether it counts its calls

    def __init__(self, at: str, guide: nn.Module):
        super().__init__()
        self.at, self.guide = at, guide
        self.order, self.froze, self.failed = next(_ORDER), False, False
        self.paused = 0
        self._calls = [0]  # a list, which replicas share
        self.root: weakref.ref[nn.Module] | None = None
        self.was_trainable = any(parameter.requires_grad for parameter in guide.parameters())

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: a copy is enabled and has not run."""
        kept = {name: value for name, value in self.__dict__.items() if name not in _OF_THIS_ONE}
        return {**kept, "_calls": [0], "paused": 0, "root": None}

    def _apply(self, fn: Callable, recurse: bool = True) -> "Plug":
        # A base without weights gets empty ones by `to_empty`, and then its own; the weights of a guide are there.
        return super()._apply(_keeping(fn) if "to_empty" in getattr(fn, "__qualname__", "") else fn, recurse)

    @property
    def calls(self) -> int:
        """Number of runs."""
        return self._calls[0]

    def count(self) -> None:
        """Count a run."""
        self._calls[0] += 1
        if self.failed:
            self.failed = False

    def attached_to(self) -> nn.Module | None:
        """Return the model that the plug was attached to; None for a copy, or where that model no longer exists."""
        return None if self.root is None else self.root()

    @property
    def enabled(self) -> bool:
        """Whether the plug runs; False inside `mag2.disabled`."""
        return self.paused == 0

    @property
    def key(self) -> str:
        """Name of the plug in its home."""
        return "plug"

    @property
    def spot(self) -> tuple:
        """What the plug occupies in its home; two plugs of equal `spot` cannot be attached to one home."""
        return (type(self),)

    @property
    def how(self) -> str:
        """How the guide's output enters the model, for lists of what is attached."""
        return "replace"

    @property
    def config(self) -> dict[str, Any]:
        """Arguments besides path and guide that build the plug again, as plain values for JSON."""
        return {}

    @classmethod
    def from_config(cls, at: str, guide: nn.Module, config: dict[str, Any]) -> "Plug":
        """Build the plug that `config` describes."""
        return cls(at, guide, **config)

    def home(self, model: nn.Module) -> nn.Module:
        """Return the module of `model` that the plug is registered in; ValueError where the path does not exist."""
        return submodule(model, self.at)

    def check(self, model: nn.Module) -> None:
        """Raise a ValueError where the plug cannot be attached to the model, which is not changed."""
        self.home(model)

    def hooks(self) -> "list[Hook]":
        """Return the hooks of the home that run the plug; a subclass defines them."""
        raise NotImplementedError

    def enter(self, home: nn.Module, root: nn.Module) -> None:
        """Make further changes when the plug is attached, in its home and in the model `root`; none by default."""

    def leave(self, home: nn.Module, root: nn.Module) -> None:
        """Undo `enter` when the plug is detached from its home; the model `root` may have changed since."""

    def switched(self, root: nn.Module) -> None:
        """Update the model `root` after `enabled` has changed; nothing by default."""

    def describe(self, at: str) -> str:
        """Describe the plug in words; `at` is the path to name."""
        return f"{title(self.guide)} at {at or 'the model itself'!r}"

    def __repr__(self) -> str:
        return self.describe(self.at)


class Plugs(nn.Module):
    """The plugs of one module: a child of it under the name `HOME`, which takes no part in its computation.

    Some models run all children of a module in turn; for them this child returns its input.
    """

    holds_plugs = True

    def __init__(self, home: nn.Module):
        super().__init__()
        self.home: weakref.ref[nn.Module] | None = weakref.ref(home)  # unknown of a deep copy

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy."""
        return {**self.__dict__, "home": None}

    def __iter__(self) -> Iterator[Plug]:
        return iter([plug for plug in self._modules.values() if isinstance(plug, Plug)])

    def forward(self, features: Any, *others: Any, **named: Any) -> Any:
        """Return `features` unchanged."""
        return features


def _keeping(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function that makes an empty tensor like another one, made to keep the values."""
    return lambda tensor: fn(tensor) if tensor.is_meta else fn(tensor).copy_(tensor)


def plugs_in(home: nn.Module) -> Plugs | None:
    """Return the plugs of a module itself, without those of its submodules; None where there are none."""
    # Not getattr: wrappers that forward attributes would show what is attached to the module that they wrap.
    # Nor get, which scripted modules do not have.
    if HOME not in home._modules:
        return None
    plugs = home._modules[HOME]
    return plugs if isinstance(plugs, Plugs) else None


class OutsideHook:
    """Base class of hooks of the library on modules other than a home; `detach` undoes and removes them."""

    def undo(self, part: nn.Module) -> None:
        """Restore what the hook has changed in the module, before it is removed."""


class Hook:
    """A hook on a home that runs the plug of a given name in it, so that a copy of the home runs its own plug.

    Args:
        key: name of the plug in its home.
        run: a method of the plug: ``run(plug, home, args, kwargs)`` before the call, or
            ``run(plug, home, args, kwargs, output)`` after it. It returns what replaces ``(args, kwargs)`` or the
            output, or None for no change.
        before: True runs it before the home's call, False after it.
    """

    def __init__(self, key: str, run: Callable[..., Any], *, before: bool = False):
        self.key, self.run, self.before = key, run, before

    def __call__(self, home: nn.Module, args: tuple, *rest: Any) -> Any:
        """Run the plug; torch calls it."""
        # Tools that exchange a module may register its hooks anew, without the names of the call.
        kwargs = rest[0] if len(rest) == (1 if self.before else 2) else {}
        plugs = home._modules.get(HOME)
        plug = None if plugs is None else plugs._modules.get(self.key)
        if plug is None:
            raise RuntimeError(
                f"a guide was attached to the module that this {type(home).__name__} has replaced, and it is not in "
                f"it: detach the model, and attach the guide again"
            )
        given = (plug, home, args, kwargs)
        answer = self.run(*given) if self.before else self.run(*given, rest[-1])
        # Without the names of the call there is nowhere to return them to.
        return answer[0] if self.before and answer is not None and not rest else answer

    def register(self, home: nn.Module) -> None:
        """Register the hook on a module."""
        if self.before:
            home.register_forward_pre_hook(self, with_kwargs=True)
        else:
            home.register_forward_hook(self, with_kwargs=True)
