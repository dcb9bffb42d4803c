"""The raw features of one video, in any of the released forms: a file of its own, or an entry of a pickled dict."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mag2.data.errors import DataError
from mag2.data.labels import Example
from mag2.data.npy_header import map_npy
from mag2.data.pickles import load_pickle
from mag2.saving.sentences import reason_of

__all__ = ["RawFeatures", "check_shapes", "list_raw_features", "look_exchanged", "mean_over_views"]

# The widths of what networks give for a clip: C3D, I3D, Video Swin, ViT, CLIP, DINOv2, VideoMAE, MiniLM and others.
NETWORK_WIDTHS = frozenset((384, 512, 640, 768, 1024, 1280, 1408, 1536, 2048, 4096))


@dataclass(frozen=True)
class RawFeatures:
    """One video's features of one modality, not read yet.

    Args:
        name: the video.
        where: the label file and line that name it, for errors.
        file: the file that holds the features, alone or among others.
        load: returns the array, (T, D) or (T, K, D) with K views of each clip; a memory map where that is possible.
    """

    name: str
    where: str
    file: Path
    load: Callable[[], NDArray]

    def __str__(self) -> str:
        return f"{self.file} (video {self.name!r} of {self.where})"


def list_raw_features(path: Path, examples: Sequence[Example]) -> list[RawFeatures]:
    """Return the features of each example: from a pickled dict if the path is a file, else from a folder.

    Raises:
        DataError: the folder, or a file in it, does not exist. A pickled dict is not opened yet.
    """
    return _in_pickled_dict(path, examples) if path.is_file() else _in_folder(path, examples)


def _in_folder(folder: Path, examples: Sequence[Example]) -> list[RawFeatures]:
    """One `<folder>/<name>.npy` for each example."""
    if not folder.is_dir():
        raise DataError(f"there is no feature folder {folder}: put the features there or name their folder")
    raw = []
    for example in examples:
        name, where, file = example.name, example.where, folder / f"{example.name}.npy"
        if not file.is_file():
            raise DataError(f"{where} names {name!r} but there is no {file}: add the features or drop the row")
        raw.append(RawFeatures(name, where, file, lambda file=file: map_npy(file)))  # type: ignore[misc]
    return raw


def _in_pickled_dict(file: Path, examples: Sequence[Example]) -> list[RawFeatures]:
    """One entry of a pickled dict, name -> array, for each example.

    The file is read with the first array, and stays in memory as long as any of these features does.
    """
    videos = _PickledVideos(file)
    return [RawFeatures(each.name, each.where, file, partial(videos.find, each.name, each.where)) for each in examples]


class _PickledVideos:
    """The arrays of a pickled dict by name; a key that is a number is a name as well."""

    def __init__(self, file: Path):
        self.file = file

    def find(self, name: str, where: str) -> NDArray:
        """The array of a video; DataError where the file has none, ValueError where that is no array."""
        if name not in self._by_name:
            raise DataError(
                f"{where} names {name!r} but {self.file} has no such video: add its features or drop the row"
            )
        array = self._by_name[name]
        if not isinstance(array, np.ndarray):
            raise ValueError(f"holds a {type(array).__name__}")
        return array

    @cached_property
    def _by_name(self) -> dict:
        content = load_pickle(self.file)
        if not isinstance(content, dict):
            raise DataError(
                f"{self.file} holds a {type(content).__name__}: save a dict of name to array with numpy.save"
            )
        by_name = {str(key): array for key, array in content.items()}
        if len(by_name) < len(content):
            twice, _ = Counter(map(str, content)).most_common(1)[0]
            raise DataError(f"{self.file} has video {twice!r} twice, as a number and as text: keep one of them")
        return by_name


def check_shapes(raw: Sequence[RawFeatures]) -> tuple[list[int], int]:
    """The lengths of all videos, and the width of their features, without reading the numbers.

    Raises:
        DataError: an array cannot be features, or is of another width than the others.
    """
    shapes = [_checked(each).shape for each in raw]
    widths = Counter(shape[-1] for shape in shapes)
    usual, _ = widths.most_common(1)[0]
    for each, shape in zip(raw, shapes, strict=True):
        if shape[-1] != usual:
            example = raw[[shape[-1] for shape in shapes].index(usual)]
            raise DataError(
                f"{each} has features of width {shape[-1]} where {example} and others have {usual}: "
                f"{_advice(shape, usual, shapes)}"
            )
    return [shape[0] for shape in shapes], usual


def _advice(odd: tuple[int, ...], usual: int, shapes: Sequence[tuple[int, ...]]) -> str:
    """What to do about a shape whose width is not the usual one."""
    network = "extract all videos with one network"
    if len(odd) == 2 and odd[0] == usual:
        return f"its axes look exchanged, {odd} in place of (clips, width); give its transpose"
    if {len(shape) for shape in shapes} != {2} or len({shape[0] for shape in shapes}) > 1:
        return network
    exchanged = (
        f"the axes look exchanged, for every array has {odd[0]} rows; give (clips, width), the transpose of each"
    )
    sure = len({shape[1] for shape in shapes}) > 2 or odd[0] in NETWORK_WIDTHS
    return exchanged if sure else f"{network}; or {exchanged}"


def look_exchanged(lengths: Sequence[int], width: int) -> bool:
    """Whether videos of these lengths and this width are (width, clips), by the usual widths of networks."""
    return len(lengths) > 1 and len({*lengths}) == 1 and lengths[0] in NETWORK_WIDTHS and width not in NETWORK_WIDTHS


def mean_over_views(raw: RawFeatures) -> NDArray[np.float32]:
    """The clips of one video (T, D) in float32, views averaged; DataError where a number is not finite."""
    array = _checked(raw)
    if array.ndim == 3:
        # Half precision is summed in float32, double in double.
        array = array.mean(axis=1, dtype=np.promote_types(array.dtype, np.float32))
    with np.errstate(over="ignore"):
        clips = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(clips)
    if not finite.all():
        first = int(np.argmin(finite.all(axis=1)))
        raise DataError(
            f"{raw} has NaN or infinite features, first in clip {first}: extract its features again or drop the row"
        )
    return clips


def _checked(raw: RawFeatures) -> NDArray:
    """The array, of a kind and shape that features can have; else DataError."""
    try:
        array = raw.load()
    except DataError:  # it is complete
        raise
    except OSError as fault:
        advice = "allow this user to read it" if isinstance(fault, PermissionError) else "extract it again"
        raise DataError(f"{raw} cannot be read ({reason_of(fault)}): {advice}") from fault
    except ValueError as fault:
        raise DataError(f"{raw} {fault}: save one numeric array per video with numpy.save") from fault
    if array.dtype.kind not in "fiu":
        raise DataError(f"{raw} holds {array.dtype!s:.40} where numbers are wanted: save features as float32")
    if array.ndim not in (2, 3):
        raise DataError(
            f"{raw} has shape {array.shape} where (clips, width) or (clips, crops, width) is wanted: reshape it"
        )
    if 0 in array.shape:
        raise DataError(f"{raw} is empty, with shape {array.shape}: extract its features again or drop the row")
    return array
