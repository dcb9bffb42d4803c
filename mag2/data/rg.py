"""RG: rhythmic gymnastics with ball, clubs, hoop or ribbon, features of 68 clips in either of the released layouts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example, scaled, want_unique_names
from mag2.data.layout import MARK_NOISE, Layout, ScoreSheet, by_rank, noisy, write_pickled, write_rows, write_videos
from mag2.data.performances import Dataset, assemble
from mag2.data.reading import (
    Places,
    find_features,
    is_simulated,
    labelled_rows,
    read_features,
    want_folder,
    want_target,
)
from mag2.data.targets import SCALES, TARGETS

NAME = "RG"
APPARATUS = TARGETS[NAME]
COLUMNS = ("name", "difficulty", "execution", "total")
TRAIN, TEST = "train.txt", "test.txt"
FILES = {
    "visual": "{apparatus}_rgb_VST.npy",
    "audio": "{apparatus}_audio_AST.npy",
    "flow": "{apparatus}_flow_I3D.npy",
    "vision_language": "{apparatus}_vision_language.npy",
}
FOLDERS = {"visual": "video", "audio": "audio", "flow": "flow", "vision_language": "vision_language"}

# Invented: totals lie well within their scale of 25. low + (high - low) Beta(a, b).
DIFFICULTY_RANGE = (2.0, 13.0, 2.6, 2.8)
EXECUTION_RANGE = (3.5, 9.7, 4.0, 2.6)


def read_rg(
    folder: str | Path,
    apparatus: str,
    *,
    clips: int = 68,
    train: str | Path = TRAIN,
    test: str | Path = TEST,
    video: Places = (FILES["visual"], FOLDERS["visual"]),
    audio: Places | None = (FILES["audio"], FOLDERS["audio"]),
    flow: Places | None = (FILES["flow"], FOLDERS["flow"]),
    vision_language: Places | None = (FILES["vision_language"], FOLDERS["vision_language"]),
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read the routines of RG with one apparatus from its released files; the target is their total score.

    Features of a modality are one pickled dict for each apparatus, name -> (T, D), or a folder of `<name>.npy` for
    all four; a name is the apparatus and a number, `Ball_001`. An array may be (T, K, D), K crops that are averaged.
    A label file holds the rows of all four apparatuses, below a header line, with the columns name difficulty
    execution total; a file without the header is read as well. Labels are checked before any feature is read.
    Features are read once, into a store that later calls map into memory. A pickle that asks for anything but
    arrays and plain values is refused.

    Args:
        folder: holds the label files and the features, unless said otherwise.
        apparatus: Ball, Clubs, Hoop or Ribbon.
        clips: the length of every crop; 68 as released.
        train: the label file of the training split, relative to `folder` or absolute; `test` likewise. In these and
            in the following, "{apparatus}" stands for the apparatus.
        video: file or folder of the visual features, relative to `folder` or absolute, or several of which the first
            that is there is taken; `audio` and `flow` likewise, and `vision_language`, the same clips in the space
            of a text encoder such as CLIP's (ours). None leaves one of these out; flow and vision_language that
            are not there are left out as well.
        cache: folder of the store; by default `<folder>/.mag2-cache` or, where that cannot be written, a
            folder of the user's cache (`$XDG_CACHE_HOME` or `~/.cache`).
        progress: called with the number of videos that are ready, counted for each modality, and their total.

    Raises:
        DataError: one sentence naming the file and, where there is one, the line at fault.
    """
    folder = Path(folder)
    want_target(NAME, apparatus)
    train, test = (_named(str(labels), apparatus) for labels in (train, test))
    want_folder(folder, train, test)
    splits = [_examples(folder / labels, apparatus) for labels in (train, test)]
    want_unique_names(*splits)
    modalities = {"visual": video, "audio": audio, "flow": flow, "vision_language": vision_language}
    places = find_features(folder, {key: _for(apparatus, given) for key, given in modalities.items()})
    # The four apparatuses share folders, so each needs stores of its own.
    stem = f"rg-{apparatus.lower()}"
    return assemble(
        NAME,
        apparatus,
        scale=SCALES[NAME][apparatus],
        clips=clips,
        train=splits[0],
        test=splits[1],
        features=read_features(folder, places, [*splits[0], *splits[1]], stem=stem, cache=cache, progress=progress),
        simulated=is_simulated(folder, [train, test, *places.values()]),
    )


