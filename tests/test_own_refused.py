"""Wrong inputs of `Dataset.from_arrays` and `cross_validate`: one sentence says what was given and what to give."""

import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from mag2 import TextFeatures
from mag2.baselines import GDLT
from mag2.data import DataError, Dataset, Performances
from mag2.data.features import ClipFeatures
from mag2.training import Recipe, Run, cross_validate

N, WIDTH = 6, 4
CLEAN = [np.full((3 + i, WIDTH), i, dtype=np.float32) for i in range(N)]
SCORES = [9.5, 12.0, 11.25, 14.0, 8.0, 13.5]


class DataFrame:
    """What is like a table of pandas: a mapping of columns by its methods, iterated by its column names."""

    def __init__(self, columns):
        self.columns = columns

    def __iter__(self):
        return iter(self.columns)

    def __len__(self):
        return N


def changed(index, video):
    return [video if i == index else each for i, each in enumerate(CLEAN)]


def given(index, score):
    return [score if i == index else each for i, each in enumerate(SCORES)]


def made(features=CLEAN, scores=SCORES, **options):
    return Dataset.from_arrays(features, scores, **({"scale": 16.0, "split": 0.34} | options))


def holed(value):
    video = CLEAN[2].copy()
    video[1, 1] = value
    return video


FEATURES = {
    "nan": (changed(2, holed(math.nan)), "entry 2 of visual .* NaN or infinite features, first in clip 1"),
    "inf": (changed(2, holed(math.inf)), "entry 2 of visual .* NaN or infinite"),
    "too large for float32": (changed(2, CLEAN[2].astype(float) + 1e300), "entry 2 of visual .* NaN or infinite"),
    "no videos": ([], "visual has 0 videos and there are 6 scores: give one of each"),
    "too few videos": (CLEAN[:5], "visual has 5 videos and there are 6 scores"),
    "zero clips": (changed(1, np.zeros((0, WIDTH))), "entry 1 of visual .* is empty, with shape \\(0, 4\\)"),
    "zero wide": (changed(1, np.zeros((3, 0))), "entry 1 of visual .* is empty"),
    "another width": (changed(3, np.zeros((3, 5))), "entry 3 of visual .* of width 5 where entry 0 .* have 4"),
    "exchanged axes": (
        [each.T for each in CLEAN],
        "the axes look exchanged, for every array has 4 rows; give \\(clips, w",
    ),
    "exchanged axes of one": (
        changed(3, CLEAN[3].T),
        "entry 3 of visual .*: its axes look exchanged, \\(4, 6\\) in place of \\(clips, width\\); give its transpose",
    ),
    "two networks": ([np.zeros((5, 3 + i % 2)) for i in range(N)], "with one network; or the axes look exchanged, for"),
    "one vector": (changed(0, np.zeros(WIDTH)), "entry 0 of visual .* has shape \\(4,\\) where \\(clips, width\\)"),
    "five axes": (changed(0, np.zeros((1, 2, 3, 4, 5))), "entry 0 of visual .* has shape"),
    "a number": (changed(0, 3.5), "entry 0 of visual .* has shape \\(\\)"),
    "nothing": (changed(0, None), "entry 0 of visual .* holds object|entry 0 of visual"),
    "uneven rows": (changed(0, [[1.0, 2.0], [3.0]]), "entry 0 of visual is no array but a list of uneven parts"),
    "texts": (changed(0, np.array([["a", "b"]])), "entry 0 of visual .* numbers are wanted"),
    "truth values": (changed(0, np.zeros((3, WIDTH), dtype=bool)), "entry 0 of visual .* holds bool"),
    "complex": (changed(0, np.zeros((3, WIDTH), dtype=complex)), "entry 0 of visual .* holds complex128"),
    "objects": (changed(0, np.full((3, WIDTH), None)), "entry 0 of visual .* holds object"),
    "masked": (changed(0, np.ma.masked_equal(CLEAN[0], 0)), "entry 0 of visual is a masked array"),
    "sparse": (
        changed(0, torch.zeros(3, WIDTH).to_sparse()),
        "entry 0 of visual is a sparse tensor: give its to_dense",
    ),
    "meta": (changed(0, torch.zeros(3, WIDTH, device="meta")), "entry 0 of visual is on the device meta"),
    "no file": (changed(4, "nowhere/take-4.npy"), "entry 4 of visual is 'nowhere/take-4.npy', where there is no file"),
    "a folder": (changed(4, Path(__file__).parent), "entry 4 of visual is the folder .*: give the .npy files in it"),
    "no npy": (changed(4, __file__), "entry 4 of visual is .*test_own_refused.py, which holds no plain array"),
    "one text": ("features.npy", "the file of all visual features is 'features.npy', where there is no file"),
    "a number for all": (7, "visual is a int: give a list"),
    "none at all": (None, "visual is a NoneType: give a list"),
    "bytes": (b"1234", "visual is a bytes: give a list"),
    "a set": ({1, 2}, "visual is a set: give a list"),
    "one matrix": (np.zeros((N, WIDTH)), "visual is one array of shape \\(6, 4\\): give a list"),
    "no modality": ({}, "visual is missing"),
    "an unknown modality": ({"visual": CLEAN, "video": CLEAN}, "there is no 'video'"),
    "audio alone": ({"audio": CLEAN}, "visual is missing"),
    "audio of fewer": ({"visual": CLEAN, "audio": CLEAN[:4]}, "audio has 4 videos and there are 6 scores"),
    "by name": ({f"video-{i}": each for i, each in enumerate(CLEAN)}, "there is no 'video-0'"),
    "a table": (DataFrame(["x", "y"]), "visual is a DataFrame: give a list|visual has 2 videos"),
    "files in another order": (
        {"visual": [f"v/take-{i}.npy" for i in range(N)], "audio": [f"a/take-{i}.npy" for i in (0, 1, 3, 2, 4, 5)]},
        "entry 2 of audio is the file of 'take-3', and of visual that of 'take-2': list the videos of all modalities",
    ),
    "a short generator": ((each for each in CLEAN[:3]), "visual has 3 videos and there are 6 scores"),
}

