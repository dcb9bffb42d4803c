"""Save what is attached to a model, and nothing of the model; load it into another one.

A folder holds two files. `plugin.safetensors`: the weights of the guides, "0.conv1.lin_l.weight" and so on, by their
number. `plugin.json`: what they are and where they are attached, with the prompts of their texts and the library's
version. Places are paths of the bare model: what wraps it, or a part of it, leaves no trace.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.nn.modules import uncompiled
from mag2.plugin.attaching import Attached, attached, check, insert
from mag2.plugin.gathering import gathered
from mag2.plugin.places import joined, paths, submodule
from mag2.plugin.plug import Plug
from mag2.plugin.watch import found_idle
from mag2.plugin.wrappers import base_of, is_adapter, names_of
from mag2.saving.allocation_budget import AllocationBudget
from mag2.saving.checked_build import check_description
from mag2.saving.folders import (
    FORMAT,
    check_readable,
    library_version,
    load_into,
    read_json,
    read_weights,
    write_folder,
)
from mag2.saving.registry import build, class_of, describe, name_of

__all__ = ["load_plugin", "save_plugin"]

WEIGHTS, ABOUT = "plugin.safetensors", "plugin.json"
_KEYS = {"format", "mag2", "model", "plugs", "guides", "frozen", "sha256"}
_PLACE: dict[str, type] = {"in": str, "at": str, "kind": str, "config": dict, "guide": int}


def save_plugin(model: nn.Module, folder: str | Path) -> None:
    """Save all plugs of a model into a folder: their weights and a JSON, but nothing of the model.

    The model may be compiled, in DDP, averaged or adapted by PEFT; names that these add are left out. Where several
    processes train, the first one writes and the others return. If the model is sharded (`fully_shard`, FSDP), all
    processes must call this, because they gather the weights together. Files that the folder holds already are
    overwritten; files are written atomically.

    Args:
        model: with plugs attached.
        folder: made if it does not exist; gets `plugin.safetensors` and `plugin.json`.

    Raises:
        ValueError: nothing is attached, the class of a plug is not registered (`mag2.saving.register`), a guide is
            adapted by PEFT, or weights are sharded in a way that cannot be gathered here.
    """
    base = _inside_lightning(base_of(model))
    places = attached(base)
    if not places:
        raise ValueError(f"nothing is attached to this {type(base).__name__}; there is no plugin to save")
    _warn_of_idle(places)
    _refuse_adapters(places)
    guides = list(dict.fromkeys(place.module for place in places))
    about = {
        "format": FORMAT,
        "mag2": library_version(),
        "model": type(base).__name__,
        "plugs": [_described(place, guides) for place in places],
        "guides": [describe(guide) for guide in guides],
        "frozen": sorted({_split(place)[0] for place in places if place.plug.froze}),
    }
    with gathered(model, guides) as states:
        weights = {f"{i}.{key}": value for i, state in enumerate(states) for key, value in state.items()}
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_rank() == 0:
        write_folder(Path(folder), (WEIGHTS, ABOUT), weights, about)


def load_plugin(model: nn.Module, folder: str | Path, *, guides: Sequence[nn.Module] = ()) -> nn.Module:
    """Attach the plugs of a folder that `save_plugin` wrote to a model; it is changed in place and returned.

    If anything does not fit, the model is not changed. The model is frozen again where it was frozen.

    Args:
        model: has the submodules that the plugs were attached to; other submodules may have plugs. It may contain such
            a model (as a LightningModule does): then places are found by the end of their paths.
        folder: that `save_plugin` wrote.
        guides: guides of your own, unregistered classes, in the order in which they were attached. Other guides are
            built from the JSON, which may name registered classes alone.

    Raises:
        ValueError: no such folder or another format; a missing or unexpected weight, or one of another shape; too few
            or too many `guides`; a place that the model does not have, or where something is attached already.
    """
    folder = Path(folder)
    about = read_json(folder / ABOUT, "save_plugin")
    check_readable(about, _KEYS, folder / ABOUT)
    weights = read_weights(folder / WEIGHTS, about.get("sha256"))
    built = _guides(about, guides, folder / ABOUT, weights)
    _load(built, weights, folder / WEIGHTS)
    plugs = _plugs(about, built, folder / ABOUT)
    base, roots, freezing = base_of(model), dict[str, list[Plug]](), set[str]()
    for root, plug in plugs:
        found, plug.at = _find(base, root, plug.at)
        roots.setdefault(found, []).append(plug)
        if root in about["frozen"]:
            freezing.add(found)
    check(model, ())
    for root, there in roots.items():
        check(submodule(base, root), there)
    for root, there in roots.items():
        insert(submodule(base, root), *there, freeze=root in freezing)
    return model


def _inside_lightning(model: nn.Module) -> nn.Module:
    """The one part of a LightningModule that something is attached in; any other model itself."""
    if "LightningModule" not in names_of(model):
        return model
    names = {place.at.partition(".")[0] for place in attached(model)}
    part = model._modules.get(names.pop()) if len(names) == 1 else None
    return model if part is None else base_of(part)


def _described(place: Attached, guides: list[nn.Module]) -> dict[str, Any]:
    plug = place.plug
    name = name_of(plug)
    if name is None:
        raise ValueError(f"{plug!r} is a {type(plug).__name__}; register that class with mag2.saving.register")
    root, at = _split(place)
    return {"in": root, "at": at, "kind": name, "config": plug.config, "guide": guides.index(plug.guide)}


def _split(place: Attached) -> tuple[str, str]:
    """The path of the model that a plug was attached to, and the path of its place in that; "" and all, if it moved."""
    root, at = place.root, place.plug.at
    return (root, at) if joined(root, at) == place.at else ("", place.at)


def _warn_of_idle(places: list[Attached]) -> None:
    """Say which guides never ran, where others of the same model did or where it was seen already."""
    counted = [place for place in places if place.plug.is_counted]
    ran = any(place.plug.calls for place in counted)
    for place in counted:
        if place.plug.calls == 0 and (ran or found_idle(place.plug)):
            why = "while others ran" if ran else "while its model was"
            warnings.warn(f"{place.plug.describe(place.at)} is saved and was never called, {why}", stacklevel=3)


def _refuse_adapters(places: list[Attached]) -> None:
    for place in places:
        if any(is_adapter(part) for part in place.module.modules()):
            raise ValueError(
                f"{place.plug.describe(place.at)} has layers that PEFT adapts; call merge_and_unload() on the PEFT "
                f"model first, or give its config exclude_modules=r'.*\\.mag2\\..*'"
            )


def _find(base: nn.Module, root: str, at: str) -> tuple[str, str]:
    """Where a saved place is in a model: the path of what the plug is attached to, and that of the place in it."""
    parts = paths(base)
    whole = joined(root, at)
    if root in parts and joined(root, at) in parts:
        return root, at
    ends = [path for path in parts if whole and path.endswith(f".{whole}")]
    if len(ends) == 1:
        return ends[0].removesuffix(f".{whole}"), whole
    submodule(submodule(base, root), at)  # raises, with the paths that would work
    raise AssertionError(whole)


def _guides(
    about: dict[str, Any], given: Sequence[nn.Module], path: Path, weights: dict[str, Tensor]
) -> list[nn.Module]:
    left = iter(given)
    # Building draws initial weights, which the saved ones replace: the global random state must not change.
    with torch.random.fork_rng(devices=[]), AllocationBudget(weights):
        try:
            for description in about["guides"]:
                check_description(description)
            built = [build(description, left) for description in about["guides"]]
        except (
            KeyError,
            TypeError,
            AttributeError,
            RuntimeError,
            ArithmeticError,
            AssertionError,
            LookupError,
        ) as error:
            raise ValueError(_cannot(path, about, "a guide", "build", error)) from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    spare = len(list(left))
    if spare:
        raise ValueError(f"{path} wants {len(given) - spare} guides of your own, {len(given)} were given")
    return built


def _load(guides: list[nn.Module], weights: dict[str, Tensor], path: Path) -> None:
    """Every weight into its guide."""
    sorted_out: list[dict[str, Tensor]] = [{} for _ in guides]
    for key, value in weights.items():
        number, _, rest = key.partition(".")
        if not number.isdecimal() or int(number) >= len(guides):
            raise ValueError(f"{path}: {key} is of none of the {len(guides)} guides in {ABOUT}")
        sorted_out[int(number)][rest] = value
    for guide, own in zip(guides, sorted_out, strict=True):
        load_into(uncompiled(guide), own, path)


def _plugs(about: dict[str, Any], guides: list[nn.Module], path: Path) -> list[tuple[str, Plug]]:
    """The plugs, each with the path of the model that it belongs to."""
    plugs: list[tuple[str, Plug]] = []
    try:
        for place in about["plugs"]:
            _check_place(place)
            cls = class_of(place["kind"])
            if not issubclass(cls, Plug):
                raise ValueError(f"{place['kind']} is no plug")
            plugs.append((place["in"], cls.from_config(place["at"], guides[place["guide"]], place["config"])))
        about["frozen"] = list(about["frozen"])
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(_cannot(path, about, "a place", "fill", error)) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return plugs


def _check_place(place: Any) -> None:
    if not isinstance(place, dict):
        raise TypeError(f"a place is an object, got {place!r}")
    unknown = sorted(set(place) - set(_PLACE))
    if unknown:
        raise KeyError(unknown[0])
    for name, kind in _PLACE.items():
        if name != "kind" and (not isinstance(place[name], kind) or isinstance(place[name], bool)):
            raise TypeError(f"{name!r} is {place[name]!r}, not a {kind.__name__}")


def _cannot(path: Path, about: dict[str, Any], what: str, verb: str, error: Exception) -> str:
    writer, why = about.get("mag2", "unknown"), " ".join(str(error).split())
    return f"{path} describes {what} that mag2 {library_version()} cannot {verb}: {why}; mag2 {writer} wrote it"
