"""The performances to score, from features in memory, from files, or from a folder that `mag2 extract` wrote."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mag2.data import DataError, Performances
from mag2.data.arrays import as_array
from mag2.data.features import ClipFeatures
from mag2.data.npy_header import map_npy
from mag2.data.performances import MODALITIES, VISION_LANGUAGE
from mag2.data.raw_features import RawFeatures, mean_over_views
from mag2.saving.atomic_io import read_json

__all__ = ["FOLDERS", "Given", "read_given"]

# Where the files of each modality lie in a folder, as `mag2 extract` and the released datasets have them.
FOLDERS = {"visual": "video", "audio": "audio", "flow": "flow", VISION_LANGUAGE: "vision_language"}
_MANIFEST = "extraction.json"  # of `mag2 extract`: it says how long a clip is


@dataclass(frozen=True, eq=False)
class Given:
    """Performances, and the numbers of those to score.

    Attributes:
        performances: the performances; their labels have no meaning.
        chosen: numbers of those to score.
        clip_seconds: duration of a clip in seconds; None where it is not known.
    """

    performances: Performances
    chosen: list[int]
    clip_seconds: float | None = None


def read_given(
    features: Any, widths: Mapping[str, int], *, scale: float, clips: int, names: Sequence[str] | None = None
) -> Given:
    """Read the features of performances to score, from memory, files or a folder.

    Args:
        features: one of the following. `Performances`. A mapping from "visual", "audio", "flow" and "vision_language"
            to the clips of one video (an array (T, D) or (T, K, D), or the path of a `.npy`), or of several (a list of
            them, a mapping from names to them, or an array (B, T, D) together with `names`). The path of one visual
            `.npy`. A folder with `video/NAME.npy`, `audio/NAME.npy` and so on.
        widths: width of the features of each modality that the model was trained on.
        scale, clips: of the model.
        names: the videos to score of performances, a folder or a mapping (all by default); or the names of videos that
            have none.

    Returns:
        A `Given`.

    Raises:
        DataError: features of another width or shape, no visual features, no such file, folder or video, or modalities
            with different videos.
    """
    if isinstance(features, Performances):
        _check_widths(features.widths, widths, dict.fromkeys(features.widths, features.lengths))
        return Given(features, _numbers(features.names, names))
    seconds = None
    if isinstance(features, str | Path):
        path = Path(features)
        if path.is_dir():
            seconds = _clip_seconds(path)
            features, names = _of_folder(path, widths, names), None
        elif path.is_file():
            features = {"visual": path}
        else:
            raise DataError(f"there is no file or folder {path}: give a .npy, or a folder with video/NAME.npy")
    if not isinstance(features, Mapping):
        features = {"visual": features}
    unknown = [key for key in features if key not in FOLDERS]
    if unknown:
        raise DataError(f"there is no modality {unknown[0]!r}: there are {', '.join(FOLDERS)}")
    by_modality = {key: _videos(key, value, names) for key, value in features.items() if value is not None}
    if "visual" not in by_modality:
        raise DataError("visual features are missing: every model here needs them")
    called = list(by_modality["visual"])
    for key, videos in by_modality.items():
        if set(videos) != set(called):
            odd = sorted(set(videos) ^ set(called))[0]
            raise DataError(f"video {odd!r} does not have both visual and {key} features: give both, or neither")
    stacked = {key: ClipFeatures.stack([videos[name] for name in called]) for key, videos in by_modality.items()}
    given_widths = {key: part.width for key, part in stacked.items()}
    _check_widths(given_widths, widths, {key: part.lengths for key, part in stacked.items()})
    label = torch.zeros(len(called))
    made = Performances(called, label, scale=scale, features=stacked, clips=clips)
    return Given(made, list(range(len(called))), seconds)


def _numbers(known: Sequence[str], names: Sequence[str] | None) -> list[int]:
    """The numbers of the performances with these names; all without names."""
    for name in names or ():
        if name not in known:
            raise DataError(f"there is no video {name!r}: the videos are {_some(known)}")
    return list(range(len(known))) if names is None else [known.index(name) for name in names]


def _videos(modality: str, value: Any, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """The clips (T, D) of each video by its name."""
    if isinstance(value, Mapping):
        chosen = value if names is None else {name: value[name] for name in names if name in value}
        if names is not None and len(chosen) < len(names):
            raise DataError(f"there is no video {next(n for n in names if n not in value)!r} among the {modality} ones")
        return {str(name): _clips(modality, str(name), each) for name, each in chosen.items()}
    several = isinstance(value, list | tuple)
    if not several and not isinstance(value, str | Path) and names is not None and len(names) > 1:
        several, value = True, list(value)
    if not several and names is None and np.ndim(value) == 3:
        raise DataError(
            f"{modality} features of shape {tuple(np.shape(value))} may be several videos, or several crops of each "
            f"clip: give a list of (clips, width) arrays, one a video, or names="
        )
    values = list(value) if several else [value]
    if not values:
        raise DataError(f"there is no video among the {modality} features: give one or more")
    if names is None:
        names = [Path(v).stem if isinstance(v, str | Path) else f"performance {i + 1}" for i, v in enumerate(values)]
        if len(set(names)) < len(names):
            raise DataError(f"several {modality} files have one name: give names")
    if len(names) != len(values) or len(set(names)) < len(names):
        raise DataError(f"{len(values)} videos of {modality} features want as many different names, got {len(names)}")
    return {str(name): _clips(modality, str(name), each) for name, each in zip(names, values, strict=True)}


def _clips(modality: str, name: str, value: Any) -> np.ndarray:
    if isinstance(value, str | Path):
        file = Path(value)
        if not file.is_file():
            raise DataError(f"there is no feature file {file}: give a .npy of one video's clips")
        return mean_over_views(RawFeatures(name, "this call", file, lambda: map_npy(file)))
    rows = as_array(value, f"the {modality} features of {name!r}")
    numeric = rows.dtype.kind in "fiu"
    if not numeric or rows.ndim not in (2, 3) or 0 in rows.shape:
        given = f"shape {rows.shape}" if numeric else f"a {type(value).__name__} of {rows.dtype!s:.40}"
        raise DataError(f"the {modality} features of {name!r} want shape (clips, width), got {given}")
    return mean_over_views(RawFeatures(name, "this call", Path(f"the {modality} features"), lambda: rows))


def _of_folder(folder: Path, widths: Mapping[str, int], names: Sequence[str] | None) -> dict[str, dict[str, Path]]:
    """The files of each modality of a folder by the names of their videos."""
    videos = {file.stem: file for file in sorted((folder / FOLDERS["visual"]).glob("*.npy"))}
    if not videos:
        raise DataError(f"there is no {folder / FOLDERS['visual']}/NAME.npy: give the folder that mag2 extract wrote")
    for name in names or ():
        if name not in videos:
            raise DataError(f"there is no {folder / FOLDERS['visual'] / name}.npy: the videos are {_some(videos)}")
    chosen = list(names or videos)
    files = {key: {name: folder / place / f"{name}.npy" for name in chosen} for key, place in FOLDERS.items()}
    # Files that the model has no use for are left alone.
    return {key: paths for key, paths in files.items() if key in widths and all(p.is_file() for p in paths.values())}


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:4]) + (" and so on" if len(listed) > 4 else "")


def _clip_seconds(folder: Path) -> float | None:
    if not (folder / _MANIFEST).is_file():
        return None
    made = read_json(folder / _MANIFEST, "clips")["clips"]
    try:
        return float(int(made["frames"]) / Fraction(made["fps"]))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _check_widths(given: Mapping[str, int], trained: Mapping[str, int], lengths: Mapping[str, Any]) -> None:
    for key in (*MODALITIES, VISION_LANGUAGE):
        if key in given and key in trained and given[key] != trained[key]:
            exchanged = (np.asarray(lengths[key]) == trained[key]).all()
            advice = "extract them with the network of its training"
            raise DataError(
                f"the {key} features are {given[key]} wide and the model was trained on {trained[key]}: "
                f"{'their axes look exchanged, give (clips, width)' if exchanged else advice}"
            )