SCORED = {
    "nan score": (given(3, math.nan), "the score of entry 3 is nan: give a number, or leave the video out"),
    "inf score": (given(0, math.inf), "the score of entry 0 is inf"),
    "no score": (given(2, None), "scores are a list of numbers, one a video, got object \\(None\\)"),
    "a text": (given(2, "12.0"), "one a video, got .*'12.0'|one a video, got"),
    "all texts": ("9.5 12 11", "scores are a list of numbers, one a video, got a str"),
    "a truth value": (given(1, True), "got a truth value: convert"),
    "two a video": (np.zeros((N, 2)), "got an array of shape \\(6, 2\\): give one number a video"),
    "a column": (np.zeros((N, 1)), "got an array of shape \\(6, 1\\): give one number a video"),
    "by name of score": ({"a": 1.0}, "got a dict"),
    "a set of scores": ({1.0, 2.0}, "got a set"),
    "no scores": ([], "got none"),
    "one number": (12.0, "got a float"),
    "none scored": (None, "got a NoneType"),
    "lists of scores": ([[1.0], [1.0, 2.0], 3, 4, 5, 6], "lists of different length"),
    "masked scores": (np.ma.masked_equal(np.array(SCORES), 8.0), "got a masked array: leave the videos without"),
    "meta scores": (torch.zeros(N, device="meta"), "scores are on the device meta"),
    "below the minimum": (given(0, -1.0), "'video-0' has the score -1, below the minimum of 0: give minimum="),
    "above the scale": (given(1, 17.0), "'video-1' has the score 17, above 16, .*: give scale="),
    "a table of scores": (DataFrame(["score"]), "scores are a list of numbers, one a video, got"),
    "complex scores": (np.array(SCORES, dtype=complex), "got complex128"),
    "dates": (np.array(["2024-01-01"] * N, dtype="datetime64[D]"), "got datetime64"),
}

