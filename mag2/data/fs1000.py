"""FS1000: figure skating, seven targets, features of 95 clips in the released layout."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example, read_lines, scaled, want_unique_names
from mag2.data.layout import GRID, MARK_NOISE, Layout, ScoreSheet, by_rank, noisy, write_rows, write_videos
from mag2.data.performances import Dataset, assemble
from mag2.data.reading import find_features, is_simulated, read_features, want_folder, want_target
from mag2.data.targets import SCALES, TARGETS

NAME = "FS1000"
COLUMNS = ("name", *TARGETS[NAME], "factor")
TRAIN, TEST = "train_fs1000_new.txt", "val_fs1000_new.txt"
FOLDERS = {"visual": "video", "audio": "audio", "flow": "flow", "vision_language": "vision_language"}

# Invented, with what real competitions show in mind: scores lie well within their scales (TES 130, marks 10),
# TES has its tail upwards and marks theirs downwards. low + (high - low) Beta(a, b).
TES_RANGE = (18.0, 122.0, 2.2, 3.4)
MARK_RANGES = {
    "SS": (3.2, 9.8, 4.0, 2.6),
    "TR": (2.7, 9.7, 4.0, 2.6),
    "PE": (3.0, 9.9, 4.0, 2.6),
    "CO": (3.1, 9.9, 4.0, 2.6),
    "IN": (2.9, 9.9, 4.0, 2.6),
}
FACTORS = (0.8, 1.0, 1.6, 2.0)  # short programs and free skatings, of women and men


def read_fs1000(
    folder: str | Path,
    target: str,
    *,
    clips: int = 95,
    video: str | Path = "video",
    audio: str | Path = "audio",
    flow: str | Path | None = "flow",
    vision_language: str | Path | None = "vision_language",
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read FS1000 for one target from its released files.

    `<video>/<name>.npy` (T, K, 768), averaged over the K crops, or (T, 768); `<audio>/<name>.npy` (T, 768);
    `<flow>/<name>.npy` (T, K, 1024) or (T, 1024), optional; `<vision_language>/<name>.npy` (T, D) or (T, K, D), ours
    and optional: the same clips in the space of a text encoder, such as CLIP's image features of K frames of a clip.
    Any other width will do if all videos share it.
    `train_fs1000_new.txt` and `val_fs1000_new.txt` have the columns name TES PCS SS TR PE CO IN factor,
    without a header. Labels are checked before any feature is read. Features are read once, into a store
    that later calls map into memory; the store is rebuilt when a file changes.

    Args:
        folder: holds the label files and, unless said otherwise, the feature folders.
        target: TES, PCS, SS, TR, PE, CO or IN. PCS is divided by the factor of its row first.
        clips: the length of every crop; 95 as released.
        video: folder of the visual features, relative to `folder` or absolute; `audio`, `flow` and `vision_language`
            likewise. Without a flow folder, or with `flow=None`, the batches have no flow; so with `vision_language`.
        cache: folder of the store; by default `<folder>/.mag2-cache` or, where that cannot be written, a
            folder of the user's cache (`$XDG_CACHE_HOME` or `~/.cache`).
        progress: called with the number of feature files that are ready and their total.

    Raises:
        DataError: one sentence naming the file and line at fault.
    """
    folder = Path(folder)
    want_target(NAME, target)
    want_folder(folder, TRAIN, TEST)
    train, test = _examples(folder / TRAIN, target), _examples(folder / TEST, target)
    want_unique_names(train, test)
    modalities = {"visual": video, "audio": audio, "flow": flow, "vision_language": vision_language}
    places = find_features(folder, modalities)
    return assemble(
        NAME,
        target,
        scale=SCALES[NAME][target],
        clips=clips,
        train=train,
        test=test,
        features=read_features(folder, places, [*train, *test], stem="fs1000", cache=cache, progress=progress),
        simulated=is_simulated(folder, [TRAIN, TEST, *places.values()]),
    )


class FS1000(Layout):
    """FS1000 for the simulator: five marks out of 10 that see the components, PCS their sum, and TES."""

    name = NAME
    sport = "figure_skating"
    clips = 95
    length = (80, 110)
    widths: ClassVar = {"visual": 768, "audio": 768, "flow": 1024}
    read = staticmethod(read_fs1000)
    places = tuple(FOLDERS.values())

    def judge(self, technical: NDArray, component: NDArray, train: int, rng: np.random.Generator) -> ScoreSheet:
        """Score the performances."""
        marks = {key: by_rank(noisy(component, MARK_NOISE, rng), span) for key, span in MARK_RANGES.items()}
        factor = [float(value) for value in rng.choice(FACTORS, size=len(component))]
        # The judges' rule: the marks are summed, then multiplied by the factor of the program.
        pcs = [round(sum(mark) * f, 2) for mark, f in zip(zip(*marks.values(), strict=True), factor, strict=True)]
        scores = {"TES": by_rank(technical, TES_RANGE), "PCS": pcs, **marks, "factor": factor}
        return ScoreSheet([f"simulated_{i:04d}" for i in range(len(technical))], scores)

    def label(self, sheet: ScoreSheet, target: str, video: int, where: str) -> float:
        """The label of a video."""
        return _label(target, sheet.scores[target][video], sheet.scores["factor"][video], where=where)

    def write(
        self,
        folder: Path,
        sheet: ScoreSheet,
        features: Mapping[str, ClipFeatures],
        *,
        train: int,
        variant: str,
        rng: np.random.Generator,
    ) -> None:
        """Write the label files and one file per video and modality; visual ones have two crops for every clip."""
        # repr is the shortest text that parses back to the same float.
        rows = [
            [name, *(repr(sheet.scores[column][i]) for column in COLUMNS[1:])] for i, name in enumerate(sheet.names)
        ]
        write_rows(folder / TRAIN, rows[:train])
        write_rows(folder / TEST, rows[train:])
        for key, part in features.items():
            videos: Iterator[NDArray] = (part.video(i).numpy() for i in range(len(part)))
            if key == "visual":
                videos = (_two_crops(clips, rng) for clips in videos)
            write_videos(folder / FOLDERS[key], sheet.names, videos)


def _two_crops(clips: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Two different crops (T, 2, D) of every clip, on the simulator's grid, with exactly the clip as their mean."""
    apart = np.rint(0.3 * GRID * rng.standard_normal(clips.shape, dtype=np.float32)) / np.float32(GRID)
    return np.stack([clips + apart, clips - apart], axis=1)


def _label(target: str, score: float, factor: float, *, where: str) -> float:
    """The label in [0, 1] of a score as the label file gives it; PCS is divided by the factor first."""
    value = score / factor if target == "PCS" else score
    meaning = "PCS / factor" if target == "PCS" else target
    return scaled(value, SCALES[NAME][target], meaning=meaning, where=where)


def _examples(path: Path, target: str) -> list[Example]:
    examples = []
    for line in read_lines(path):
        line.want(COLUMNS)
        row = {meaning: line.real(column, meaning) for column, meaning in enumerate(COLUMNS) if column > 0}
        if row["factor"] <= 0:
            raise DataError(f"{line.where} has the factor {row['factor']:g}: a factor is greater than zero")
        label = _label(target, row[target], row["factor"], where=line.where)
        examples.append(Example(line.cells[0], label, line.where))
    return examples
