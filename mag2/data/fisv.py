"""Fis-V: figure skating, TES and PCS, features of 136 clips, in either form of its released files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example, LabelRow, read_rows, require_unique_names, scaled
from mag2.data.layouts import Layouts
from mag2.data.performances import Dataset
from mag2.data.reading import Locations
from mag2.data.simulatable import ScoreSheet, SimulatableSpec, by_rank, noisy
from mag2.data.spec import published_scales
from mag2.data.writing import write_pickled, write_rows, write_videos

__all__ = ["FisV", "read_fisv"]

COLUMNS = ("number", "TES", "PCS", "deduction")
TRAIN, TEST = "train.txt", "test.txt"
FILES = {
    "visual": "FISV_rgb_VST.npy",
    "audio": "FISV_audio_AST.npy",
    "flow": "FISV_flow_I3D.npy",
    "vision_language": "FISV_vision_language.npy",
}
FOLDERS = {"visual": "video", "audio": "audio", "flow": "flow", "vision_language": "vision_language"}

# low + (high - low) Beta(a, b), with the mean and the spread of the real scores: TES 29.7 and 6.4, PCS 27.1 and 5.3.
TES_RANGE = (5.0, 45.0, 5.0, 3.1)
PCS_RANGE = (9.0, 40.0, 4.3, 3.1)
PCS_NOISE = 0.13  # as the sum of five marks has, each with its own noise of 0.3
DEDUCTIONS, SHARES = (0.0, 1.0, 2.0), (0.76, 0.2, 0.04)  # a point for every fall, as often as in the real files
RUN = 10  # videos with neighbouring real TES, among which real PCS decides


def read_fisv(
    folder: str | Path,
    target: str,
    *,
    clips: int = 136,
    train: str | Path = TRAIN,
    test: str | Path = TEST,
    video: Locations = (FILES["visual"], FOLDERS["visual"]),
    audio: Locations | None = (FILES["audio"], FOLDERS["audio"]),
    flow: Locations | None = (FILES["flow"], FOLDERS["flow"]),
    vision_language: Locations | None = (FILES["vision_language"], FOLDERS["vision_language"]),
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read Fis-V for one target from its released files.

    Features of a modality are one pickled dict, number -> (T, D), or a folder of `<number>.npy`; the numbers of a
    dict may be integers or text. An array may be (T, K, D), K views of each clip that are averaged. The label files
    have the columns number TES PCS deduction; the deduction and a header line are optional. A pickle with anything but
    arrays and plain values is refused. See `DatasetSpec.read` for the order of checks and the store.

    Args:
        folder: contains the label files and the features, unless other paths are given.
        target: TES or PCS.
        clips: T, the length of every crop; 136 clips contain nearly all of a short program.
        train, test: label files of the two splits, relative to `folder` or absolute.
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
    return FisV().read(
        folder, target, clips=clips, label_files=files, features=features, cache=cache, progress=progress
    )


@dataclass(frozen=True, eq=False, repr=False)
class FisV(SimulatableSpec):
    """The dataset Fis-V. A simulation of it has drawn scores, or the real ones.

    Args:
        train, test: rows of the real training and test labels, for a simulation with real scores; `FisV.with_labels`
            reads them.
    """

    name = "Fis-V"
    sport = "figure_skating"
    scales: ClassVar = published_scales("Fis-V")
    clips = 136
    label_files: ClassVar = {"train": TRAIN, "test": TEST}
    features: ClassVar = {modality: (FILES[modality], FOLDERS[modality]) for modality in FILES}
    layouts: ClassVar = Layouts(
        (
            "train.txt and test.txt beside FISV_{rgb_VST,audio_AST,flow_I3D}.npy or beside video/<number>.npy and "
            "audio/<number>.npy",
            "PAMFN's data folder: FISV/train.txt, FISV/test.txt and features/FISV_{rgb_VST,audio_AST,flow_I3D}.npy",
            "GDLT's, CoFInAl's or QTD's: train.txt, test.txt and swintx_avg_fps25_clip32/<number>.npy, video alone",
        ),
        features={modality: (f"../features/{file}",) for modality, file in FILES.items()},
    )
    length = (120, 150)
    # Of VST, AST and I3D features: the widths at which PAMFN has the parameter totals of its released code.
    widths: ClassVar = {"visual": 1024, "audio": 768, "flow": 1024}
    variants = ("dict", "files")

    train: tuple[LabelRow, ...] = ()
    test: tuple[LabelRow, ...] = ()

    @classmethod
    def with_labels(cls, folder: str | Path) -> "FisV":
        """Return Fis-V for a simulation with the real `train.txt` and `test.txt` of a folder.

        Raises:
            DataError: a label file is at fault.
        """
        train, test = (_rows(Path(folder) / name) for name in (TRAIN, TEST))
        spec = cls(tuple(train), tuple(test))
        for target in spec.targets:
            require_unique_names(spec._examples(train, target), spec._examples(test, target))
        return spec

    def read_labels(self, files: Mapping[str, Path], target: str) -> tuple[list[Example], list[Example]]:
        """The labelled videos of train and of test."""
        return self._examples(_rows(files["train"]), target), self._examples(_rows(files["test"]), target)

    def require_own(self, files: Mapping[str, Path], target: str) -> None:
        """Raise DataError unless the label files are those of Fis-V: its videos are numbers."""
        for examples in self.read_labels(files, target):
            other = next((example for example in examples if not example.name.isdecimal()), None)
            if other is not None:
                raise DataError(f"{other.where} names {other.name!r}: a video of Fis-V is a number")

    def judge(self, technical: NDArray, component: NDArray, train: int, rng: np.random.Generator) -> ScoreSheet:
        """Score the performances, or give each real video a performance that fits its real scores."""
        real = [*self.train, *self.test]
        if not real:
            scores = {
                "TES": by_rank(technical, TES_RANGE),
                "PCS": by_rank(noisy(component, PCS_NOISE, rng), PCS_RANGE),
                "deduction": [float(value) for value in rng.choice(DEDUCTIONS, size=len(technical), p=SHARES)],
            }
            return ScoreSheet([str(i + 1) for i in range(len(technical))], scores)
        if (train, len(technical)) != (len(self.train), len(real)):
            raise ValueError(f"the real labels are {len(real)}, {len(self.train)} of them for training: draw as many")
        scores = self.real_scores()
        fitting = _fitting(technical, component, np.asarray(scores["TES"]), np.asarray(scores["PCS"]))
        return ScoreSheet([row.fields[0] for row in real], scores, fitting, real=True)

    def real_scores(self) -> dict[str, list[float]]:
        """The real scores by column, train first; the deduction where every row has it."""
        real = [*self.train, *self.test]
        columns = min(len(row.fields) for row in real)
        return {COLUMNS[i]: [row.number(i, COLUMNS[i]) for row in real] for i in range(1, columns)}

    def label(self, sheet: ScoreSheet, target: str, video: int, where: str) -> float:
        """The label of a video."""
        return scaled(sheet.scores[target][video], self.scales[target], meaning=target, where=where)

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
        """Write the label files, and one dict or one folder of files per modality."""
        rows = []
        for i, name in enumerate(sheet.names):
            # repr is the shortest text that parses back to the same float.
            deduction = [f"{sheet.scores['deduction'][i]:g}"] if "deduction" in sheet.scores else []
            rows.append([name, repr(sheet.scores["TES"][i]), repr(sheet.scores["PCS"][i]), *deduction])
        # A header, as two of the released loaders skip line 1 whatever it says; PAMFN's skips none.
        header = list(COLUMNS[: len(rows[0])])
        write_rows(folder / TRAIN, [header, *rows[:train]])
        write_rows(folder / TEST, [header, *rows[train:]])
        for modality, part in features.items():
            videos = (part.video(i).numpy() for i in range(len(part)))
            if variant == "dict":
                write_pickled(folder / FILES[modality], sheet.names, videos)
            else:
                write_videos(folder / FOLDERS[modality], sheet.names, videos)

    def _examples(self, rows: list[LabelRow], target: str) -> list[Example]:
        column, scale = COLUMNS.index(target), self.scales[target]
        return [
            Example(
                row.fields[0], scaled(row.number(column, target), scale, meaning=target, where=row.where), row.where
            )
            for row in rows
        ]


def _fitting(technical: NDArray, component: NDArray, tes: NDArray, pcs: NDArray) -> NDArray[np.int64]:
    """For each video (n,) the performance that fits its real scores.

    Videos in the order of TES get performances in the order of the technical quality; within each `RUN` of these, the
    order of PCS and of the component quality decides.
    """
    videos, performances = np.argsort(tes, kind="stable"), np.argsort(technical, kind="stable")
    chosen = np.empty(len(tes), dtype=np.int64)
    for begin in range(0, len(tes), RUN):
        some, drawn = videos[begin : begin + RUN], performances[begin : begin + RUN]
        by_pcs, by_component = np.argsort(pcs[some], kind="stable"), np.argsort(component[drawn], kind="stable")
        chosen[some[by_pcs]] = drawn[by_component]
    return chosen


def _rows(path: Path) -> list[LabelRow]:
    rows = read_rows(path, optional_header=True)
    for row in rows:
        row.require_columns(COLUMNS[:3] if len(row.fields) == 3 else COLUMNS)
        for column in range(1, len(row.fields)):
            row.number(column, COLUMNS[column])
    return rows