OPTIONS = {
    "scale zero": ({"scale": 0}, "scale, the range of the scores, is a number above 0, got 0"),
    "scale below zero": ({"scale": -16.0}, "scale, the range of the scores, is a number above 0, got -16"),
    "scale nan": ({"scale": math.nan}, "scale, the range of the scores, is a finite number, got nan"),
    "scale inf": ({"scale": math.inf}, "scale, the range of the scores, is a finite number, got inf"),
    "scale text": ({"scale": "16"}, "scale, the range of the scores, is a number, got '16'"),
    "scale true": ({"scale": True}, "scale, the range of the scores, is a number, got True"),
    "minimum nan": ({"minimum": math.nan}, "minimum, the lowest score there can be, is a finite number"),
    "minimum too high": ({"minimum": 9.0, "scale": 7}, "'video-4' has the score 8, below the minimum of 9"),
    "split one": ({"split": 1}, "split=1 is no share between 0 and 1: give the share"),
    "split zero": ({"split": 0.0}, "split=0.0 is no share between 0 and 1"),
    "split nan": ({"split": math.nan}, "split=nan is no share between 0 and 1"),
    "split none": ({"split": None}, "split is a NoneType: give the share"),
    "split text": ({"split": "test"}, "split is a str: give the share"),
    "split too small": ({"split": 0.01}, "a share of 0.01 of 6 videos leaves test without any"),
    "one video tested": ({"split": 0.17}, "one video in test, and a rank correlation compares two"),
    "shares of two": ({"split": [0.5, 0.2]}, "the shares of a split .* add up to 1"),
    "overlapping": ({"split": [[0, 1, 2, 3], [3, 4, 5]]}, "video 3 is in test and in train: keep it in one place"),
    "twice": ({"split": [[0, 1, 1, 2], [4, 5]]}, "video 1 is in train twice"),
    "outside": ({"split": [[0, 1, 2], [4, 6]]}, "the test part of the split names video 6: there are videos 0 to 5"),
    "from the end": ({"split": [[0, 1, 2], [-1, 4]]}, "the test part of the split names video -1"),
    "empty test": ({"split": [[0, 1, 2], []]}, "the split leaves test without videos"),
    "empty train": ({"split": [[], [1, 2]]}, "the split leaves train without videos"),
    "by names": ({"split": [["a"], ["b"]]}, "the train part of the split holds 'a': give indices"),
    "floats": ({"split": [[0.0, 1.0], [2.0, 3.0]]}, "the train part of the split holds 0.0: give indices"),
    "one list": ({"split": [0, 1, 2]}, "split is one list of whole numbers: give the share"),
    "four parts": ({"split": [[0], [1], [2], [3]]}, "split has 4 parts: give the share"),
    "other names": ({"split": {"train": [0], "dev": [1]}}, "a split has train, test and perhaps validation"),
    "short mask": ({"split": [True, False]}, "split is a mask of 2 and there are 6 videos"),
    "mask of no one": ({"split": np.zeros(N, dtype=bool)}, "the split leaves test without videos"),
    "mask of all": ({"split": np.ones(N, dtype=bool)}, "the split leaves train without videos"),
    "torn group": ({"split": [[0, 1, 2], [3, 4, 5]], "groups": list("aabbcc")}, "the split tears group 'b' apart"),
    "one group": ({"groups": ["a"] * N}, "1 groups cannot be split in 2 parts: give more, or lists"),
    "few groups": ({"groups": ["a"] * 5}, "there are 5 groups and 6 videos: give one group for every video"),
    "groups text": ({"groups": "aabbcc"}, "groups are a list, .*, got a str"),
    "a group unknown": ({"groups": ["a", "a", None, "b", "b", "c"]}, "entry 2 is None: give a text or a number"),
    "a group nan": ({"groups": [1, 1, math.nan, 2, 2, 3]}, "entry 2 is nan: give a text or a number"),
    "a group a list": ({"groups": [[1], [1], [2], [2], [3], [3]]}, "entry 0 is \\[1\\]: give a text or a number"),
    "names twice": ({"names": list("abcdea")}, "the name 'a' is given 2 times: give every video its own"),
    "few names": ({"names": list("abc")}, "there are 3 names and 6 scores"),
    "names text": ({"names": "abcdef"}, "names are a list of texts, one a video, got a str"),
    "an empty name": ({"names": ["", *"bcdef"]}, "name 0 is '', without letters: give a plain text"),
    "a path for a name": ({"names": ["../a", *"bcdef"]}, "name 0 is '../a', with parts of a path"),
    "a name none": ({"names": [None, *"bcdef"]}, "name 0 is None, a NoneType: give a plain text"),
    "a name of two lines": ({"names": ["a\nb", *"bcdef"]}, "name 0 is .*, with control characters"),
    "clips zero": ({"clips": 0}, "clips is the length of a crop, a whole number from 1 up, got 0"),
    "clips float": ({"clips": 4.0}, "clips is the length of a crop, a whole number from 1 up, got 4.0"),
    "seed": ({"seed": 0.5}, "a seed is a whole number from 0 up, got 0.5"),
    "dataset name": ({"name": "a/b"}, "name is 'a/b', with parts of a path"),
    "target none": ({"target": None}, "target is None, a NoneType"),
}


