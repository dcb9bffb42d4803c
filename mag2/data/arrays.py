"""Features and scores of your own, in memory or in `.npy` files, as the parts of a dataset."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mag2.data.batch import common_lengths
from mag2.data.errors import DataError
from mag2.data.features import MODALITIES, VISION_LANGUAGE, ClipFeatures
from mag2.data.npy_header import map_npy
from mag2.data.raw_features import RawFeatures, check_shapes, look_exchanged, mean_over_views
from mag2.data.scores import checked_clips, checked_names, checked_scores, labels_of
from mag2.data.splits import Split, checked_groups, make_split
from mag2.data.store import default_cache_folders, short_hash, stored_features

__all__ = ["OwnData", "as_array", "own_data"]


@dataclass(frozen=True)
class OwnData:
    """What `Dataset.from_arrays` was given, checked: the videos of all parts of the split, in the order of the arrays.

    Attributes:
        names: of the videos. label: (N,) in [0, 1]. groups: a group for each of them, if there are any.
        scale, minimum: label = (score - minimum) / scale.
        features: by modality. clips: the length of a crop.
        split: indices of these videos.
    """

    names: list[str]
    label: NDArray[np.float64]
    groups: list[Any] | None
    scale: float
    minimum: float
    features: dict[str, ClipFeatures]
    clips: int
    split: Split


def own_data(
    features: Any,
    scores: Any,
    *,
    scale: Any,
    minimum: Any,
    split: Any,
    groups: Any,
    seed: Any,
    names: Any,
    clips: Any,
    cache: str | Path | None,
) -> OwnData:
    """Check and read everything; the arguments are those of `Dataset.from_arrays`.

    Scores, names and split are checked before any feature is read.
    """
    numbers = checked_scores(scores)
    count = len(numbers)
    listed = {key: _listed(key, videos, count) for key, videos in _by_modality(features).items()}
    _check_order({key: _file_names(videos.videos) for key, videos in listed.items()})
    names = checked_names(names, _file_names(listed["visual"].videos), count)
    groups = checked_groups(groups, count)
    made = make_split(split, count, groups, seed)
    label, span, least = labels_of(numbers, names, made, scale, minimum)
    clips = None if clips is None else checked_clips(clips)
    read = {key: _read(videos, names, cache) for key, videos in listed.items()}
    _warn_exchanged(read)
    used = made.used
    if len(used) < count:
        read = {key: part.subset(used) for key, part in read.items()}
        names, label = [names[video] for video in used], label[used]
        groups = groups and [groups[video] for video in used]
        made = Split(**{name: np.searchsorted(used, part) for name, part in made.parts.items()})
    longest = int(common_lengths(read).max()) if clips is None else clips
    return OwnData(names, label, groups, span, least, read, longest, made)


def _warn_exchanged(read: Mapping[str, ClipFeatures]) -> None:
    """Say where the clips of a modality look like its width: nothing else would."""
    for key, part in read.items():
        others = [other for name, other in read.items() if name != key]
        # As many columns as another modality has clips, and another number of rows than that: of every video.
        like_clips = len({*part.lengths}) == 1 and any(
            (other.lengths == part.width).all() and (other.lengths != part.lengths).all() for other in others
        )
        if look_exchanged(part.lengths.tolist(), part.width) or like_clips:
            warnings.warn(
                f"every video has {part.lengths[0]} clips of {key} features {part.width} wide: if these are "
                f"{part.width} clips, the axes are exchanged; give (clips, width)",
                stacklevel=4,
            )


@dataclass(frozen=True)
class _Listed:
    """The videos of a modality one by one; `whole` is the array that they are rows of, where there is one."""

    modality: str
    videos: list[Any]
    whole: NDArray | None = None
    file: Path | None = None


@dataclass(frozen=True)
class _InMemory(RawFeatures):
    """Features that are in memory; `file` is not used."""

    def __str__(self) -> str:
        return f"{self.where} (video {self.name!r})"


def _by_modality(features: Any) -> dict[str, Any]:
    """The videos of each modality; those that are None are left out."""
    if not isinstance(features, Mapping):
        return {"visual": features}
    known = (*MODALITIES, VISION_LANGUAGE)
    given = {key: videos for key, videos in features.items() if videos is not None}
    unknown = [key for key in features if key not in known]
    if unknown or "visual" not in given:
        fault = f"there is no {unknown[0]!r}" if unknown else "visual is missing"
        raise DataError(f"features are a dict of {', '.join(known)}, visual always, or a list; {fault}")
    return given


def _listed(modality: str, videos: Any, count: int) -> _Listed:
    """The videos of a modality one by one, as many as there are scores."""
    forms = "give a list with an array (T, D) or a .npy file for each video, or one array (N, T, D)"
    file = Path(videos) if isinstance(videos, str | os.PathLike) else None
    if file is not None:
        videos = _mapped(file, f"the file of all {modality} features")
    if isinstance(videos, Tensor) and videos.is_nested:
        videos = list(videos.unbind())
    whole = None
    if isinstance(videos, Tensor | np.ndarray) and not (isinstance(videos, np.ndarray) and videos.dtype == object):
        whole = as_array(videos, modality)
        if whole.ndim not in (3, 4):
            raise DataError(f"{modality} is one array of shape {whole.shape}: {forms}")
        videos = list(whole)
    elif isinstance(videos, bytes | Mapping | set | frozenset) or not isinstance(videos, Iterable):
        raise DataError(f"{modality} is a {type(videos).__name__}: {forms}")
    listed = list(videos)
    if len(listed) != count:
        raise DataError(f"{modality} has {len(listed)} videos and there are {count} scores: give one of each a video")
    return _Listed(modality, listed, whole, file)


def _file_names(videos: Sequence[Any]) -> list[str] | None:
    """The names of the files, without their endings; None where not every video is a file."""
    files = [Path(video).stem for video in videos if isinstance(video, str | os.PathLike)]
    return files if len(files) == len(videos) else None


def _check_order(files: Mapping[str, list[str] | None]) -> None:
    """Refuse files of another modality that have the names of visual ones, in another order: videos would be mixed."""
    visual = files["visual"] or []
    for key, names in files.items():
        for number, (own, name) in enumerate(zip(visual, names or (), strict=False)):
            if name != own and name in visual:
                raise DataError(
                    f"entry {number} of {key} is the file of {name!r}, and of visual that of {own!r}: list the videos "
                    f"of all modalities in one order"
                )


def _read(listed: _Listed, names: Sequence[str], cache: str | Path | None) -> ClipFeatures:
    """The features of a modality: mapped where they lie in files, else copied into one array."""
    raw = [_raw(listed, number, name) for number, name in enumerate(names)]
    lengths, width = check_shapes(raw)
    offsets = np.cumsum([0, *lengths])
    whole = listed.whole
    if isinstance(whole, np.memmap) and whole.ndim == 3 and whole.dtype == np.float32 and whole.flags.c_contiguous:
        for each in raw:
            mean_over_views(each)  # refuses numbers that are not finite
        return ClipFeatures(whole.reshape(-1, width), offsets)
    if all(not isinstance(each, _InMemory) for each in raw):
        folders = default_cache_folders(raw[0].file.parent) if cache is None else [Path(cache)]
        places = short_hash("\n".join(str(each.file.resolve()) for each in raw))
        return stored_features(
            raw, name=f"arrays-{listed.modality}-{places}", folders=folders, progress=lambda ready: None
        )
    rows = np.empty((offsets[-1], width), dtype=np.float32)
    for each, begin, end in zip(raw, offsets[:-1], offsets[1:], strict=True):
        rows[begin:end] = mean_over_views(each)
    return ClipFeatures(rows, offsets)


def _raw(listed: _Listed, number: int, name: str) -> RawFeatures:
    """One video, not read yet."""
    video, where = listed.videos[number], f"entry {number} of {listed.modality}"
    if listed.file is not None:
        return RawFeatures(name, where, listed.file, lambda: video)
    if isinstance(video, str | os.PathLike):
        file = Path(video)
        return RawFeatures(name, where, file, partial(_mapped, file, where))
    return _InMemory(name, where, Path(), lambda: as_array(video, where))


def _mapped(file: Path, where: str) -> NDArray:
    if file.is_dir():
        raise DataError(f"{where} is the folder {file}: give the .npy files in it, one for each video")
    if not file.is_file():
        raise DataError(f"{where} is {str(file)!r}, where there is no file: give a .npy file")
    try:
        return map_npy(file)
    except ValueError as fault:
        raise DataError(f"{where} is {file}, which {fault}: save one numeric array with numpy.save") from fault
    except OSError as fault:
        raise DataError(f"{where} is {file}, which cannot be read ({fault.strerror}): give a .npy file") from fault


def as_array(video: Any, where: str) -> NDArray:
    """A tensor, array or nested list as an array of the same numbers; what numpy would change silently is refused."""
    if isinstance(video, Tensor):
        if video.is_meta:
            raise DataError(f"{where} is on the device meta, which holds no numbers: give a tensor with data")
        if video.layout != torch.strided:
            raise DataError(f"{where} is a sparse tensor: give its to_dense()")
        video = video.detach().cpu()
        # numpy has no bfloat16 and no floats of 8 bits.
        known = video.dtype in (torch.float16, torch.float32, torch.float64) or not video.is_floating_point()
        try:
            return (video if known else video.float()).numpy()
        except (TypeError, RuntimeError):  # quantized, conjugated
            raise DataError(
                f"{where} is a tensor of {video.dtype}: give float32, its float() or dequantize()"
            ) from None
    if isinstance(video, np.ma.MaskedArray):
        raise DataError(f"{where} is a masked array: give its filled(0), or leave the masked clips out")
    if isinstance(video, str | bytes | Mapping | set | frozenset):
        raise DataError(f"{where} is a {type(video).__name__}: give an array (T, D)")
    try:
        return np.asanyarray(video)
    except (ValueError, TypeError, RuntimeError):
        raise DataError(f"{where} is no array but a {type(video).__name__} of uneven parts: give (T, D)") from None
