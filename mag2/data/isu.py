"""ISU: real programmes with real scores; the features are texts of the programme, or any features in a folder."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.fs1000 import FOLDERS, read_scores
from mag2.data.labels import Example
from mag2.data.layouts import Layouts
from mag2.data.performances import VISION_LANGUAGE, Dataset, assemble
from mag2.data.spec import DatasetSpec
from mag2.programmes import (
    DISCIPLINES,
    SCALES,
    SEGMENTS,
    ElementTexts,
    Performance,
    read_performances,
    train_and_test,
)

__all__ = ["ISU", "chosen_performances", "read_isu"]

LONGEST = 14  # elements


def read_isu(
    target: str,
    *,
    discipline: str | None = None,
    segment: str | None = None,
    encoder: str = "shipped",
    clips: int = LONGEST,
) -> Dataset:
    """Read the 1,726 real performances that the library ships, with text features of their elements as visual features.

    A clip is an executed element, in the order of the programme. Its feature is the output of a text encoder for the
    description of the element, "triple Lutz, triple toe loop combination, under-rotated". So the features contain what
    the technical panel called: elements, levels and marks, but not the grade of execution. No video is used: these are
    the features that a perfect recogniser of elements could give. Programmes and scores are real, `simulated` is False.

    The same rows are the vision_language features: they are in the space of the encoder's action texts. The split is
    fixed, with the last four competitions for testing (`mag2.programmes.TEST_COMPETITIONS`).

    Args:
        target: TES, PCS (divided by the program factor), SS, TR, PE, CO or IN; scales are `mag2.programmes.SCALES`.
        discipline: "men", "ladies", "pairs" or "ice dance"; all by default.
        segment: "short" or "free"; both by default.
        encoder: "shipped" (MiniLM, D = 384, without a download), or a name as in `mag2.encoders.load_text_encoder`.
        clips: T, the length of every crop; 14 clips contain all elements of every programme.

    Returns:
        The `Dataset`.

    Raises:
        DataError: no such target, discipline or segment.
        ValueError: an encoder that cannot be loaded, or `clips` below 1.
    """
    ISU().require_target(target)
    train, test = chosen_performances(discipline, segment)
    words = ElementTexts.load(encoder)
    rows = [words.rows_of(each) for each in (*train, *test)]
    # One copy of all rows: 1,726 small ones would take seconds where torch has several threads.
    clips_of_all = words.rows.numpy()[np.fromiter(chain.from_iterable(rows), dtype=np.int64)]
    features = ClipFeatures(clips_of_all, np.cumsum([0, *map(len, rows)]))
    return assemble(
        ISU.name,
        target,
        scale=SCALES[target],
        clips=clips,
        train=[_example(each, target) for each in train],
        test=[_example(each, target) for each in test],
        features={"visual": features, VISION_LANGUAGE: features},
    )


def chosen_performances(
    discipline: str | None = None, segment: str | None = None
) -> tuple[tuple[Performance, ...], tuple[Performance, ...]]:
    """Return the performances of train and of test: all, or those of a discipline, a segment or both.

    Raises:
        DataError: no such discipline or segment.
    """
    for what, given, known in (("discipline", discipline, DISCIPLINES), ("segment", segment, SEGMENTS)):
        if given is not None and given not in known:
            raise DataError(f"ISU has no {what} {given!r}: choose one of {', '.join(known)}")
    return train_and_test(read_performances(discipline=discipline, segment=segment))


COLUMNS = ("name", *SCALES, "factor")


class ISU(DatasetSpec):
    """The dataset ISU: the shipped performances (`read_isu`), or a folder with features and labels of your own.

    The folder has files as FS1000: label files with the columns name TES PCS SS TR PE CO IN factor, here `train.txt`
    and `test.txt`, and a file of features for each video.
    """

    name = "ISU"
    sport = "figure_skating_elements"
    scales: ClassVar = SCALES
    clips = LONGEST
    label_files: ClassVar = {"train": "train.txt", "test": "test.txt"}
    features: ClassVar = FOLDERS
    layouts: ClassVar = Layouts(("train.txt and test.txt beside video/<name>.npy",))
    shipped = "real programmes and scores, the words of the programme as features"
    shipped_note = (
        "A clip is an executed element as the technical panel called it, without its grade of execution; no video is "
        "read. Spearman is over all disciplines and segments, which alone explain much of it (docs/programmes.md)."
    )

    def read_labels(self, files: Mapping[str, Path], target: str) -> tuple[list[Example], list[Example]]:
        """The labelled videos of train and of test in a folder."""
        train, test = (read_scores(files[split], COLUMNS, self.scales, target) for split in ("train", "test"))
        return train, test

    def read_shipped(self, target: str, *, clips: int | None = None) -> Dataset:
        """The performances that the library ships, with their words as features."""
        return read_isu(target, clips=self.clips if clips is None else clips)


def _example(performance: Performance, target: str) -> Example:
    return Example(performance.id, performance.label(target), f"performance {performance.id}")
