"""Grade texts in the place of learnable queries: what "+Texts" means for models that decode from an embedding."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mag2.plugin import Plug, insert, submodule
from mag2.texts import ProjectedTexts, TextFeatures

__all__ = ["QueryPlug", "query_width", "replace_queries"]


class _TextEmbedding(nn.Embedding):
    """An embedding whose `weight` reads as projected texts while a plug sits in it.

    The learned table stays where it was, under its own key, frozen; the class is swapped because a property is the
    only thing that Python looks up before a parameter of the same name.
    """

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        plug: QueryPlug = self.__dict__["plug"]
        table = self._parameters["weight"]
        return table if table is not None and not plug.enabled else plug.module()


class QueryPlug(Plug):
    """Projected texts instead of the table of the `nn.Embedding` at a path.

    Args:
        at: the path. module: a `ProjectedTexts`.
        settings: attributes of the model, where it has them as plain values, and their values while the texts are
            there.
    """

    def __init__(self, at: str, module: nn.Module, settings: Mapping[str, Any] | None = None):
        super().__init__(at, module)
        self.settings = dict(settings or {})
        self.before: dict[str, Any] = {}

    @property
    def config(self) -> dict[str, Any]:
        """The settings."""
        return {"settings": self.settings}

    def check(self, model: nn.Module) -> None:
        """Is there an embedding, and is its place free?"""
        _embedding(model, self.at)

    def insert(self, model: nn.Module) -> None:
        """Have the texts read in place of the table, and freeze it: DDP must see no parameter without a gradient."""
        table = _embedding(model, self.at)
        parameter = table.weight
        self.required_grad = parameter.requires_grad
        parameter.requires_grad_(False)
        table.__class__ = _TextEmbedding
        table.__dict__["plug"] = self
        self._set(model)

    def remove(self, model: nn.Module) -> None:
        """Give the table back."""
        self._reset(model)
        table = submodule(model, self.at)
        table.__class__ = nn.Embedding
        del table.__dict__["plug"]
        table.weight.requires_grad_(self.required_grad)
        self.enabled = True  # a `disabled` around this must not switch the settings on again

    def switch(self, model: nn.Module, on: bool) -> None:
        """The settings go with the texts."""
        if on != self.enabled:
            (self._set if on else self._reset)(model)
        super().switch(model, on)

    def _set(self, model: nn.Module) -> None:
        for name, value in self.settings.items():
            # Plain values alone: settings may come from a file.
            if isinstance(getattr(model, name, None), (bool, int, float, str)):
                self.before[name] = getattr(model, name)
                setattr(model, name, value)

    def _reset(self, model: nn.Module) -> None:
        for name, value in self.before.items():
            setattr(model, name, value)
        self.before = {}


def replace_queries(
    model: nn.Module,
    texts: TextFeatures,
    at: str,
    *,
    as_many: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Replace the embedding at a path by the projected grade texts.

    Args:
        as_many: as many grades as the embedding has rows; otherwise all grades of the texts.
        settings: attributes of the model and their values meanwhile (no positional code on the queries, for example).

    Raises:
        ValueError: no such path, no `nn.Embedding` there, taken already, or the texts lack these grades.
    """
    n_rows, dim = _embedding(model, at).weight.shape
    grades = texts.with_grades(n_rows).grades if as_many else texts.grades
    return insert(model, QueryPlug(at, ProjectedTexts(grades, dim), settings))


def query_width(model: nn.Module, at: str) -> int:
    """The width of the embedding at a path, which is the width of the model around it."""
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