def refused(expected, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError) as caught:
            made(**arguments)
    sentence = str(caught.value)
    assert re.search(expected, sentence), sentence
    assert "\n" not in sentence
    assert len(sentence) < 300


def test_there_are_enough_of_them():
    assert len(FEATURES) + len(SCORED) + len(OPTIONS) >= 100


@pytest.mark.parametrize("case", FEATURES)
def test_features_are_refused_in_one_sentence(case):
    features, expected = FEATURES[case]
    refused(expected, features=features)


@pytest.mark.parametrize("case", SCORED)
def test_scores_are_refused_in_one_sentence(case):
    scores, expected = SCORED[case]
    refused(expected, scores=scores)


@pytest.mark.parametrize("case", OPTIONS)
def test_options_are_refused_in_one_sentence(case):
    options, expected = OPTIONS[case]
    refused(expected, **options)


def test_a_test_score_above_the_best_training_score_needs_a_scale():
    refused("'video-3' has the score 14, above 13.5, .*: give scale=", scale=None, split=[[0, 1, 5], [2, 3, 4]])
    refused(
        "all training scores are 0: give scale=", scores=[0, 0, 0, 1, 1, 1], scale=None, split=[[0, 1, 2], [3, 4, 5]]
    )


def split_of(label, **options):
    features = {"visual": ClipFeatures.stack(CLEAN[:2])}
    return Performances(["a", "b"], label, **({"scale": 1.0, "features": features, "clips": 3} | options))


@pytest.mark.filterwarnings("ignore:.*of different length")
@pytest.mark.parametrize(
    "features",
    [
        np.zeros((N, 1024, 30), dtype=np.float32),
        {"visual": np.zeros((N, 12, 30)), "audio": np.zeros((N, 30, 8))},
        {"visual": np.zeros((N, 30, 8)), "audio": [np.zeros((768, 30))] * N},
    ],
)
def test_axes_that_look_exchanged_are_said_where_they_can_be_read(features):
    with pytest.warns(
        UserWarning, match=r"every video has (1024|12|768) clips of \w+ features 30 wide: if these are 30 cl"
    ):
        made(features)


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((N, 30, 1024), dtype=np.float32),
        np.zeros((N, 1024, 768), dtype=np.float32),
        [np.zeros((length, 30)) for length in (1024, 1023, 1024, 1024, 1024, 1024)],
        {"visual": CLEAN, "audio": [np.zeros((len(each), 3)) for each in CLEAN]},
        {"visual": np.zeros((N, 30, 8)), "audio": np.zeros((N, 30, 30))},
    ],
)
def test_axes_that_do_not_are_not_spoken_of(features):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(features)


