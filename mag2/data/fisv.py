"""Fis-V: figure skating, TES and PCS, features of 136 clips in either of the released layouts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mag2.data.features import ClipFeatures
from mag2.data.labels import Example, Line, scaled, want_unique_names
from mag2.data.layout import Layout, ScoreSheet, by_rank, noisy, write_pickled, write_rows, write_videos
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
from mag2.data.simulate import Texts, simulate
from mag2.data.simulation import Simulation
from mag2.data.targets import SCALES, TARGETS

NAME = "Fis-V"
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
RUN = 10  # videos within which real PCS decides, and not real TES


def read_fisv(
    folder: str | Path,
    target: str,
    *,
    clips: int = 136,
    train: str | Path = TRAIN,
    test: str | Path = TEST,
    video: Places = (FILES["visual"], FOLDERS["visual"]),
    audio: Places | None = (FILES["audio"], FOLDERS["audio"]),
    flow: Places | None = (FILES["flow"], FOLDERS["flow"]),
    vision_language: Places | None = (FILES["vision_language"], FOLDERS["vision_language"]),
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read Fis-V for one target from its released files.

    Features of a modality are one pickled dict, number -> (T, D), or a folder of `<number>.npy`; the numbers of a
    dict may be integers or text. An array may be (T, K, D), K crops that are averaged. The label files have the
    columns number TES PCS deduction; the deduction may be left out, and a header line may stand above. Labels are
    checked before any feature is read. Features are read once, into a store that later calls map into memory.
    A pickle that asks for anything but arrays and plain values is refused.

    Args:
        folder: holds the label files and the features, unless said otherwise.
        target: TES or PCS.
        clips: the length of every crop; 136 hold nearly all of a short program.
        train: the label file of the training split, relative to `folder` or absolute; `test` likewise.
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
    want_target(NAME, target)
    want_folder(folder, train, test)
    splits = [_examples(folder / labels, target) for labels in (train, test)]
    want_unique_names(*splits)
    modalities = {"visual": video, "audio": audio, "flow": flow, "vision_language": vision_language}
    places = find_features(folder, modalities)
    features = read_features(folder, places, [*splits[0], *splits[1]], stem="fisv", cache=cache, progress=progress)
    return assemble(
        NAME,
        target,
        scale=SCALES[NAME][target],
        clips=clips,
        train=splits[0],
        test=splits[1],
        features=features,
        simulated=is_simulated(folder, [train, test, *places.values()]),
    )


def simulate_fisv(texts: Texts, *, labels: str | Path | None = None, **options: Any) -> Simulation:
    """Simulate Fis-V, with the real scores and the real split where their files are given.

    With real labels every video keeps its number, its split and its scores, and gets a simulated performance that
    deserves them: videos in the order of their TES get the performances in the order of their technical quality;
    within each ten of these, the order of PCS and of the component quality decides. On the real 500 videos TES then
    follows the technical quality with a Spearman of 0.999, PCS the component quality with about 0.93. These are real
    labels with simulated features, and every dataset made of them says that it is simulated.

    Args:
        texts: figure skating's text features.
        labels: the folder with the real `train.txt` and `test.txt`; without it scores are simulated as well.
        options: as `simulate` has them; with real labels the number of videos is theirs.

    Raises:
        DataError: a label file is at fault.
        ValueError: an option that does not fit.
    """
    if labels is None:
        return simulate(texts, layout=FisV(), **options)
    taken = {"train", "test"} & set(options)
    if taken:
        raise ValueError(f"the real labels say how many videos there are: leave {' and '.join(sorted(taken))} out")
    rows = [_rows(Path(labels) / split) for split in (TRAIN, TEST)]
    for target in TARGETS[NAME]:
        want_unique_names(*([_example(row, target) for row in split] for split in rows))
    return simulate(texts, layout=FisV(*rows), train=len(rows[0]), test=len(rows[1]), **options)


class FisV(Layout):
    """Fis-V for the simulator.

    Args:
        train: the rows of the real training labels, and `test` those of the test labels; without them scores are
            drawn like the real ones.
    """

    name = NAME
    sport = "figure_skating"
    clips = 136
    length = (120, 150)
    # Of VST, AST and I3D features: the widths at which PAMFN has the parameter totals of its released code.
    widths: ClassVar = {"visual": 1024, "audio": 768, "flow": 1024}
    variants = ("dict", "files")
    read = staticmethod(read_fisv)
    places = (*FILES.values(), *FOLDERS.values())

    def __init__(self, train: Sequence[Line] = (), test: Sequence[Line] = ()):
        self._real, self._train = [*train, *test], len(train)

    def judge(self, technical: NDArray, component: NDArray, train: int, rng: np.random.Generator) -> ScoreSheet:
        """Score the performances, or find those that deserve the real scores."""
        if not self._real:
            scores = {
                "TES": by_rank(technical, TES_RANGE),
                "PCS": by_rank(noisy(component, PCS_NOISE, rng), PCS_RANGE),
                "deduction": [float(value) for value in rng.choice(DEDUCTIONS, size=len(technical), p=SHARES)],
            }
            return ScoreSheet([str(i + 1) for i in range(len(technical))], scores)
        if (train, len(technical)) != (self._train, len(self._real)):
            raise ValueError(f"the real labels are {len(self._real)}, {self._train} of them for training: draw as many")
        columns = min(len(row.cells) for row in self._real)  # the deduction only where every row has it
        scores = {COLUMNS[i]: [row.real(i, COLUMNS[i]) for row in self._real] for i in range(1, columns)}
        shows = _deserving(technical, component, np.asarray(scores["TES"]), np.asarray(scores["PCS"]))
        return ScoreSheet([row.cells[0] for row in self._real], scores, shows, real=True)

    def label(self, sheet: ScoreSheet, target: str, video: int, where: str) -> float:
        """The label of a video."""
        return scaled(sheet.scores[target][video], SCALES[NAME][target], meaning=target, where=where)

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
        write_rows(folder / TRAIN, rows[:train])
        write_rows(folder / TEST, rows[train:])
        for key, part in features.items():
            videos = (part.video(i).numpy() for i in range(len(part)))
            if variant == "dict":
                write_pickled(folder / FILES[key], sheet.names, videos)
            else:
                write_videos(folder / FOLDERS[key], sheet.names, videos)


def _deserving(technical: NDArray, component: NDArray, tes: NDArray, pcs: NDArray) -> NDArray[np.int64]:
    """For each video (n,) the performance that its real scores are given to."""
    videos, performances = np.argsort(tes, kind="stable"), np.argsort(technical, kind="stable")
    shows = np.empty(len(tes), dtype=np.int64)
    for begin in range(0, len(tes), RUN):
        some, theirs = videos[begin : begin + RUN], performances[begin : begin + RUN]
        by_pcs, by_component = np.argsort(pcs[some], kind="stable"), np.argsort(component[theirs], kind="stable")
        shows[some[by_pcs]] = theirs[by_component]
    return shows


def _rows(path: Path) -> list[Line]:
    rows = labelled_rows(path)
    for row in rows:
        row.want(COLUMNS[:3] if len(row.cells) == 3 else COLUMNS)
        for column in range(1, len(row.cells)):
            row.real(column, COLUMNS[column])
    return rows


def _example(row: Line, target: str) -> Example:
    score = row.real(COLUMNS.index(target), target)
    return Example(row.cells[0], scaled(score, SCALES[NAME][target], meaning=target, where=row.where), row.where)


def _examples(path: Path, target: str) -> list[Example]:
    return [_example(row, target) for row in _rows(path)]
