"""FS1000: figure skating, seven targets, features of 95 clips, in its released files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example, read_rows, scaled
from mag2.data.layouts import Layouts
from mag2.data.performances import Dataset
from mag2.data.simulatable import GRID, MARK_NOISE, ScoreSheet, SimulatableSpec, by_rank, noisy
from mag2.data.spec import published_scales
from mag2.data.writing import write_rows, write_videos

__all__ = ["FS1000", "read_fs1000", "read_scores"]

VERSIONS = ("fs1000_new", "fs1000", "fs800_new", "fs800")  # of the label files, the preferred one first
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
VIEWS = 15  # of a clip in the released visual features
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
    crops: str = "shortest",
) -> Dataset:
    """Read FS1000 for one target from its released files.

    Each video has a file `<video>/<name>.npy` (T, 768), or (T, K, 768) with K views of each clip that are averaged;
    `<audio>/<name>.npy` (T, 768); optionally `<flow>/<name>.npy` (T, 1024) or (T, K, 1024); and optionally
    `<vision_language>/<name>.npy` (T, D) or (T, K, D): the same clips in the space of a text encoder, such as CLIP's
    image features of K frames of a clip (our addition). Any other width is accepted if all videos have it.
    `train_fs1000_new.txt` and `val_fs1000_new.txt` have the columns name TES PCS SS TR PE CO IN factor, separated by
    tabs or blanks, and an optional header line. See `DatasetSpec.read` for the order of checks and the store.

    Args:
        folder: contains the label files and, unless other paths are given, the feature folders.
        target: TES, PCS, SS, TR, PE, CO or IN. PCS is divided by the factor of its row first (released code).
        clips: T, the length of every crop; 95 as released.
        video, audio: folders of the features, relative to `folder` or absolute.
        flow, vision_language: the same; with None, or where the folder does not exist, the batches have none.
        cache: folder of the store; by default `<folder>/.mag2-cache` or, where that cannot be written, a
            folder of the user's cache (`$XDG_CACHE_HOME` or `~/.cache`).
        progress: called with the number of feature files that are ready and their total.
        crops: for audio and video of different length: "shortest" cuts both to the shorter; "released" crops as MLAVL's
            loader does: the crop is placed by the length of the video, and the shorter modality is padded with zeros.

    Returns:
        The `Dataset`.

    Raises:
        DataError: one sentence that names the file and line.
        ValueError: `clips` below 1, or unknown `crops`.
    """
    features = {"visual": video, "audio": audio, "flow": flow, "vision_language": vision_language}
    return FS1000().read(folder, target, clips=clips, features=features, cache=cache, progress=progress, crops=crops)


class FS1000(SimulatableSpec):
    """The dataset FS1000. A simulation of it has TES, five component marks out of 10, and PCS, their sum."""

    name = "FS1000"
    sport = "figure_skating"
    scales: ClassVar = published_scales("FS1000")
    columns = ("name", *scales, "factor")
    clips = 95
    label_files: ClassVar = {"train": "train_fs1000_new.txt", "test": "val_fs1000_new.txt"}
    features: ClassVar = FOLDERS
    layouts: ClassVar = Layouts(
        (
            "train_fs1000_new.txt and val_fs1000_new.txt beside video/<name>.npy and audio/<name>.npy",
            "those files, or train_fs800.txt and val_fs800.txt, in one folder and, in two others of any name, video "
            "features (T, K, 768) and audio features (T, 768), as Skating-Mixer's repository has them",
        ),
        {
            "train": tuple(f"train_{version}.txt" for version in VERSIONS),
            "test": tuple(f"{split}_{version}.txt" for split in ("val", "test") for version in VERSIONS),
        },
    )
    length = (80, 110)
    widths: ClassVar = {"visual": 768, "audio": 768, "flow": 1024}
    variants = ("files", "K15")  # two views of every clip, or 15 as in the released features

    def read_labels(self, files: Mapping[str, Path], target: str) -> tuple[list[Example], list[Example]]:
        """The labelled videos of train and of test."""
        train, test = (read_scores(files[split], self.columns, self.scales, target) for split in ("train", "test"))
        return train, test

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
        return _label(self.scales, target, sheet.scores[target][video], sheet.scores["factor"][video], where=where)

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
        """Write the label files and one file per video and modality; visual ones have 2 or 15 views of every clip."""
        # repr is the shortest text that parses back to the same float.
        rows = [
            [name, *(repr(sheet.scores[column][i]) for column in self.columns[1:])]
            for i, name in enumerate(sheet.names)
        ]
        write_rows(folder / self.label_files["train"], rows[:train])
        write_rows(folder / self.label_files["test"], rows[train:])
        for modality, part in features.items():
            videos: Iterator[NDArray] = (part.video(i).numpy() for i in range(len(part)))
            if modality == "visual":
                videos = (_views(clips, VIEWS if variant == "K15" else 2, rng) for clips in videos)
            write_videos(folder / FOLDERS[modality], sheet.names, videos)


def read_scores(path: Path, columns: Sequence[str], scales: Mapping[str, float], target: str) -> list[Example]:
    """The labelled videos of a file with the columns name, scores, factor.

    Raises:
        DataError: one sentence naming the file and line at fault.
    """
    examples = []
    for row in read_rows(path, optional_header=True):
        row.require_columns(columns)
        values = {column: row.number(i, column) for i, column in enumerate(columns) if i > 0}
        if values["factor"] <= 0:
            raise DataError(f"{row.where} has the factor {values['factor']:g}: a factor is greater than zero")
        label = _label(scales, target, values[target], values["factor"], where=row.where)
        examples.append(Example(row.fields[0], label, row.where))
    return examples


def _label(scales: Mapping[str, float], target: str, score: float, factor: float, *, where: str) -> float:
    """The label in [0, 1] of a score as the label file gives it; PCS is divided by the factor first."""
    value = score / factor if target == "PCS" else score
    meaning = "PCS / factor" if target == "PCS" else target
    return scaled(value, scales[target], meaning=meaning, where=where)


def _views(clips: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Different views (T, K, D) of every clip, on the simulator's grid, with exactly the clip as their mean.

    They come in pairs that lie apart by as much to both sides; of an odd number the last one is the clip itself.
    """
    views = []
    for _ in range(count // 2):
        apart = np.rint(0.3 * GRID * rng.standard_normal(clips.shape, dtype=np.float32)) / np.float32(GRID)
        views += [clips + apart, clips - apart]
    return np.stack(views + [clips] * (count % 2), axis=1)
