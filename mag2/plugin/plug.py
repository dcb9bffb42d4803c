"""A plug: a module that is attached to another one, lives in it, and runs when it is called."""

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
    """A module attached to a place of a model. It lives in the module of that place, which is its home.

    So the home and its plug are copied, saved, moved, sharded and thrown away together. The hooks that run a plug hold
    only its name (`Hook`): each copy of a home, and each replica of `nn.DataParallel`, runs its own plug.

    Attributes:
        at: the path of the place, as it was given to `attach`.
        guide: what it learns.
        enabled: False inside `mag2.disabled`. A copy that is made there is enabled.
        calls: how often it ran, in the replicas of `nn.DataParallel` too; calls of compiled code are not counted.
        failed: whether it never ran to its end because it does not fit: another guide may take its place.
        order: larger than that of every plug attached before, in this process.
        froze: whether the base was frozen when it was attached.
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
        """How often it ran."""
        return self._calls[0]

    def count(self) -> None:
        """Note that it ran."""
        self._calls[0] += 1
        if self.failed:
            self.failed = False

    def attached_to(self) -> nn.Module | None:
        """The model that it was attached to, while that lives; unknown of a copy."""
        return None if self.root is None else self.root()

    @property
    def enabled(self) -> bool:
        """Whether it runs."""
        return self.paused == 0

    @property
    def key(self) -> str:
        """The name of the plug in its home."""
        return "plug"

    @property
    def spot(self) -> tuple:
        """What of its home it takes: only one plug may."""
        return (type(self),)

    @property
    def how(self) -> str:
        """How the guide enters the model, for lists of what is attached."""
        return "replace"

    @property
    def config(self) -> dict[str, Any]:
        """What it was built with beside its place and its guide, for JSON."""
        return {}

    @classmethod
    def from_config(cls, at: str, guide: nn.Module, config: dict[str, Any]) -> "Plug":
        """The plug that `config` describes."""
        return cls(at, guide, **config)

    def home(self, model: nn.Module) -> nn.Module:
        """Where it lives, in the model that it is attached to."""
        return submodule(model, self.at)

    def check(self, model: nn.Module) -> None:
        """Raise a ValueError where the plug cannot be attached to the model, which is not touched."""
        self.home(model)

    def hooks(self) -> "list[Hook]":
        """What runs it: hooks on its home."""
        raise NotImplementedError

    def enter(self, home: nn.Module, root: nn.Module) -> None:
        """Change what else has to change, in the home and in the model that the plug is attached to."""

    def leave(self, home: nn.Module, root: nn.Module) -> None:
        """Undo `enter`. The model may have changed since."""

    def switched(self, root: nn.Module) -> None:
        """Follow `enabled` in the model that the plug is attached to."""

    def describe(self, at: str) -> str:
        """In words; `at` is the path of the place in the model that is looked at."""
        return f"{title(self.guide)} at {at or 'the model itself'!r}"

    def __repr__(self) -> str:
        return self.describe(self.at)


class Plugs(nn.Module):
    """What is attached to a module: a child of it under the name `HOME`, which is no part of its computation.

    Code that runs all children of a module in turn, as some models do, gets back what it gives.
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
        """The identity."""
        return features


def _keeping(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function that makes an empty tensor like another one, made to keep the values."""
    return lambda tensor: fn(tensor) if tensor.is_meta else fn(tensor).copy_(tensor)


def plugs_in(home: nn.Module) -> Plugs | None:
    """What is attached to a module itself, its parts not included."""
    # Not getattr: wrappers that forward attributes would show what is attached to the module that they wrap.
    # Nor get, which scripted modules do not have.
    if HOME not in home._modules:
        return None
    plugs = home._modules[HOME]
    return plugs if isinstance(plugs, Plugs) else None


class OutsideHook:
    """A hook of ours on another module than a home. `detach` undoes it wherever it finds it."""

    def undo(self, part: nn.Module) -> None:
        """Give the module back what the hook has changed; it is removed then."""


class Hook:
    """Runs the plug of a name that lives in the module whose hook it is: a copy of a module has copies of its plugs.

    Args:
        key: the name of the plug in its home.
        before: a hook before the call, not behind it.
        run: a method of the plug: ``run(plug, home, args, kwargs)`` before, with the output as a fifth behind. It
            returns what takes the place of ``(args, kwargs)``, or of the output, or None.
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
        """Hook into a module."""
        if self.before:
            home.register_forward_pre_hook(self, with_kwargs=True)
        else:
            home.register_forward_hook(self, with_kwargs=True)
