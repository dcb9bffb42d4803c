"""The description of any model by plain values, and its construction from them: base, plug-in, edge weights.

A model has up to three layers: a base of a registered class or of your own class, guides attached to it, and
`SimilarityWeighted` around both. Each layer is described separately, so that each can be loaded without the others.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.alignment import SimilarityWeighted
from mag2.mlavl import MLAVL
from mag2.nn.modules import unwrapped
from mag2.plugin import attached, detach, load_plugin, save_plugin
from mag2.plugin.plug import Plugs
from mag2.saving.folders import load_into, weights_of
from mag2.saving.registry import build, describe
from mag2.texts import TextFeatures
from mag2.vocabulary import Prompts

__all__ = ["Builder", "build_model", "describe_model", "save_attached", "texts_inside", "weights_to_keep"]

# Gives a model of one's own class, of any weights.
Builder = Callable[[], nn.Module]
PLUGIN = "plugin"  # the folder of what is attached, as `save_plugin` writes it
_BASE, _WEIGHTED = "model.", "weighted."


def describe_model(model: nn.Module) -> dict[str, Any]:
    """What builds a model again, for JSON.

    - base: kind and config of a registered kind; of another class its name alone.
    - attached: whether a plug-in was saved beside it. weighted: the settings of a `SimilarityWeighted`, or None.
    """
    base, weighted = _parts(model)
    settings = None
    if weighted is not None:
        settings = {**weighted.settings, "centre": weighted.centre, "texts": list(weighted.texts.shape)}
    return {"base": describe(base), "attached": bool(attached(base)), "weighted": settings}


def weights_to_keep(model: nn.Module) -> dict[str, Tensor]:
    """The weights of the base, without those of its plugs, and the texts of edge weights."""
    base, weighted = _parts(model)
    homes = [f"{path}." for path, part in base.named_modules(remove_duplicate=False) if isinstance(part, Plugs)]
    kept = {
        f"{_BASE}{name}": value
        for name, value in weights_of(base).items()
        if not any(name.startswith(home) for home in homes)
    }
    return kept if weighted is None else kept | {f"{_WEIGHTED}texts": weighted.texts.detach().cpu().clone()}


def texts_inside(model: nn.Module) -> TextFeatures | None:
    """The texts of an `MLAVL`, as it was built with them or as they have become; None of another model."""
    base, _ = _parts(model)
    if not isinstance(base, MLAVL) or base.texts is None:
        return None
    from_, sizes = base.provenance, base.text_sizes
    visual, audio, both, grades = base.texts.detach().cpu().split(sizes)
    prompts = None
    if from_.prompts is not None and len(from_.prompts) == sum(sizes):
        ends = list(accumulate(sizes, initial=0))
        prompts = Prompts(*(tuple(from_.prompts[i:j]) for i, j in pairwise(ends)))
    return TextFeatures(visual, audio, grades, both, prompts, from_.sport, from_.source)


def save_attached(model: nn.Module, folder: Path) -> None:
    """Save what is attached to a model into the folder's `plugin`; without anything, an older plug-in is removed."""
    base, _ = _parts(model)
    if attached(base):
        save_plugin(base, folder / PLUGIN)
    elif (folder / PLUGIN).is_dir():
        for file in (folder / PLUGIN).glob("plugin.*"):
            file.unlink()


def build_model(
    description: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    folder: Path,
    build_own: Builder | None = None,
    guides: Sequence[nn.Module] = (),
) -> nn.Module:
    """The model that was described, with its weights, in evaluation mode.

    Args:
        description: of `describe_model`. weights: of `weights_to_keep`.
        folder: that holds them and the plug-in.
        build_own: makes a model of one's own class, where the base is no registered kind.
        guides: attached modules of one's own classes, as `load_plugin` takes them.

    Raises:
        ValueError: a model of one's own class and no `build_own`, weights that do not fit what it gives, or as
            `load_plugin`.
    """
    path = folder / "model.safetensors"
    # Building draws weights, which those of the file replace: the global random state must not change.
    with torch.random.fork_rng(devices=[]):
        base = _base(description["base"], folder, build_own)
        load_into(base, {k.removeprefix(_BASE): v for k, v in weights.items() if k.startswith(_BASE)}, path)
        if description["attached"]:
            load_plugin(base, folder / PLUGIN, guides=guides)
    settings = description["weighted"]
    if settings is None:
        return base.eval()
    texts = weights.get(f"{_WEIGHTED}texts")
    if texts is None:
        raise ValueError(f"{path} lacks the texts of the edge weights; train again")
    options = {name: settings[name] for name in ("temperature", "top_k", "scale", "centre")}
    return SimilarityWeighted(base, texts, **options).eval()


def _base(described: Mapping[str, Any], folder: Path, build_own: Builder | None) -> nn.Module:
    if described["kind"] is not None:
        return build(described, iter(()))
    if build_own is None:
        raise ValueError(
            f"{folder} holds a {described['class']} of your own; give a function that makes one: "
            f"load_trained(folder, build=lambda: {described['class']}(...))"
        )
    made = build_own()
    if not isinstance(made, nn.Module):
        raise ValueError(f"build= returned a {type(made).__name__}; return a {described['class']}")
    base, _ = _parts(made)
    if type(base).__name__ != described["class"]:
        raise ValueError(f"build= returned a {type(base).__name__}; {folder} holds a {described['class']}")
    return detach(base) if attached(base) else base


def _parts(model: nn.Module) -> tuple[nn.Module, SimilarityWeighted | None]:
    """The base, and the `SimilarityWeighted` around it."""
    inner = unwrapped(model)
    weighted = inner if isinstance(inner, SimilarityWeighted) else None
    base = inner if weighted is None else unwrapped(weighted.model)
    # Texts that learn are made by a text tower; what they have become is kept in its place.
    if isinstance(base, MLAVL) and base.live_texts is not None and not attached(base):
        base = base.with_constant_texts()
    return base, weighted
