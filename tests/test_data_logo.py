"""Reading LOGO's released files, every fault that it can have, and simulating it."""

import pickle
import re

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from mag2.data import SCALES, TARGETS, DataError, DatasetSpec, read_logo, simulate
from tests.test_data_fisv import Trap, content, same_bits, spoilt
from tests.test_data_simulate import random_texts

ANNOTATIONS = {
    ("Worlds_2019", 3): ("free", 87.5, 2.4),
    ("Worlds_2019", 12): ("free", 62, [1, 2]),
    ("Open", 0): ["technical", np.float32(70.5), None],
    ("Open", 1): ("technical", np.float64(100.0)),
    ("Open", 2): ("never asked for", "and no number"),
}
TRAIN_KEYS = [("Worlds_2019", 3), ("Open", 0), ("Worlds_2019", 12)]
TEST_KEYS = [("Open", 1)]
LENGTHS = {"Worlds_2019_3": 3, "Open_0": 4, "Worlds_2019_12": 5, "Open_1": 6}


def features():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((clips, 6), dtype=np.float32) for name, clips in LENGTHS.items()}


def write_pickle(file, value):
    file.write_bytes(pickle.dumps(value))


@pytest.fixture
def folder(tmp_path):
    """Four videos of 3 to 6 clips."""
    folder = tmp_path / "logo"
    (folder / "video").mkdir(parents=True)
    write_pickle(folder / "anno_dict.pkl", ANNOTATIONS)
    write_pickle(folder / "train_split3.pkl", TRAIN_KEYS)
    write_pickle(folder / "test_split3.pkl", TEST_KEYS)
    for name, array in features().items():
        np.save(folder / "video" / f"{name}.npy", array)
    return folder


def test_what_is_read_equals_direct_reading(folder):
    data = read_logo(folder, clips=4)
    for split, keys in ((data.train, TRAIN_KEYS), (data.test, TEST_KEYS)):
        assert split.names == [f"{game}_{index}" for game, index in keys]
        batch = split.batch(range(len(keys)))
        assert (batch.audio, batch.flow) == (None, None)
        for row, name in enumerate(split.names):
            raw = torch.from_numpy(features()[name])
            start = max(len(raw) - 4, 0) // 2
            crop = torch.zeros(4, 6)
            crop[: len(raw)] = raw[start : start + 4]
            assert torch.equal(batch.visual[row], crop)
    assert (data.name, data.target, data.simulated) == ("LOGO", "score", False)
    assert read_logo(folder).train.clips == 160


def test_labels_are_element_1_divided_by_our_scale_of_100(folder):
    data = read_logo(folder)
    assert torch.cat([data.train.label, data.test.label]).tolist() == pytest.approx([0.875, 0.705, 0.62, 1])
    assert data.train.scale == data.test.scale == SCALES["LOGO"]["score"] == 100
    assert TARGETS["LOGO"] == ("score",)


def test_views_are_averaged(folder):
    crops = np.stack([features()["Open_1"] - 1, features()["Open_1"] + 3], axis=1)
    np.save(folder / "video/Open_1.npy", crops)
    ours = read_logo(folder, clips=6).test.batch([0]).visual[0]
    assert torch.equal(ours, torch.from_numpy(crops.mean(1)))


@pytest.mark.parametrize("index", [int, str, np.int64])
@pytest.mark.parametrize("container", [list, tuple, np.array])
def test_keys_may_be_pairs_of_any_plain_kind(folder, index, container):
    before = read_logo(folder)
    keys = [[game, index(number)] for game, number in TRAIN_KEYS]
    write_pickle(folder / "train_split3.pkl", container(keys))
    same_bits(read_logo(folder), before)


def test_files_may_lie_elsewhere(folder, tmp_path):
    before = read_logo(folder)
    for name in ("anno_dict.pkl", "train_split3.pkl", "video"):
        (folder / name).rename(tmp_path / f"other-{name}")
    (folder / "test_split3.pkl").rename(folder / "held_out.pkl")
    moved = {"annotations": tmp_path / "other-anno_dict.pkl", "train": tmp_path / "other-train_split3.pkl"}
    moved |= {"test": "held_out.pkl", "features": tmp_path / "other-video"}
    same_bits(read_logo(folder, **moved), before)


def pickled(file, value):
    return lambda folder: write_pickle(folder / file, value)


def annotation(value, key=("Open", 0)):
    return pickled("anno_dict.pkl", {**ANNOTATIONS, key: value})


def remove(path):
    return lambda folder: (folder / path).rename(folder.with_name("gone"))


def array(name, values):
    return lambda folder: np.save(folder / "video" / f"{name}.npy", values)


