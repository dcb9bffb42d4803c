"""LOGO: artistic swimming in groups, one score, visual features alone, in the released layout."""

import pickle
import reprlib
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example, scaled, want_unique_names
from mag2.data.layout import Layout, ScoreSheet, by_rank, write_videos
from mag2.data.performances import Dataset, assemble
from mag2.data.pickles import load_pickle
from mag2.data.reading import find_features, is_simulated, read_features, want_folder, want_target
from mag2.data.targets import SCALES, declare

NAME, TARGET = "LOGO", "score"
ANNOTATIONS, TRAIN, TEST = "anno_dict.pkl", "train_split3.pkl", "test_split3.pkl"
FOLDERS = {"visual": "video", "vision_language": "vision_language"}
TEAMS = 10  # in a simulated game

# The published recipes have no row for LOGO. Its scores run from 0 to 100, so the scale is 100; that is our choice.
declare(NAME, {TARGET: 100.0})

# Invented: routines that reach a final score well above half of the 100 points. low + (high - low) Beta(a, b).
SCORE_RANGE = (55.0, 99.0, 3.4, 2.6)


def read_logo(
    folder: str | Path,
    *,
    clips: int = 160,
    annotations: str | Path = ANNOTATIONS,
    train: str | Path = TRAIN,
    test: str | Path = TEST,
    features: str | Path = FOLDERS["visual"],
    vision_language: str | Path | None = FOLDERS["vision_language"],
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read LOGO from its released files; the target is "score".

    `<features>/<game>_<index>.npy` is (T, D) or (T, K, D), K crops that are averaged. `anno_dict.pkl` is a pickled
    dict, (game, index) -> tuple whose element 1 is the score from 0 to 100; `train_split3.pkl` and
    `test_split3.pkl` are pickled lists of its keys. Labels are checked before any feature is read. Features are read
    once, into a store that later calls map into memory. A pickle that asks for anything but arrays and plain values
    is refused.

    Args:
        folder: holds the annotations, the splits and the features, unless said otherwise.
        clips: the length of every crop. 160 is ours: a video lasts 204 s on average, which is as many clips of
            32 frames at 25 frames a second.
        annotations: file of the scores, relative to `folder` or absolute; `train` and `test`, those of the splits,
            likewise.
        features: folder of the visual features, relative to `folder` or absolute. No others were released.
        vision_language: folder of the same clips in the space of a text encoder such as CLIP's, likewise (ours).
            Where it is not there, or None, the batches have none.
        cache: folder of the store; by default `<folder>/.mag2-cache` or, where that cannot be written, a
            folder of the user's cache (`$XDG_CACHE_HOME` or `~/.cache`).
        progress: called with the number of videos that are ready and their total.

    Raises:
        DataError: one sentence naming the file and the entry at fault; entries are counted from 1.
    """
    folder = Path(folder)
    want_folder(folder, annotations, train, test)
    scores = _scores(folder / annotations)
    splits = [_examples(folder / split, scores, folder / annotations) for split in (train, test)]
    want_unique_names(*splits)
    places = find_features(folder, {"visual": features, "vision_language": vision_language})
    return assemble(
        NAME,
        TARGET,
        scale=SCALES[NAME][TARGET],
        clips=clips,
        train=splits[0],
        test=splits[1],
        features=read_features(folder, places, [*splits[0], *splits[1]], stem="logo", cache=cache, progress=progress),
        simulated=is_simulated(folder, [annotations, train, test, *places.values()]),
    )


class LOGO(Layout):
    """LOGO for the simulator: technical and component quality count the same; the music is judged but not recorded."""

    name = NAME
    sport = "artistic_swimming"
    clips = 160
    length = (135, 185)
    widths: ClassVar = {"visual": 1024}  # ours, as the VST features of Fis-V and RG
    places = tuple(FOLDERS.values())

    @staticmethod
    def read(folder: str | Path, target: str, **options: Any) -> Dataset:
        """Its loader; there is one target."""
        want_target(NAME, target)
        return read_logo(folder, **options)

    def judge(self, technical: NDArray, component: NDArray, train: int, rng: np.random.Generator) -> ScoreSheet:
        """Score the performances."""
        quality = technical / technical.std() + component / component.std()
        names = [f"simulated_{i // TEAMS:02d}_{i % TEAMS}" for i in range(len(technical))]
        return ScoreSheet(names, {TARGET: by_rank(quality, SCORE_RANGE)})

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
        """Write the annotations, the splits and one file per video."""
        pairs = [name.rsplit("_", 1) for name in sheet.names]
        keys = [(game, int(index)) for game, index in pairs]
        scores = {key: ("simulated", score) for key, score in zip(keys, sheet.scores[TARGET], strict=True)}
        contents = {ANNOTATIONS: scores, TRAIN: keys[:train], TEST: keys[train:]}
        for file, content in contents.items():
            (folder / file).write_bytes(pickle.dumps(content, protocol=4))
        for key, part in features.items():
            write_videos(folder / FOLDERS[key], sheet.names, (part.video(i).numpy() for i in range(len(part))))


def _scores(path: Path) -> dict[str, Any]:
    """The annotation of every video, by the video's name."""
    content = _unpickled(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}: a dict of (game, index) to annotations is wanted")
    by_name: dict[str, Any] = {}
    for i, (key, annotation) in enumerate(content.items(), 1):
        name = _name(key, f"{path} entry {i}")
        if name in by_name:
            raise DataError(f"{path} entry {i} is {name!r} a second time: keep one of them")
        by_name[name] = annotation
    return by_name


def _examples(path: Path, scores: Mapping[str, Any], annotations: Path) -> list[Example]:
    keys = _unpickled(path)
    if not isinstance(keys, list | tuple | np.ndarray):
        raise DataError(f"{path} holds a {type(keys).__name__}: a list of (game, index) is wanted")
    if not len(keys):
        raise DataError(f"{path} is an empty list: one (game, index) per video is wanted")
    examples = []
    for i, key in enumerate(keys, 1):
        where = f"{path} entry {i}"
        name = _name(key, where)
        if name not in scores:
            raise DataError(f"{where} names {name!r} but {annotations} has no score of it: add it or drop the entry")
        examples.append(Example(name, _label(scores[name], f"{annotations} at {name!r}"), where))
    return examples


def _name(key: Any, where: str) -> str:
    """The name that a video's file has, `<game>_<index>`."""
    if isinstance(key, np.ndarray):
        key = key.tolist()
    if isinstance(key, list | tuple) and len(key) == 2:
        game, index = key
        if isinstance(game, str) and isinstance(index, int | np.integer | str):
            return f"{game}_{index}"
    raise DataError(f"{where} is {_shown(key)}: a pair (game, index) is wanted")


def _label(annotation: Any, where: str) -> float:
    if not isinstance(annotation, list | tuple) or len(annotation) < 2:
        raise DataError(f"{where} has {_shown(annotation)}: a tuple whose element 1 is the score is wanted")
    score = annotation[1]
    if not isinstance(score, Real) or isinstance(score, bool):
        raise DataError(f"{where} has {_shown(score)} as its {TARGET}: a number is wanted")
    # An int stays one: it may be too large for a float, and is then outside the scale.
    number = score if isinstance(score, int) else float(score)
    return scaled(number, SCALES[NAME][TARGET], meaning=TARGET, where=where)


def _shown(value: Any) -> str:
    """A value in one short line."""
    return " ".join(reprlib.repr(value).split())


def _unpickled(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"there is no label file {path}: put it there or give its folder")
    return load_pickle(path)
