"""RG: rhythmic gymnastics with ball, clubs, hoop or ribbon, features of 68 clips, in either form of its files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example, read_rows, scaled
from mag2.data.layouts import Layouts
from mag2.data.performances import Dataset
from mag2.data.reading import Locations
from mag2.data.simulatable import MARK_NOISE, ScoreSheet, SimulatableSpec, by_rank, noisy
from mag2.data.spec import published_scales
from mag2.data.writing import write_pickled, write_rows, write_videos

__all__ = ["RG", "read_rg"]

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
    video: Locations = (FILES["visual"], FOLDERS["visual"]),
    audio: Locations | None = (FILES["audio"], FOLDERS["audio"]),
    flow: Locations | None = (FILES["flow"], FOLDERS["flow"]),
    vision_language: Locations | None = (FILES["vision_language"], FOLDERS["vision_language"]),
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read the routines of RG with one apparatus from its released files; the target is their total score.

    Features of a modality are one pickled dict for each apparatus, name -> (T, D), or a folder of `<name>.npy` for
    all four; a name is the apparatus and a number, `Ball_001`. An array may be (T, K, D), K views of each clip that
    are averaged. A label file has the rows of all four apparatuses, with the columns name difficulty execution total
    and an optional header line. A pickle with anything but arrays and plain values is refused. See `DatasetSpec.read`
    for the order of checks and the store.

    Args:
        folder: contains the label files and the features, unless other paths are given.
        apparatus: Ball, Clubs, Hoop or Ribbon.
        clips: T, the length of every crop; 68 as released.
        train, test: label files of the two splits, relative to `folder` or absolute. In these and the following paths
            "{apparatus}" is replaced by the apparatus.
        video, audio, flow: file or folder of the features of a modality, relative to `folder` or absolute; or several,
            of which the first that exists is read. None leaves audio or flow out; flow that does not exist is left out.
        vision_language: the same for features of the same clips in the space of a text encoder such as CLIP's (our
            addition); left out where they do not exist.
        cache: folder of the store; by default `<folder>/.mag2-cache` or, where that cannot be written, a
            folder of the user's cache (`$XDG_CACHE_HOME` or `~/.cache`).
        progress: called with the number of videos that are ready, counted for each modality, and their total.

    Returns:
        The `Dataset`.

    Raises:
        DataError: one sentence that names the file and, if there is one, the line.
    """
    files = {"train": train, "test": test}
    features = {"visual": video, "audio": audio, "flow": flow, "vision_language": vision_language}
    return RG().read(
        folder, apparatus, clips=clips, label_files=files, features=features, cache=cache, progress=progress
    )


class RG(SimulatableSpec):
    """The dataset RG; its targets are the apparatuses, each with videos of its own.

    In a simulation of it the technical quality is the difficulty and the component quality the execution.
    """

    name = "RG"
    sport = "rhythmic_gymnastics"
    scales: ClassVar = published_scales("RG")
    clips = 68
    label_files: ClassVar = {"train": TRAIN, "test": TEST}
    features: ClassVar = {modality: (FILES[modality], FOLDERS[modality]) for modality in FILES}
    layouts: ClassVar = Layouts(
        (
            "train.txt and test.txt beside {Ball,Clubs,Hoop,Ribbon}_{rgb_VST,audio_AST,flow_I3D}.npy or beside "
            "video/<name>.npy and audio/<name>.npy",
            "PAMFN's data folder: RG/train.txt, RG/test.txt and features/{Ball,...}_{rgb_VST,audio_AST,flow_I3D}.npy",
            "GDLT's, CoFInAl's or QTD's: train.txt and test.txt beside swintx_avg_fps25_clip32/<name>.npy, video alone",
        ),
        features={modality: (f"../features/{file}",) for modality, file in FILES.items()},
    )
    length = (60, 76)
    # Of VST, AST and I3D features: the widths at which PAMFN has the parameter totals of its released code.
    widths: ClassVar = {"visual": 1024, "audio": 768, "flow": 1024}
    variants = ("dict", "files")

    def path_of(self, pattern: str | Path, target: str) -> str:
        """The path with "{apparatus}" replaced."""
        return str(pattern).replace("{apparatus}", target)

    def store_name(self, target: str) -> str:
        """The four apparatuses share folders, so each needs stores of its own."""
        return f"rg-{target.lower()}"

    def read_labels(self, files: Mapping[str, Path], target: str) -> tuple[list[Example], list[Example]]:
        """The labelled routines of train and of test with one apparatus."""
        return self._examples(files["train"], target), self._examples(files["test"], target)

    def judge(self, technical: NDArray, component: NDArray, train: int, rng: np.random.Generator) -> ScoreSheet:
        """Give the performances to the apparatuses in turn, and score them."""
        n = len(self.targets)
        if min(train, len(technical) - train) < n:
            raise ValueError(
                f"{self.name} wants {n} or more videos in train and test, one for each apparatus, "
                f"got {train} and {len(technical) - train}"
            )
        difficulty = by_rank(technical, DIFFICULTY_RANGE)
        execution = by_rank(noisy(component, MARK_NOISE, rng), EXECUTION_RANGE)
        total = [round(d + e, 2) for d, e in zip(difficulty, execution, strict=True)]
        names = [f"{self.targets[i % n]}_{i // n + 1:03d}" for i in range(len(technical))]
        return ScoreSheet(names, {"difficulty": difficulty, "execution": execution, "total": total})

    def videos(self, sheet: ScoreSheet, target: str) -> list[int]:
        """The videos with the apparatus."""
        return [i for i, name in enumerate(sheet.names) if _apparatus(name) == target]

    def label(self, sheet: ScoreSheet, target: str, video: int, where: str) -> float:
        """The label of a video."""
        return scaled(sheet.scores["total"][video], self.scales[target], meaning="total", where=where)

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
        # Tabs and a header, as in the released files: QTD's loader splits at tabs alone.
        write_rows(folder / TRAIN, [COLUMNS, *rows[:train]], separator="\t")
        write_rows(folder / TEST, [COLUMNS, *rows[train:]], separator="\t")
        for modality, part in features.items():
            if variant == "files":
                videos = (part.video(i).numpy() for i in range(len(part)))
                write_videos(folder / FOLDERS[modality], sheet.names, videos)
                continue
            for apparatus in self.targets:
                chosen = self.videos(sheet, apparatus)
                names = [sheet.names[i] for i in chosen]
                file = folder / self.path_of(FILES[modality], apparatus)
                write_pickled(file, names, (part.video(i).numpy() for i in chosen))

    def _examples(self, path: Path, apparatus: str) -> list[Example]:
        examples = []
        for row in read_rows(path, optional_header=True):
            row.require_columns(COLUMNS)
            name = row.fields[0]
            if _apparatus(name) not in self.targets:
                raise DataError(f"{row.where} names {name!r}: a name begins with {'_, '.join(self.targets)}_")
            scores = {column: row.number(i, column) for i, column in enumerate(COLUMNS) if i > 0}
            if _apparatus(name) == apparatus:
                label = scaled(scores["total"], self.scales[apparatus], meaning="total", where=row.where)
                examples.append(Example(name, label, row.where))
        if not examples:
            raise DataError(f"the label file {path} has no rows of {apparatus}: one row per routine is wanted")
        return examples


def _apparatus(name: str) -> str:
    return name.partition("_")[0]