ANNO, TRAIN, TEST = "anno_dict.pkl", "train_split3.pkl", "test_split3.pkl"
LABEL_FAULTS = {
    "no annotations": (remove(ANNO), [ANNO, "no label file"]),
    "no training split": (remove(TRAIN), [TRAIN, "no label file"]),
    "no test split": (remove(TEST), [TEST, "no label file"]),
    "annotations that are no dict": (pickled(ANNO, [1]), [ANNO, "holds a list", "dict"]),
    "a split that is no list": (pickled(TEST, "Open"), [TEST, "holds a str", "list"]),
    "an empty split": (pickled(TEST, []), [TEST, "empty list"]),
    "a key that is no pair": (pickled(TRAIN, [("Open", 0), ("Open",)]), [TRAIN, "entry 2", "('Open',)", "pair"]),
    "a key without a game": (pickled(TRAIN, [(0, "Open")]), [TRAIN, "entry 1", "(0, 'Open')", "pair"]),
    "a key with half an index": (pickled(TRAIN, [("Open", 0.5)]), [TRAIN, "entry 1", "0.5", "pair"]),
    "a long key": (pickled(TRAIN, ["a\nb" * 999]), [TRAIN, "entry 1", "pair"]),
    "an annotated key that is no pair": (annotation((1, 2), key="Open_0"), [ANNO, "entry 6", "'Open_0'", "pair"]),
    "a key annotated twice": (annotation((1, 2), key=("Open", "0")), [ANNO, "entry 6", "'Open_0'", "second time"]),
    "a key without annotation": (pickled(TRAIN, [("Open", 0), ("Open", 7)]), [TRAIN, "entry 2", "'Open_7'", ANNO]),
    "an annotation without a score": (annotation(("free",)), [ANNO, "'Open_0'", "('free',)", "element 1"]),
    "an annotation that is a number": (annotation(87.5), [ANNO, "'Open_0'", "87.5", "element 1"]),
    "an annotation that is an array": (annotation(np.zeros((2, 2))), [ANNO, "'Open_0'", "array", "element 1"]),
    "a score in words": (annotation(("free", "87.5")), [ANNO, "'Open_0'", "'87.5'", "number"]),
    "a score that is true": (annotation(("free", True)), [ANNO, "'Open_0'", "True", "number"]),
    "a score that is an array": (annotation(("free", np.zeros((2, 2)))), [ANNO, "'Open_0'", "array", "number"]),
    "a score above its scale": (annotation(("free", 100.5)), [ANNO, "'Open_0'", "100.5", "100"]),
    "a score beyond all floats": (annotation(("free", 10**400)), [ANNO, "'Open_0'", "scale of 0 to 100"]),
    "a score below zero": (annotation(("free", -1)), [ANNO, "'Open_0'", "-1", "scale"]),
    "a score that is not finite": (annotation(("free", float("nan"))), [ANNO, "'Open_0'", "nan", "scale"]),
    "a duplicate key": (pickled(TRAIN, [*TRAIN_KEYS, ("Open", 0)]), [TRAIN, "entry 4", "entry 2", "'Open_0'", "again"]),
    "a key in both splits": (pickled(TEST, [("Open", 0)]), [TEST, "entry 1", TRAIN, "entry 2", "'Open_0'"]),
    "no pickle": (content(ANNO, b"hello"), [ANNO, "no whole pickle"]),
    "half a pickle": (lambda folder: content(ANNO, (folder / ANNO).read_bytes()[:-9])(folder), [ANNO, "no whole"]),
}
FEATURE_FAULTS = {
    "no features": (remove("video"), ["video", "no feature folder"]),
    "a missing video": (lambda folder: (folder / "video/Open_0.npy").unlink(), [TRAIN, "entry 2", "video/Open_0.npy"]),
    "a wrong width": (
        array("Open_1", np.zeros((4, 3), np.float32)),
        ["Open_1.npy", TEST, "entry 1", "width 3", "Worlds_2019_3.npy", "have 6"],
    ),
    "no clips": (array("Open_0", np.zeros((0, 6))), ["Open_0.npy", TRAIN, "entry 2", "empty"]),
    "NaN": (array("Open_0", spoilt(np.nan)), ["Open_0.npy", TRAIN, "entry 2", "NaN", "clip 2"]),
    "infinity": (array("Open_0", spoilt(np.inf)), ["Open_0.npy", TRAIN, "entry 2", "infinite", "clip 2"]),
    "a vector": (array("Open_1", np.zeros(4)), ["Open_1.npy", TEST, "entry 1", "(4,)"]),
    "words": (array("Open_1", np.full((6, 4), "x")), ["Open_1.npy", TEST, "entry 1", "<U1", "numbers"]),
    "text": (content("video/Open_1.npy", b"hello\n"), ["Open_1.npy", TEST, "entry 1", "no plain array"]),
}


