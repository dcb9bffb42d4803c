"""Save what is attached to a model, and nothing of the model; load it into another one.

A folder holds two files. `plugin.safetensors`: the weights of the guides, "0.conv1.lin_l.weight" and so on, by their
number. `plugin.json`: what they are and where they sit, with the prompts of their texts and the library's version.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.nn.modules import uncompiled, unwrapped
from mag2.plugin.attaching import attached, check, containers, insert
from mag2.plugin.places import submodule
from mag2.plugin.plug import Plug
from mag2.saving.folders import (
    FORMAT,
    check_readable,
    library_version,
    load_into,
    read_json,
    read_weights,
    weights_of,
    write_folder,
)
from mag2.saving.registry import build, class_of, describe, name_of

__all__ = ["load_plugin", "save_plugin"]

WEIGHTS, ABOUT = "plugin.safetensors", "plugin.json"
_KEYS = {"format", "mag2", "model", "plugs", "guides", "frozen", "sha256"}
_PLACE_KEYS = {"in", "at", "kind", "config", "guide"}


def save_plugin(model: nn.Module, folder: str | Path) -> None:
    """Save all plugs of a model into a folder, as PEFT saves an adapter: weights and a JSON, nothing of the base.

    The model may be compiled or in DDP; what these add to names is left out. A folder that holds a plugin already
    is overwritten; whenever this is killed, it never holds half a file.

    Raises:
        ValueError: nothing is attached, or a plug is of a kind of its own that is not registered.
    """
    inner = unwrapped(model)
    if not attached(inner):
        raise ValueError(f"nothing is attached to this {type(inner).__name__}; there is no plugin to save")
    guides: list[nn.Module] = []
    plugs, frozen = [], []
    for path, container in containers(inner):
        numbers = {guide: len(guides) + i for i, guide in enumerate(container.guides)}
        guides.extend(container.guides)
        frozen += [path] if container.frozen else []
        for plug in container.plugs:
            name = name_of(plug)
            if name is None:
                raise ValueError(f"{plug!r} is a {type(plug).__name__}; register that class with mag2.saving.register")
            place = {"in": path, "at": plug.at, "kind": name, "config": plug.config}
            plugs.append({**place, "guide": numbers[plug.module]})
    about = {
        "format": FORMAT,
        "mag2": library_version(),
        "model": type(inner).__name__,
        "plugs": plugs,
        "guides": [describe(guide) for guide in guides],
        "frozen": frozen,
    }
    weights = {f"{i}.{key}": value for i, guide in enumerate(guides) for key, value in weights_of(guide).items()}
    write_folder(Path(folder), (WEIGHTS, ABOUT), weights, about)


def load_plugin(model: nn.Module, folder: str | Path, *, guides: Sequence[nn.Module] = ()) -> nn.Module:
    """Put what `save_plugin` saved into a model with the same places; it is changed in place and returned.

    Either all of it fits, or the model stays as it was. Plugs freeze the base where they had frozen it.

    Args:
        model: like the one that was saved from, with or without plugs of its own elsewhere.
        folder: that `save_plugin` wrote.
        guides: those of your own classes, in the order in which they were attached. Others are built from the JSON,
            which may name classes of this library only.

    Raises:
        ValueError: no such folder or not of this format, a missing, unexpected or misshapen weight, a guide of your
            own that is not given or one too many, or a place that the model lacks or that is taken.
    """
    folder = Path(folder)
    about = read_json(folder / ABOUT, "save_plugin")
    check_readable(about, _KEYS, folder / ABOUT)
    weights = read_weights(folder / WEIGHTS, about.get("sha256"))
    built = _guides(about, guides, folder / ABOUT)
    _load(built, weights, folder / WEIGHTS)
    homes = _plugs(about, built, folder / ABOUT)
    inner = uncompiled(model)
    parts = {path: submodule(inner, path) for path in homes}
    check(inner, ())
    for path, plugs in homes.items():
        check(parts[path], plugs)
    for path, plugs in homes.items():
        insert(parts[path], *plugs, freeze=path in about["frozen"])
    return model


def _guides(about: dict[str, Any], given: Sequence[nn.Module], path: Path) -> list[nn.Module]:
    left = iter(given)
    # Building draws initial weights, which the saved ones replace: the global random state must not change.
    with torch.random.fork_rng(devices=[]):
        try:
            built = [build(description, left) for description in about["guides"]]
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(_too_new(path, about, "a guide", "build", error)) from None
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


def _plugs(about: dict[str, Any], guides: list[nn.Module], path: Path) -> dict[str, list[Plug]]:
    """The plugs by the path of the module that they live in."""
    homes: dict[str, list[Plug]] = {}
    try:
        for place in about["plugs"]:
            cls = class_of(place["kind"])
            if not issubclass(cls, Plug):
                raise ValueError(f"{place['kind']} is no plug")
            if unknown := sorted(set(place) - _PLACE_KEYS):
                raise KeyError(unknown[0])
            plug = cls.from_config(place["at"], guides[place["guide"]], place["config"])
            homes.setdefault(place["in"], []).append(plug)
        about["frozen"] = list(about["frozen"])
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(_too_new(path, about, "a place", "fill", error)) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return homes


def _too_new(path: Path, about: dict[str, Any], what: str, verb: str, error: Exception) -> str:
    writer = about.get("mag2", "unknown")
    return f"{path} describes {what} that mag2 {library_version()} cannot {verb}: {error}; mag2 {writer} wrote it"
