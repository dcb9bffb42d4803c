"""Features of videos: decode, encode, write, one video after the other."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mag2.extraction.clips import Clips, expected_clips
from mag2.extraction.encoder import PRECISIONS, Encoder, FeatureFunction, as_encoder
from mag2.extraction.faults import VideoError, needed
from mag2.extraction.loading import load_encoder
from mag2.extraction.manifest import FOLDERS, Manifest, settings_of
from mag2.extraction.names import named_videos
from mag2.extraction.sound import has_sound
from mag2.extraction.timing import Timing
from mag2.nn.devices import checked_device
from mag2.saving.atomic_io import alone_in, remove_leftovers
from mag2.saving.places import check_folder_place, make_folder

__all__ = ["DTYPES", "NO_SOUND", "Extracted", "extract"]

DTYPES = ("float32", "float16")
NO_SOUND = ("skip", "silence")

_Path = str | os.PathLike[str]
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Extracted:
    """The result of `extract` for one video.

    Attributes:
        name: of the video, and of its files.
        clips: T, its number of clips; 0 if it could not be read.
        made: the files that this call wrote, by modality; empty if an earlier call had written them.
        notes: a sentence for everything unusual about the video, with what was done.
        fault: the reason why it could not be read, one sentence; None if it could be read.
    """

    name: str
    clips: int
    made: Mapping[str, Path]
    notes: Sequence[str] = ()
    fault: str | None = None


def extract(
    video: _Path | Sequence[_Path] | Mapping[str, _Path],
    folder: _Path,
    *,
    visual: str | FeatureFunction | None = "swin3d_b",
    audio: str | FeatureFunction | None = "ast",
    vision_language: str | FeatureFunction | None = None,
    frames: int = 32,
    fps: float | Fraction = 25,
    last: str = "drop",
    image_frames: int | None = None,
    no_sound: str = "skip",
    dtype: str = "float32",
    device: str | torch.device = "cpu",
    precision: str = "float32",
    batch: int = 4,
    stop_at_fault: bool = True,
    report: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Extracted]:
    """Compute features of videos, in files that the loaders of `mag2.data` read.

    It writes `<folder>/video/<name>.npy`, `<folder>/audio/<name>.npy` and `<folder>/vision_language/<name>.npy`, each
    (T, D) with T clips, and `<folder>/extraction.json`, which records how they were made. Files are written atomically.
    If a call is killed, the same call continues; a finished video is computed again only if its file has changed.

    Clip k covers the seconds k * frames / fps to (k + 1) * frames / fps, counted from the first picture. Each frame of
    a clip is the picture that a player would show at that time, for any frame rate of the video; the sound of a clip
    covers exactly the clip's time. Memory does not grow with the length of the video, except for its features.

    An encoder is a name or a function. A function for pictures takes (B, F, H, W, 3) uint8; a function for sound takes
    (B, S) float32 in [-1, 1] at 16 kHz. Both return (B, D), a tensor or an array. The function may have these
    attributes: `name`, for `extraction.json`; `frames`, the number of pictures of a clip, spread evenly; `prepare`, a
    function that is called with each picture (H, W, 3) when it is decoded; `rate`, the samples per second. A module is
    moved to the device and set to evaluation mode.

    Args:
        video: a path, several paths, or a mapping from names to paths. Without a mapping the name of a video is that of
            its file without the ending. A folder means all videos in it.
        folder: the folder to write to; made if it does not exist.
        visual: `swin3d_b` (D = 1024), `swin3d_s`, `swin3d_t` (768), `s3d` (1024), `timesformer` (768), an image tower
            as for `vision_language`, or a function; None for no visual features. `<name>:<weights>` uses other weights
            than the published ones: a tag, a local file, or `random:<seed>`.
        audio: `ast` (D = 768), a function, or None.
        vision_language: `open_clip:<model>/<weights>`, whose image features are averaged over the frames of the clip
            and are in the space of the text encoder of that name; a function, or None.
        frames: number of frames of a clip; 32 as in the released Video Swin features.
        fps: frames of a clip per second; 25 as in these features.
        last: the end of a video that does not fill a clip: "drop" leaves it out; "pad" fills the clip with the last
            picture, and with silence where the sound has ended.
        image_frames: number of frames of a clip for an image tower, spread evenly; all by default.
        no_sound: for a video without sound: "skip" writes no audio features, "silence" writes features of silence.
        dtype: of the numbers in the files, float32 or float16.
        device: the device that the encoders run on.
        precision: precision of the encoders: float32, or bfloat16 or float16 by autocast.
        batch: number of clips of a video that are encoded together; it changes features by rounding errors alone.
        stop_at_fault: True raises an error at the first video that cannot be read. False continues with the other
            videos, and the `Extracted` of that video has its fault.
        report: called with every note and fault, a sentence each; by default each is a warning.
        progress: called with the number of clips that are done and the number that is expected in all.

    Returns:
        One `Extracted` for each video, in the given order.

    Raises:
        VideoError: a video cannot be read, with `stop_at_fault`.
        ValueError: an argument, name or encoder that is not possible, a package that is missing, or a folder with
            features that were made with other settings.
        DiskFullError: the disk is full; after files are deleted the same call continues.
    """
    needed("av")
    videos = named_videos(video)
    timing = Timing(frames, fps, last)
    _check(dtype=(dtype, DTYPES), precision=(precision, tuple(PRECISIONS)), no_sound=(no_sound, NO_SOUND))
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch is the number of clips that are encoded at a time, 1 or more, got {batch!r}")
    place = checked_device(device)
    out = Path(folder)
    check_folder_place(out, " for the features")
    given = {"visual": visual, "audio": audio, "vision_language": vision_language}
    if not any(encoder is not None for encoder in given.values()):
        raise ValueError("there is no encoder; give visual, audio or vision_language")
    encoders = {
        key: as_encoder(
            key,
            load_encoder(key, encoder, image_frames=image_frames) if isinstance(encoder, str) else encoder,
            place,
            timing,
        )
        for key, encoder in given.items()
        if encoder is not None
    }
    say = _warn if report is None else report
    for key, encoder in encoders.items():
        if encoder.random:
            say(f"the {key} encoder has random weights ({encoder.source}): its features mean nothing")
    make_folder(out, " for the features")
    work = _Work(timing, dtype, place, precision, batch, no_sound)
    with alone_in(out):
        for kept in (out, *(out / place for place in FOLDERS.values())):
            remove_leftovers(kept)
        settings = settings_of(encoders, timing, dtype, precision, no_sound)
        manifest = Manifest(out, settings, {FOLDERS[key]: encoder.source for key, encoder in encoders.items()})
        return _extract_all(videos, encoders, manifest, work, stop_at_fault, say, progress)


@dataclass(frozen=True)
class _Work:
    """The settings that are the same for every video."""

    timing: Timing
    dtype: str
    device: torch.device
    precision: str
    batch: int
    no_sound: str


def _extract_all(
    videos: Mapping[str, Path],
    encoders: Mapping[str, Encoder],
    manifest: Manifest,
    work: _Work,
    stop_at_fault: bool,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] | None,
) -> list[Extracted]:
    tally = _Tally(videos, work.timing, progress)
    results = []
    for name, path in videos.items():
        try:
            result = _extract_one(name, path, encoders, manifest, work, tally)
        except VideoError as fault:
            if stop_at_fault:
                raise
            result = Extracted(name, 0, {}, fault=str(fault))
        tally.finish(name, result.clips)
        if result.made:
            for note in result.notes:
                say(f"{path}: {note}")
        if result.fault is not None:
            say(result.fault)
        results.append(result)
    return results


def _extract_one(
    name: str, path: Path, encoders: Mapping[str, Encoder], manifest: Manifest, work: _Work, tally: "_Tally"
) -> Extracted:
    if not path.is_file():
        raise VideoError(f"there is no video {path}: give the path of a file")
    keys = {FOLDERS[key]: key for key in encoders}
    missing = {keys[place] for place in manifest.missing(name, path, list(keys))}
    if not missing:
        return Extracted(name, manifest.clips(name), {}, tuple(manifest.notes(name)))
    chosen = {key: encoder for key, encoder in encoders.items() if key in missing}
    notes = []
    silent = "audio" in chosen and not has_sound(path)
    if silent and work.no_sound == "skip":
        notes.append("it has no sound; no audio features were written")
        del chosen["audio"]
        if not chosen and len(encoders) == 1:
            raise VideoError(f"{path} has no sound: choose no_sound='silence', or leave it out")
    elif silent:
        notes.append("it has no sound; its audio features are those of silence")
    manifest.begin(name, path)
    rows: dict[str, NDArray[Any]] = {}
    if chosen:
        clips = Clips(path, work.timing, chosen, silent=silent)
        rows = _features(clips, work, tally)
        notes = clips.notes + notes
    skipped = FOLDERS["audio"] if silent and "audio" not in chosen else None
    manifest.write(name, {FOLDERS[key]: part for key, part in rows.items()}, skipped, notes)
    made = {key: manifest.folder / FOLDERS[key] / f"{name}.npy" for key in rows}
    return Extracted(name, manifest.clips(name), made, tuple(notes))


def _features(clips: Clips, work: _Work, tally: "_Tally") -> dict[str, NDArray[Any]]:
    """The features (T, D) of a video by modality. The next batch is decoded while one is encoded."""
    rows: dict[str, list[NDArray[np.float32]]] = {key: [] for key in clips.encoders}
    with closing(clips.__iter__()) as read, ThreadPoolExecutor(1) as decoder:
        batches = _batches(read, work.batch)
        coming = decoder.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = decoder.submit(next, batches, None)
            for key, encoder in clips.encoders.items():
                rows[key].append(_encoded(encoder, [clip[key] for clip in batch], clips.path, work))
            tally.add(len(batch))
    features = {key: np.concatenate(parts) for key, parts in rows.items()}
    for key, part in features.items():
        largest = float(np.abs(part).max())
        if largest > float(np.finfo(work.dtype).max):
            raise ValueError(f"{key} features of {clips.path} reach {largest:.3g}, too large for {work.dtype}")
    return {key: part.astype(work.dtype) for key, part in features.items()}


def _encoded(encoder: Encoder, parts: list[torch.Tensor], path: Path, work: _Work) -> NDArray[np.float32]:
    try:
        return encoder.features(torch.stack(parts), work.device, work.precision)
    except torch.OutOfMemoryError:
        raise ValueError(
            f"{len(parts)} clips of {path} do not fit into the memory of {work.device}; choose a smaller batch"
        ) from None


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    items = iter(items)
    while part := list(islice(items, size)):
        yield part


class _Tally:
    """Counts the clips that are done, for `progress`."""

    def __init__(self, videos: Mapping[str, Path], timing: Timing, progress: Callable[[int, int], None] | None):
        self._progress = progress
        self._expected = {} if progress is None else {n: expected_clips(path, timing) for n, path in videos.items()}
        self._done: dict[str, int] = {}
        self._now = 0

    def add(self, clips: int) -> None:
        """Count clips of the video that is being read."""
        self._now += clips
        self._report()

    def finish(self, name: str, clips: int) -> None:
        """Count a video as done with so many clips."""
        self._done[name], self._now = clips, 0
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            done = sum(self._done.values()) + self._now
            self._progress(done, max(done, sum({**self._expected, **self._done}.values())))


def _check(**arguments: tuple[str, tuple[str, ...]]) -> None:
    for name, (value, choices) in arguments.items():
        if value not in choices:
            raise ValueError(f"{name} is {' or '.join(map(repr, choices))}, got {value!r}")


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=4)