@pytest.mark.parametrize("name", [*LABEL_FAULTS, *FEATURE_FAULTS])
def test_every_fault_is_one_sentence_that_names_file_and_entry(folder, name):
    break_it, named = {**LABEL_FAULTS, **FEATURE_FAULTS}[name]
    break_it(folder)
    with pytest.raises(DataError) as caught:
        read_logo(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in named if part not in message] == []
    assert re.search(r": \w+", message), "the sentence says what to do"


@pytest.mark.parametrize("name", LABEL_FAULTS)
def test_labels_are_checked_before_any_feature_is_read(folder, name):
    LABEL_FAULTS[name][0](folder)
    for path in folder.glob("*/*.npy"):
        path.write_bytes(b"never read")
    with pytest.raises(DataError, match=r"\.pkl"):
        read_logo(folder)


@pytest.mark.parametrize("file", [ANNO, TRAIN, TEST])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(folder, tmp_path, file):
    write_pickle(folder / file, {("Open", 0): (Trap(tmp_path / "ran"), 50.0)})
    with pytest.raises(DataError, match=rf"^[^\n]*{file} asks for [^\n]*$"):
        read_logo(folder)
    assert not (tmp_path / "ran").exists()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere.*anno_dict\.pkl"):
        read_logo(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def simulation():
    options = {"train": 22, "test": 9, "length": (10, 20), "widths": {"visual": 48}}
    return simulate(random_texts(), sport="artistic_swimming", **options)


def test_a_simulation_reads_back_bit_for_bit_and_says_that_it_is_one(simulation, tmp_path):
    simulation.write(tmp_path)
    read = read_logo(tmp_path, clips=14)
    same_bits(simulation.dataset("score", clips=14), read)
    assert read.simulated
    assert read.train.widths == {"visual": 48}
    assert read.train.names == simulation.names[:22]
    said = (tmp_path / "SIMULATED.txt").read_text()
    assert "layout of LOGO" in said
    assert "sport artistic_swimming" in said
    assert "prove nothing" in said


def test_the_written_files_are_the_released_ones(simulation, tmp_path):
    simulation.write(tmp_path)
    scores, train, test = (pickle.loads((tmp_path / name).read_bytes()) for name in (ANNO, TRAIN, TEST))
    assert [scores[key][1] for key in (*train, *test)] == simulation.scores["score"]
    assert all(isinstance(game, str) and isinstance(index, int) for game, index in scores)
    assert {path.stem for path in (tmp_path / "video").iterdir()} == {f"{game}_{index}" for game, index in scores}


def test_scores_lie_within_100_and_follow_what_was_planted():
    options = {"train": 300, "test": 100, "length": (30, 40), "widths": {"visual": 2}}
    planted = simulate(random_texts(), sport="artistic_swimming", **options)
    assert 50 < min(planted.scores["score"]) < 70
    assert 90 < max(planted.scores["score"]) < 100
    assert spearmanr([np.nanmean(q) for q in planted.q], planted.scores["score"]).statistic > 0.7
    assert spearmanr(planted.technical, planted.scores["score"]).statistic > 0.85


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"widths": {"visual": 8, "audio": 8}}, "widths of LOGO wants visual, got ['audio', 'visual']"),
        ({"widths": {}}, "widths of LOGO wants visual, got []"),
        ({"sport": "darts"}, "'darts' is simulated; there are figure_skating, rhythmic_gymnastics, artistic_swimming"),
    ],
)
def test_what_cannot_be_simulated_is_one_plain_sentence(options, said):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        simulate(random_texts(), **{"sport": "artistic_swimming", "train": 2, "test": 1, **options})
    assert said in str(caught.value)


def test_a_dataset_brings_its_own_sport(simulation):
    assert isinstance(simulation.spec, DatasetSpec)
    with pytest.raises(ValueError, match="LOGO is of artistic_swimming, got the sport 'figure_skating'"):
        simulate(random_texts(), sport="figure_skating", spec=simulation.spec)
    options = {"train": 2, "test": 1, "length": (9, 9), "widths": {"visual": 4}}
    assert simulate(random_texts(), spec=simulation.spec, **options).sport == "artistic_swimming"


def test_another_datasets_target_is_refused(simulation):
    with pytest.raises(DataError, match="LOGO has no target 'TES': choose one of score"):
        simulation.dataset("TES")