class RG(Layout):
    """RG for the simulator: the technical quality is the difficulty, the component quality the execution."""

    name = NAME
    sport = "rhythmic_gymnastics"
    clips = 68
    length = (60, 76)
    # Of VST, AST and I3D features: the widths at which PAMFN has the parameter totals of its released code.
    widths: ClassVar = {"visual": 1024, "audio": 768, "flow": 1024}
    variants = ("dict", "files")
    read = staticmethod(read_rg)
    places = (
        *(file.format(apparatus=apparatus) for apparatus in APPARATUS for file in FILES.values()),
        *FOLDERS.values(),
    )

    def judge(self, technical: NDArray, component: NDArray, train: int, rng: np.random.Generator) -> ScoreSheet:
        """Deal the performances out to the apparatuses in turn, and score them."""
        if min(train, len(technical) - train) < len(APPARATUS):
            raise ValueError(
                f"{NAME} wants {len(APPARATUS)} or more videos in train and test, one for each apparatus, "
                f"got {train} and {len(technical) - train}"
            )
        difficulty = by_rank(technical, DIFFICULTY_RANGE)
        execution = by_rank(noisy(component, MARK_NOISE, rng), EXECUTION_RANGE)
        total = [round(d + e, 2) for d, e in zip(difficulty, execution, strict=True)]
        names = [f"{APPARATUS[i % 4]}_{i // 4 + 1:03d}" for i in range(len(technical))]
        return ScoreSheet(names, {"difficulty": difficulty, "execution": execution, "total": total})

    def videos(self, sheet: ScoreSheet, target: str) -> list[int]:
        """The videos with the apparatus."""
        return [i for i, name in enumerate(sheet.names) if _apparatus(name) == target]

    def label(self, sheet: ScoreSheet, target: str, video: int, where: str) -> float:
        """The label of a video."""
        return scaled(sheet.scores["total"][video], SCALES[NAME][target], meaning="total", where=where)

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
        """Write the label files, and per modality one dict for each apparatus or one folder of files."""
        # repr is the shortest text that parses back to the same float.
        rows = [
            [name, *(repr(sheet.scores[column][i]) for column in COLUMNS[1:])] for i, name in enumerate(sheet.names)
        ]
        write_rows(folder / TRAIN, [COLUMNS, *rows[:train]])
        write_rows(folder / TEST, [COLUMNS, *rows[train:]])
        for key, part in features.items():
            if variant == "files":
                write_videos(folder / FOLDERS[key], sheet.names, (part.video(i).numpy() for i in range(len(part))))
                continue
            for apparatus in APPARATUS:
                chosen = self.videos(sheet, apparatus)
                names = [sheet.names[i] for i in chosen]
                write_pickled(folder / _named(FILES[key], apparatus), names, (part.video(i).numpy() for i in chosen))


def _examples(path: Path, apparatus: str) -> list[Example]:
    examples = []
    for row in labelled_rows(path):
        row.want(COLUMNS)
        name = row.cells[0]
        if _apparatus(name) not in APPARATUS:
            raise DataError(f"{row.where} names {name!r}: a name begins with {'_, '.join(APPARATUS)}_")
        scores = {meaning: row.real(column, meaning) for column, meaning in enumerate(COLUMNS) if column > 0}
        if _apparatus(name) == apparatus:
            label = scaled(scores["total"], SCALES[NAME][apparatus], meaning="total", where=row.where)
            examples.append(Example(name, label, row.where))
    if not examples:
        raise DataError(f"the label file {path} has no rows of {apparatus}: one row per routine is wanted")
    return examples


def _apparatus(name: str) -> str:
    return name.partition("_")[0]


def _named(pattern: str, apparatus: str) -> str:
    return pattern.replace("{apparatus}", apparatus)


def _for(apparatus: str, places: Places | None) -> Places | None:
    if places is None or isinstance(places, str | Path):
        return places and _named(str(places), apparatus)
    return [_named(str(place), apparatus) for place in places]
