"""Ragged clip features: many videos of different length in one array."""

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mag2.data.buffer_pool import BufferPool

__all__ = [
    "MODALITIES",
    "VISION_LANGUAGE",
    "ClipFeatures",
    "Crops",
    "FeatureDigest",
    "concatenated_digest",
    "spread",
    "whole_numbers",
]

MODALITIES = ("visual", "audio", "flow")
# Clips in the space of a text encoder: no model scores them. They give the similarity of clips and action texts.
VISION_LANGUAGE = "vision_language"


class ClipFeatures:
    """The features of one modality for many videos, one row per clip.

    The rows may be a read-only memory map: only the rows of a batch are read, and never written.

    Shapes:
        data (sum T, D) float32; offsets (n + 1,) integers, video i being rows offsets[i] to offsets[i + 1].

    Args:
        data: the rows, an array or a memory map.
        offsets: where each video begins, and where the last one ends.
        digest: the hash of the content, if it was computed before; otherwise it is computed on first use.

    Raises:
        ValueError: the array is no float32 matrix; or the offsets do not begin at 0, decrease, or do not end at its
            number of rows.
    """

    def __init__(self, data: NDArray[np.float32], offsets: ArrayLike, *, digest: str | None = None):
        offsets = np.asarray(offsets, dtype=np.int64)
        if data.ndim != 2 or data.dtype != np.float32:
            raise ValueError(f"ClipFeatures wants float32 rows (sum T, D), got {data.dtype} {data.shape}")
        if offsets.ndim != 1 or len(offsets) < 1 or offsets[0] < 0 or offsets[-1] > len(data):
            raise ValueError(f"ClipFeatures wants offsets (n + 1,) within its {len(data)} rows")
        self.lengths: NDArray[np.int64] = np.diff(offsets)
        if (self.lengths < 1).any():
            raise ValueError(f"ClipFeatures wants one clip or more per video, got {self.lengths.min()}")
        self._data = _shared(data)
        self._begins = offsets[:-1]
        self._digest = digest
        self._cut_from: tuple[ClipFeatures, int, int] | None = None
        self._pool = BufferPool()

    @classmethod
    def stack(cls, videos: Sequence[ArrayLike]) -> "ClipFeatures":
        """The features of videos given one by one, each (T_i, D); they are copied into one float32 array.

        Raises:
            ValueError: videos of different widths or other shapes, or values that are no real numbers.
        """
        given = [np.asarray(video) for video in videos]
        odd = next((array.dtype for array in given if array.dtype.kind not in "fiu"), None)
        if odd is not None:
            raise ValueError(f"ClipFeatures.stack wants real numbers, got {odd!s:.40}")
        arrays = [array.astype(np.float32, copy=False) for array in given]
        widths = {array.shape[1:] for array in arrays}
        if len(widths) != 1 or len(next(iter(widths))) != 1:
            raise ValueError(f"ClipFeatures.stack wants videos (T_i, D) of one width D, got {sorted(widths)}")
        return cls(np.concatenate(arrays), np.cumsum([0] + [len(array) for array in arrays]))

    @classmethod
    def joined(cls, parts: Sequence["ClipFeatures"]) -> "ClipFeatures":
        """Return the videos of all parts, one part after the other.

        Rows that all parts share are not copied; otherwise they are copied.

        Raises:
            ValueError: parts of different width.
        """
        if all(part._data is parts[0]._data for part in parts):
            begins, lengths = (np.concatenate([getattr(p, name) for p in parts]) for name in ("_begins", "lengths"))
            return parts[0]._view(begins, lengths)
        return cls.stack([part._rows(video).numpy() for part in parts for video in range(len(part))])

    @staticmethod
    def joined_digest(first: "ClipFeatures", second: "ClipFeatures") -> str:
        """Return the digest of the videos of `first`, then `second`; it is not computed again where it is known."""
        if first._cut_from is not None and second._cut_from is not None:
            (whole, begin, border), (other, begin_second, end) = first._cut_from, second._cut_from
            if whole is other and (begin, border, end) == (0, begin_second, len(whole)):
                return whole.digest
        digest = FeatureDigest()
        for part in (first, second):
            part._add_to(digest)
        return digest.text()

    def __len__(self) -> int:
        return len(self.lengths)

    def __repr__(self) -> str:
        return f"ClipFeatures({len(self)} videos of {spread(self.lengths)} clips, {self.width} wide)"

    @property
    def width(self) -> int:
        """D, the width of one clip's features."""
        return self._data.shape[1]

    @property
    def digest(self) -> str:
        """A hash of every number and every length; equal for equal features, in memory or on disk."""
        if self._digest is None:
            digest = FeatureDigest()
            self._add_to(digest)
            self._digest = digest.text()
        return self._digest

    def video(self, index: int) -> Tensor:
        """Return a copy of all clips (T_i, D) of the video number `index`."""
        _check_videos(np.asarray([index]), len(self))
        return self._rows(index).clone()

    def crop(self, index: Sequence[int] | Tensor, clips: int, starts: Sequence[int] | Tensor) -> Tensor:
        """Return `clips` clips of each video from its start on, with zeros where the video ends earlier.

        Shapes:
            index (B,) and starts (B,) integers; returns (B, clips, D) float32, a copy.

        Raises:
            ValueError: an index that is no video, a negative start, or not one start per video.
        """
        return self.take(Crops(self.lengths, index, clips, starts))

    def take(self, crops: "Crops") -> Tensor:
        """Return a copy of the clips (B, T, D) of some crops, which were made for videos of these lengths."""
        rows = (self._begins[crops.videos, None] + crops.positions).ravel()
        out = self._pool.empty(rows.size, self.width)
        # torch copies rows on all cores, numpy on one.
        torch.index_select(self._data, 0, torch.from_numpy(rows), out=out)
        out.index_fill_(0, crops.ended, 0)
        return rearrange(out, "(b t) d -> b t d", t=crops.positions.shape[1])

    def part(self, begin: int, end: int) -> "ClipFeatures":
        """Return the videos `begin` to `end` - 1; the rows are not copied."""
        view = self._view(self._begins[begin:end], self.lengths[begin:end])
        view._cut_from = (self, begin, end)
        return view

    def subset(self, index: NDArray[np.int64]) -> "ClipFeatures":
        """Return the videos `index` (m,) in this order; the rows are not copied."""
        _check_videos(index, len(self))
        return self._view(self._begins[index], self.lengths[index])

    def shortened(self, lengths: ArrayLike) -> "ClipFeatures":
        """Return the same videos, each cut after `lengths` (n,) clips; no length may be above that of its video."""
        lengths = np.asarray(lengths, dtype=np.int64)
        if lengths.shape != self.lengths.shape or (lengths < 1).any() or (lengths > self.lengths).any():
            raise ValueError("shortened wants one length per video, from 1 to the length it has")
        return self._view(self._begins, lengths)

    def _view(self, begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> "ClipFeatures":
        view = object.__new__(ClipFeatures)
        view._data, view._begins, view.lengths, view._digest = self._data, begins, lengths, None
        view._cut_from = None
        view._pool = BufferPool()
        return view

    def _add_to(self, digest: "FeatureDigest") -> None:
        for video in range(len(self)):
            digest.add(self._rows(video).numpy())

    def _rows(self, index: int) -> Tensor:
        return self._data[self._begins[index] : self._begins[index] + self.lengths[index]]


class Crops:
    """The clips of a batch of crops, for use in several modalities of videos that have equal lengths in all of them.

    Attributes:
        videos: (B,) the videos.
        positions: (B, T) the crops' clips, counted within their video; its last clip where it has ended.
        ended: which of the B * T clips are past the end of their video.

    Args:
        lengths: (n,) numbers of clips of all videos.
        index: (B,) numbers of the videos to crop.
        clips: T.
        starts: (B,) the first clip of each crop.

    Raises:
        ValueError: as `ClipFeatures.crop`.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        index: Sequence[int] | Tensor | NDArray[np.int64],
        clips: int,
        starts: Sequence[int] | Tensor | NDArray[np.int64],
    ):
        self.videos, begins = whole_numbers(index), whole_numbers(starts)
        if clips < 1:
            raise ValueError(f"clips is the length of a crop, 1 or more, got {clips}")
        _check_videos(self.videos, len(lengths))
        if begins.shape != self.videos.shape or (begins < 0).any():
            raise ValueError(
                f"crop wants one start from 0 up for each of {len(self.videos)} videos, got {begins.tolist()}"
            )
        last = lengths[self.videos, None] - 1
        positions = begins[:, None] + np.arange(clips)
        self.positions: NDArray[np.int64] = np.minimum(positions, last)
        self.ended = torch.from_numpy(np.flatnonzero(positions > last))


class FeatureDigest:
    """Computes the hash of features that are added one video at a time."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, video: NDArray[np.float32]) -> None:
        """Add one video (T, D)."""
        self._hash.update(f"{video.shape}".encode())
        self._hash.update(np.ascontiguousarray(video, dtype="<f4").data)

    def text(self) -> str:
        """The hash of the videos so far, in hexadecimal."""
        return self._hash.hexdigest()


def concatenated_digest(parts: Sequence[str]) -> str:
    """One hash of several texts; two different lists give different hashes."""
    hash_ = hashlib.blake2b(digest_size=16)
    for part in parts:
        hash_.update(f"{len(part)}:{part}".encode())
    return hash_.hexdigest()


def spread(numbers: ArrayLike) -> str:
    """Return the smallest and the largest number in words, "12 to 40"; "none" without numbers."""
    array = np.asarray(numbers)
    if not array.size:
        return "none"
    low, high = array.min(), array.max()
    return f"{low}" if low == high else f"{low} to {high}"


def whole_numbers(values: Sequence[int] | Tensor | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return whole numbers as an array; ValueError for anything else, floats and truth values included."""
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"a list of whole numbers is wanted, got {array.dtype} of shape {array.shape}")
    return array.astype(np.int64, copy=False)


def _shared(data: NDArray[np.float32]) -> Tensor:
    """The rows as a tensor of the same memory, which is only read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        try:
            return torch.from_numpy(np.asarray(data))
        except ValueError:  # a view that runs backwards, for example
            return torch.from_numpy(np.array(data, order="C"))


def _check_videos(index: NDArray[np.int64], count: int) -> None:
    if ((index < 0) | (index >= count)).any():
        raise ValueError(f"there are videos 0 to {count - 1} here, got {index.tolist()}")