@pytest.mark.parametrize("label", [[50.0, 0.5], [0.5, -0.1], [0.5, math.nan], [math.inf, 0.5]])
def test_labels_outside_0_to_1_are_no_labels(label):
    with pytest.raises(ValueError, match=r"labels lie in 0 to 1, and '[ab]' has .*: divide scores by their scale, or"):
        split_of(torch.tensor(label))


@pytest.mark.parametrize("label", [[0.5, 0.5], torch.tensor([True, False]), torch.zeros(2, 1)])
def test_labels_are_one_number_a_video(label):
    with pytest.raises(ValueError, match="labels are a tensor of one number a video, got"):
        split_of(label)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_split_needs_a_scale_above_zero(scale):
    with pytest.raises(ValueError, match="scale is a number above 0"):
        split_of(torch.tensor([0.5, 0.5]), scale=scale)


def test_splits_of_one_dataset_are_alike():
    alike = split_of(torch.tensor([0.5, 0.5]))
    other = split_of(torch.tensor([0.5, 0.5]), scale=2.0)
    with pytest.raises(ValueError, match=r"differ in scale, 1\.0 in train and 2\.0 in test: make them alike"):
        Dataset("own", "score", alike, other)
    wider = split_of(torch.tensor([0.5, 0.5]), features={"visual": ClipFeatures.stack([np.ones((3, 9))] * 2)})
    with pytest.raises(ValueError, match="differ in widths"):
        Dataset("own", "score", alike, wider)


def tiny():
    return GDLT(in_dim=WIDTH, dim=8, n_heads=2)


SHARED = tiny()


@pytest.mark.parametrize(
    ("options", "fault", "expected"),
    [
        ({"folds": 1}, DataError, "folds is how many parts .*, a whole number from 2 up, got 1"),
        ({"folds": 2.0}, DataError, "folds is how many parts .*, got 2.0"),
        ({"folds": 7}, DataError, "there are 6 videos and 7 folds: give at least as many videos as folds"),
        ({"folds": 4}, DataError, "6 videos in 4 folds leave a fold with one video"),
        ({"folds": 3, "groups": list("aaabbb")}, DataError, "there are 2 groups and 3 folds"),
        ({"folds": 2, "groups": list("aaabb")}, DataError, "there are 5 groups and 6 videos"),
        ({"folds": 2, "fold_seed": -1}, DataError, "a seed is a whole number from 0 up, got -1"),
        ({"folds": 2, "build": tiny()}, TypeError, "build is a GDLT: give a function that makes a fresh model"),
        ({"folds": 2, "build": torch.nn.Linear}, TypeError, "build is Linear and is called without arguments .missing"),
        ({"folds": 2, "build": lambda fold: tiny()}, TypeError, "called without arguments .missing .* 'fold'"),
        ({"folds": 2, "dataset": CLEAN}, TypeError, "dataset is a list: give a Dataset, Dataset.from_arrays"),
        ({"folds": 2, "build": lambda: "model"}, TypeError, "build returned a str: return a model"),
        ({"folds": 2, "build": lambda: SHARED}, TypeError, "build returned one model twice"),
    ],
)
def test_folds_are_refused_in_one_sentence(options, fault, expected):
    given = {"build": tiny, "dataset": made()} | options
    with pytest.raises(fault, match=expected) as caught:
        cross_validate(**given, recipe=Recipe(), run=Run(epochs=1))
    assert "\n" not in str(caught.value)


def test_texts_of_a_sport_that_is_not_known_point_to_terms_of_your_own():
    with pytest.raises(ValueError, match=r"give its action terms, a list of texts, to TextFeatures\.encode"):
        TextFeatures.for_sport("vault")
