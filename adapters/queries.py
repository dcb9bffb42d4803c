"""Grade texts in the place of learnable queries: "+Texts" for models whose queries are an `nn.Embedding`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mag2.plugin import Plug, insert, submodule
from mag2.plugin.homes import unhook
from mag2.plugin.places import paths
from mag2.plugin.plug import Hook, OutsideHook, plugs_in
from mag2.plugin.watch import warn_once
from mag2.texts import ProjectedTexts, TextFeatures

__all__ = ["QueryPlug", "query_width", "replace_queries"]


_PLAIN = (bool, int, float, str)


class _TextEmbedding(nn.Embedding):
    """An embedding whose `weight` reads as projected texts while a plug lives in it.

    The learned table stays where it was, under its own key, frozen; the class is swapped because a property is the
    only thing that Python looks up before a parameter of the same name.
    """

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        plugs = plugs_in(self)
        plug = next((plug for plug in plugs or () if isinstance(plug, QueryPlug)), None)
        table = self._parameters["weight"]
        if plug is None or (table is not None and not plug.enabled):
            assert table is not None
            return table
        return plug.guide()


class QueryPlug(Plug):
    """A plug that replaces the table of the `nn.Embedding` at a path by projected texts.

    Args:
        at: the path.
        guide: a `ProjectedTexts`.
        settings: attributes of the model and the values that they have while the texts are attached. A value that is a
            dict maps present values to new ones; other present values stay. Attributes that the model does not have
            are left out.
    """

    def __init__(self, at: str, guide: nn.Module, settings: Mapping[str, Any] | None = None):
        super().__init__(at, guide)
        self.settings = dict(settings or {})
        self.before: dict[str, Any] = {}
        self.required_grad = True

    @property
    def key(self) -> str:
        """Name of the plug in the embedding."""
        return "queries"

    @property
    def how(self) -> str:
        """How it enters, in words."""
        return "replace"

    @property
    def config(self) -> dict[str, Any]:
        """The settings, as plain values for JSON."""
        return {"settings": self.settings}

    def check(self, model: nn.Module) -> None:
        """Raise a ValueError where there is no `nn.Embedding` at the path, or texts are attached there already."""
        _embedding(model, self.at)

    def hooks(self) -> list[Hook]:
        """No hooks: models read the weight of the embedding and do not call it."""
        return []

    def enter(self, home: nn.Module, root: nn.Module) -> None:
        """Let reads of the table return the texts, and freeze it: in DDP every trainable parameter needs a gradient."""
        table: Any = home
        self.required_grad = table.weight.requires_grad
        table.weight.requires_grad_(False)
        table.__class__ = _TextEmbedding
        for name in self.settings:
            own = getattr(root, name, None)
            # Plain values alone: settings may come from a file.
            if isinstance(own, _PLAIN) and isinstance(self.setting(name, own), _PLAIN):
                self.before[name] = own
        if self.before:
            root.register_forward_pre_hook(Settings(self))
        self.switched(root)

    def setting(self, name: str, own: Any) -> Any:
        """Return the value of an attribute of the model while the texts are attached; `own` is its own value."""
        value = self.settings[name]
        return value.get(own, own) if isinstance(value, dict) else value

    def switched(self, root: nn.Module) -> None:
        """Apply the settings where the plug is enabled, and the model's own values where it is disabled."""
        for name, own in self.before.items():
            now = self.setting(name, own) if self.enabled else own
            if getattr(root, name) != now:
                setattr(root, name, now)

    def leave(self, home: nn.Module, root: nn.Module) -> None:
        """Restore the table and the settings."""
        table: Any = home
        table.__class__ = nn.Embedding
        table.weight.requires_grad_(self.required_grad)
        unhook(root, lambda hook: isinstance(hook, Settings) and hook.plug is self)


class Settings(OutsideHook):
    """A hook before a model that sets the settings of a plug, or the model's own where the plug is disabled or gone."""

    def __init__(self, plug: QueryPlug):
        self.plug = plug

    def __call__(self, root: nn.Module, args: tuple) -> None:
        """Set what differs; torch calls it."""
        plug = self.plug
        if not torch.compiler.is_compiling() and not self._is_there(root):
            self.undo(root)
            unhook(root, lambda hook: hook is self)
            warn_once(plug, "gone", "went away with its embedding, which was exchanged; attach the texts again")
        else:
            plug.switched(root)

    def undo(self, part: nn.Module) -> None:
        """Give the model its own settings."""
        for name, own in self.plug.before.items():
            setattr(part, name, own)
        self.plug.before = {}

    def _is_there(self, root: nn.Module) -> bool:
        table = root
        for name in self.plug.at.split("."):
            table = table._modules.get(name)  # type: ignore[assignment]
            if table is None:
                # Wrapped, or exchanged.
                return any(self.plug in (plugs_in(part) or ()) for part in paths(root).values())
        return any(plug is self.plug for plug in plugs_in(table) or ())


def replace_queries(
    model: nn.Module,
    texts: TextFeatures,
    at: str,
    *,
    as_many: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Replace the `nn.Embedding` at a path by projected grade texts; the model is changed in place and returned.

    Args:
        model: the model.
        texts: whose visual grade texts are used.
        at: the path of the embedding.
        as_many: True uses as many grades as the embedding has rows, False all grades of the texts.
        settings: attributes of the model and the values that they have while the texts are attached, as in `QueryPlug`;
            for example no positional code on the queries.

    Raises:
        ValueError: no such path, no plain `nn.Embedding` there, texts are attached there already, or the texts have no
            words for this number of grades.
    """
    n_rows, dim = _embedding(model, at).weight.shape
    grades = texts.with_grades(n_rows).grades if as_many else texts.grades
    return insert(model, QueryPlug(at, ProjectedTexts(grades, dim), settings))


def query_width(model: nn.Module, at: str) -> int:
    """Return the width of the `nn.Embedding` at a path, which is the width of the model around it.

    Raises:
        ValueError: no such path, or no `nn.Embedding` there.
    """
    table = submodule(model, at)
    if not isinstance(table, nn.Embedding):
        raise ValueError(f"{at!r} is a {type(table).__name__}; the width is read off an nn.Embedding there")
    return table.embedding_dim


def _embedding(model: nn.Module, at: str) -> nn.Embedding:
    table = submodule(model, at)
    if isinstance(table, _TextEmbedding):
        raise ValueError(f"texts sit in the place of {at!r} already; detach the model first")
    if type(table) is not nn.Embedding:
        raise ValueError(f"{at!r} is a {type(table).__name__}; texts take the place of an nn.Embedding")
    return table
