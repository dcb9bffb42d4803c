"""The raw features of one video, wherever a released layout keeps them."""

import tokenize
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mag2.data.errors import DataError
from mag2.data.pickles import load_pickle


@dataclass(frozen=True)
class Source:
    """One video's raw features of one modality.

    Args:
        name: the video.
        where: the label file and line that ask for it.
        file: the file that holds it, alone or among others.
        load: returns the array, (T, D) or (T, K, D); a memory map where that is possible.
    """

    name: str
    where: str
    file: Path
    load: Callable[[], NDArray]

    def __str__(self) -> str:
        return f"{self.file} (video {self.name!r} of {self.where})"


def feature_sources(place: Path, wanted: Sequence[tuple[str, str]]) -> list[Source]:
    """The features of each (name, where): from a pickled dict where the place is a file, else from a folder."""
    return pickled_sources(place, wanted) if place.is_file() else npy_sources(place, wanted)


def npy_sources(folder: Path, wanted: Sequence[tuple[str, str]]) -> list[Source]:
    """One `<folder>/<name>.npy` for each (name, where); DataError where a folder or a file is missing."""
    if not folder.is_dir():
        raise DataError(f"there is no feature folder {folder}: put the features there or name their folder")
    sources = []
    for name, where in wanted:
        file = folder / f"{name}.npy"
        if not file.is_file():
            raise DataError(f"{where} names {name!r} but there is no {file}: add the features or drop the row")
        sources.append(Source(name, where, file, lambda file=file: map_npy(file)))  # type: ignore[misc]
    return sources


def pickled_sources(file: Path, wanted: Sequence[tuple[str, str]]) -> list[Source]:
    """One entry of a pickled dict, name -> array, for each (name, where).

    The file is read when the first array is asked for, and stays in memory as long as any of the sources does.
    """
    videos = _PickledVideos(file)
    return [Source(name, where, file, partial(videos.find, name, where)) for name, where in wanted]


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


def map_npy(file: Path) -> NDArray:
    """A memory map of a `.npy` file; ValueError where it holds no plain array. Nothing is ever unpickled."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile) as fault:
        raise ValueError("holds no plain array") from fault
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError("holds several arrays")
    return array


def want_shapes(sources: Sequence[Source]) -> tuple[list[int], int]:
    """Check every array's kind and shape without reading its numbers; returns the lengths and the width."""
    shapes = [load(source).shape for source in sources]
    widths = Counter(shape[-1] for shape in shapes)
    usual, _ = widths.most_common(1)[0]
    for source, shape in zip(sources, shapes, strict=True):
        if shape[-1] != usual:
            example = sources[[shape[-1] for shape in shapes].index(usual)]
            raise DataError(
                f"{source} has features of width {shape[-1]} where {example} and others have {usual}: "
                f"extract all videos with one network"
            )
    return [shape[0] for shape in shapes], usual


def load(source: Source) -> NDArray:
    """The raw array, checked for kind and shape; DataError where it cannot be features."""
    try:
        raw = source.load()
    except DataError:  # it says all there is to say
        raise
    except OSError as fault:
        raise DataError(f"{source} cannot be read ({fault.strerror or 'damaged'}): extract it again") from fault
    except ValueError as fault:
        raise DataError(f"{source} {fault}: save one numeric array per video with numpy.save") from fault
    if raw.dtype.kind not in "fiu":
        raise DataError(f"{source} holds {raw.dtype} where numbers are wanted: save features as float32")
    if raw.ndim not in (2, 3):
        raise DataError(
            f"{source} has shape {raw.shape} where (clips, width) or (clips, crops, width) is wanted: reshape it"
        )
    if 0 in raw.shape:
        raise DataError(f"{source} is empty, with shape {raw.shape}: extract its features again or drop the row")
    return raw


def averaged(source: Source) -> NDArray[np.float32]:
    """The clips of one video (T, D) in float32, crops averaged; DataError where a number is not finite."""
    raw = load(source)
    if raw.ndim == 3:
        # Half precision is summed in float32, double in double.
        raw = raw.mean(axis=1, dtype=np.promote_types(raw.dtype, np.float32))
    with np.errstate(over="ignore"):
        clips = np.ascontiguousarray(raw, dtype=np.float32)
    finite = np.isfinite(clips)
    if not finite.all():
        first = int(np.argmin(finite.all(axis=1)))
        raise DataError(
            f"{source} has NaN or infinite features, first in clip {first}: extract its features again or drop the row"
        )
    return clips
