"""The classes of modules and plugs that a saved JSON may name, and the description of a module by plain values.

Each of these classes has a name, its kind, which stays when the class moves in the code. Reading a file runs the code
of these classes alone: any other name is refused.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from torch import nn

from mag2.nn.modules import uncompiled
from mag2.saving.sentences import shortened

__all__ = ["KINDS", "build", "class_of", "describe", "name_of", "name_of_class", "register"]

Class = TypeVar("Class", bound=type)

# The name in files -> where the class stands today. A module is imported when its first kind is needed.
KINDS: dict[str, str] = {
    "action_graph_guidance": "mag2.guidance.graph:ActionGraphGuidance",
    "folded_guidance": "mag2.guidance.folded:FoldedGuidance",
    "mlavl": "mag2.mlavl.model:MLAVL",
    "folded_mlavl": "mag2.mlavl.folded:FoldedMLAVL",
    "gdlt": "mag2.baselines.gdlt:GDLT",
    "cofinal": "mag2.baselines.cofinal:CoFInAl",
    "qtd": "mag2.baselines.qtd:QTD",
    "pamfn": "mag2.baselines.pamfn:PAMFN",
    "modality_branch": "mag2.baselines.pamfn_branch:ModalityBranch",
    "skating_mixer": "mag2.baselines.mixer:SkatingMixer",
    "mbert_late": "mag2.baselines.mbert:MBertLate",
    "sgn": "mag2.baselines.sgn:SGN",
    "projected_texts": "mag2.texts.projected:ProjectedTexts",
    "residual": "mag2.plugin.starts:IdentityStart",
    "feature_plug": "mag2.plugin.feature_plug:FeaturePlug",
    "query_plug": "mag2.adapters.queries:QueryPlug",
    "score_plug": "mag2.adapters.pamfn:ScorePlug",
    "token_grading": "mag2.adapters.pamfn:TokenGrading",
}
# What version 0.1 wrote instead: the places of the classes at that time.
FORMER_NAMES: dict[str, str] = {
    "mag2.guidance.ActionGraphGuidance": "action_graph_guidance",
    "mag2.guidance.FoldedGuidance": "folded_guidance",
    "mag2.mlavl.MLAVL": "mlavl",
    "mag2.mlavl.FoldedMLAVL": "folded_mlavl",
    "mag2.plugin.plugs.FeaturePlug": "feature_plug",
    "mag2.plugin.plugs.Residual": "residual",
    "mag2.adapters.queries.GradeTexts": "projected_texts",
    "mag2.adapters.queries.QueryPlug": "query_plug",
    "mag2.adapters.pamfn.SecondOpinion": "score_plug",
    "mag2.adapters.pamfn.TokenGrading": "token_grading",
}
_OWN: dict[str, type] = {}  # kinds that users have registered


def register(name: str) -> Callable[[Class], Class]:
    """Register a class of your own under a name that saved files use: ``@register("my_guide")``.

    A module needs a property `config`, a dict of plain values (and of modules of registered classes), and a class
    method `from_config` that builds the module from it. The `config` of a plug has its arguments besides its path and
    its module.

    Args:
        name: the name.

    Returns:
        A decorator, which returns the class unchanged.

    Raises:
        ValueError: another class has that name.
    """

    def add(cls: Class) -> Class:
        taken = _OWN.get(name)
        if name in KINDS or (taken is not None and _place(taken) != _place(cls)):
            raise ValueError(f"the kind {name!r} is taken by {KINDS.get(name) or _place(taken)}; choose another name")
        _OWN[name] = cls
        return cls

    return add


def class_of(name: Any) -> Any:
    """Return the class that is registered under a name.

    Raises:
        ValueError: nothing of that name is registered.
    """
    name = FORMER_NAMES.get(name, name) if isinstance(name, str) else name
    if isinstance(name, str) and name in _OWN:
        return _OWN[name]
    if not isinstance(name, str) or name not in KINDS:
        known = ", ".join(sorted({**KINDS, **_OWN}))
        raise ValueError(f"unknown kind {shortened(name)}; this version of mag2 knows {known}")
    module, _, cls = KINDS[name].partition(":")
    return getattr(importlib.import_module(module), cls)


def name_of(value: object) -> str | None:
    """Return the name under which the class of a value is registered; None where it is not."""
    return name_of_class(_own_class(value))


def name_of_class(cls: type) -> str | None:
    """Return the name under which a class is registered; None where it is not."""
    names = {place: name for name, place in KINDS.items()} | {_place(own): name for name, own in _OWN.items()}
    return names.get(_place(cls))


def describe(module: nn.Module) -> dict[str, Any]:
    """Return how a module was built, as plain values; for an unregistered class only its name, for error sentences."""
    inner: Any = uncompiled(module)
    name = name_of(inner)
    config = None if name is None else inner.config
    if config is None:
        return {"kind": None, "class": _own_class(inner).__name__}
    return {"kind": name, "config": {k: describe(v) if isinstance(v, nn.Module) else v for k, v in config.items()}}


def build(description: Mapping[str, Any], given: Iterator[nn.Module]) -> nn.Module:
    """Build the module of a description; a module of an unregistered class is taken from `given`, in order.

    Raises:
        ValueError: an unknown kind, or no module is left of those given.
    """
    if description["kind"] is None:
        module = next(given, None)
        if module is None:
            raise ValueError(f"a {description['class']} of your own is wanted; build it and give it with guides=[...]")
        return module
    cls = class_of(description["kind"])
    config = {k: build(v, given) if _is_module(v) else v for k, v in description["config"].items()}
    return cls.from_config(config)


def _own_class(value: object) -> type:
    """The class of a value, without the subclass that torch's `fully_shard` makes of it."""
    return next(cls for cls in type(value).__mro__ if "FSDPModule" not in {each.__name__ for each in cls.__mro__})


def _is_module(value: Any) -> bool:
    return isinstance(value, dict) and "kind" in value


def _place(cls: type | None) -> str:
    return "" if cls is None else f"{cls.__module__}:{cls.__qualname__}"
