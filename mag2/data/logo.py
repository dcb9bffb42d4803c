"""LOGO: artistic swimming in groups, one score, visual features alone, in its released files."""

import logging
import pickle
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example, scaled
from mag2.data.layouts import Layouts
from mag2.data.performances import Dataset
from mag2.data.pickles import load_pickle
from mag2.data.simulatable import ScoreSheet, SimulatableSpec, by_rank
from mag2.data.writing import write_videos
from mag2.saving.atomic_io import replacing
from mag2.saving.sentences import shortened

__all__ = ["LOGO", "read_logo"]

log = logging.getLogger(__name__)

TARGET = "score"
ANNOTATIONS, TRAIN, TEST = "anno_dict.pkl", "train_split3.pkl", "test_split3.pkl"
FORMATIONS = "formation_dict.pkl"  # its repository reads it; no model here does
FOLDERS = {"visual": "video", "vision_language": "vision_language"}
TEAMS = 10  # in a simulated game

# Invented: routines that reach a final score well above half of the 100 points. low + (high - low) Beta(a, b).
SCORE_RANGE = (55.0, 99.0, 3.4, 2.6)


def read_logo(
    folder: str | Path,
    *,
    clips: int | None = None,
    annotations: str | Path = ANNOTATIONS,
    train: str | Path = TRAIN,
    test: str | Path = TEST,
    features: str | Path = FOLDERS["visual"],
    vision_language: str | Path | None = FOLDERS["vision_language"],
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read LOGO from its released files; the target is "score".

    `<features>/<game>_<index>.npy` is (T, D) or (T, K, D), K views of each clip that are averaged. `anno_dict.pkl` is
    a pickled dict, (game, index) -> tuple whose element 1 is the score from 0 to 100; `train_split3.pkl` and
    `test_split3.pkl` are pickled lists of its keys. A pickle with anything but arrays and plain values is refused. See
    `DatasetSpec.read` for the order of checks and the store.

    Args:
        folder: contains the annotations, the splits and the features, unless other paths are given.
        clips: T, the length of every crop. By default that of the videos where all have one length, so that nothing is
            cropped, as released; else 160 (our choice): a video lasts 204 s on average, which are 160 clips of 32
            frames at 25 frames a second.
        annotations: file of the scores, relative to `folder` or absolute.
        train, test: files of the splits, relative to `folder` or absolute.
        features: folder of the visual features, relative to `folder` or absolute. No other modality was released.
        vision_language: folder of the same clips in the space of a text encoder such as CLIP's (our addition), relative
            to `folder` or absolute. Where it does not exist, or with None, the batches have none.
        cache: folder of the store; by default `<folder>/.mag2-cache` or, where that cannot be written, a
            folder of the user's cache (`$XDG_CACHE_HOME` or `~/.cache`).
        progress: called with the number of videos that are ready and their total.

    Returns:
        The `Dataset`.

    Raises:
        DataError: one sentence that names the file and the entry; entries are counted from 1.
    """
    files = {"annotations": annotations, "train": train, "test": test}
    locations = {"visual": features, "vision_language": vision_language}
    return LOGO().read(
        folder, TARGET, clips=clips, label_files=files, features=locations, cache=cache, progress=progress
    )


class LOGO(SimulatableSpec):
    """The dataset LOGO. In a simulation of it technical and component quality have equal weights in the score."""

    name = "LOGO"
    sport = "artistic_swimming"
    # The published recipes have no row for LOGO. Its scores run from 0 to 100, so the scale is 100; that is our choice.
    scales: ClassVar = {TARGET: 100.0}
    clips = 160
    label_files: ClassVar = {"annotations": ANNOTATIONS, "train": TRAIN, "test": TEST}
    features: ClassVar = FOLDERS
    layouts: ClassVar = Layouts(
        (
            "anno_dict.pkl, train_split3.pkl and test_split3.pkl beside video/<game>_<index>.npy",
            "QTD's: these three files in 'LOGO Anno&Split' beside logo_feats/<game>_<index>.npy",
        )
    )
    length = (160, 160)  # the released features are of one length
    widths: ClassVar = {"visual": 1024}  # ours, as the VST features of Fis-V and RG

    def read_labels(self, files: Mapping[str, Path], target: str) -> tuple[list[Example], list[Example]]:
        """The labelled videos of train and of test."""
        annotations = _annotations(files["annotations"])
        train, test = (self._examples(files[split], annotations, files["annotations"]) for split in ("train", "test"))
        return train, test

    def crop_length(self, features: Mapping[str, ClipFeatures]) -> int:
        """The length of all videos where they have one, so that none is cropped; else `clips`."""
        lengths = set(features["visual"].lengths.tolist())
        if len(lengths) > 1:
            return self.clips
        log.info("all videos of LOGO have %d clips: they are not cropped", *lengths)
        return lengths.pop()

    def judge(self, technical: NDArray, component: NDArray, train: int, rng: np.random.Generator) -> ScoreSheet:
        """Score the performances."""
        quality = technical / technical.std() + component / component.std()
        names = [f"simulated_{i // TEAMS:02d}_{i % TEAMS}" for i in range(len(technical))]
        return ScoreSheet(names, {TARGET: by_rank(quality, SCORE_RANGE)})

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
        """Write the annotations, the splits and one file per video."""
        pairs = [name.rsplit("_", 1) for name in sheet.names]
        keys = [(game, int(index)) for game, index in pairs]
        scores = {key: ("simulated", score) for key, score in zip(keys, sheet.scores[TARGET], strict=True)}
        # A formation for every clip, and none is simulated.
        lengths = features["visual"].lengths.tolist()
        formations = {key: [0] * length for key, length in zip(keys, lengths, strict=True)}
        contents = {ANNOTATIONS: scores, TRAIN: keys[:train], TEST: keys[train:], FORMATIONS: formations}
        for file, content in contents.items():
            with replacing(folder / file) as partial:
                partial.write_bytes(pickle.dumps(content, protocol=4))
        for modality, part in features.items():
            videos = (part.video(i).numpy() for i in range(len(part)))
            write_videos(folder / FOLDERS[modality], sheet.names, videos)

    def _examples(self, path: Path, annotations: Mapping[str, Any], annotation_file: Path) -> list[Example]:
        keys = _unpickled(path)
        if not isinstance(keys, list | tuple | np.ndarray) or (isinstance(keys, np.ndarray) and not keys.ndim):
            kind = "single value" if isinstance(keys, np.ndarray) else type(keys).__name__
            raise DataError(f"{path} holds a {kind}: a list of (game, index) is wanted")
        if not len(keys):
            raise DataError(f"{path} is an empty list: one (game, index) per video is wanted")
        examples = []
        for i, key in enumerate(keys, 1):
            where = f"{path} entry {i}"
            name = _name(key, where)
            if name not in annotations:
                raise DataError(
                    f"{where} names {name!r} but {annotation_file} has no score of it: add it or drop the entry"
                )
            label = self._label(annotations[name], f"{annotation_file} at {name!r}")
            examples.append(Example(name, label, where))
        return examples

    def _label(self, annotation: Any, where: str) -> float:
        if not isinstance(annotation, list | tuple) or len(annotation) < 2:
            raise DataError(f"{where} has {_shown(annotation)}: a tuple whose element 1 is the score is wanted")
        score = annotation[1]
        if not isinstance(score, Real) or isinstance(score, bool):
            raise DataError(f"{where} has {_shown(score)} as its {TARGET}: a number is wanted")
        # An int stays one: it may be too large for a float, and is then outside the scale.
        number = score if isinstance(score, int) else float(score)
        return scaled(number, self.scales[TARGET], meaning=TARGET, where=where)


def _annotations(path: Path) -> dict[str, Any]:
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


def _name(key: Any, where: str) -> str:
    """The name that a video's file has, `<game>_<index>`."""
    if isinstance(key, np.ndarray):
        key = key.tolist()
    if isinstance(key, list | tuple) and len(key) == 2:
        game, index = key
        if isinstance(game, str) and isinstance(index, int | np.integer | str):
            return f"{game}_{index}"
    raise DataError(f"{where} is {_shown(key)}: a pair (game, index) is wanted")


def _shown(value: Any) -> str:
    """A value in one short line."""
    return shortened(value)


def _unpickled(path: Path) -> Any:
    if not path.exists():
        raise DataError(f"there is no label file {path}: put it there or give its folder")
    return load_pickle(path)
