"""Reading RG in both released forms, one apparatus at a time, every fault that it can have, and simulating it."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from mag2.data import SCALES, TARGETS, DataError, raw_features, read_rg, simulate
from tests.test_data_fisv import Trap, content, remove, same_bits, spoilt, write_dict, write_rows
from tests.test_data_simulate import SMALL, random_texts

# name difficulty execution total
HEADER = "name difficulty execution total"
TRAIN_ROWS = {
    "header": HEADER,
    "Ball_001": "Ball_001 5.5 7.00 12.50",
    "Clubs_001": "Clubs_001 9 8 17",
    "Ball_003": "Ball_003\t2.000  3.000 5.000",
    "Hoop_001": "Hoop_001 6 6 12",
    "Ball_010": "Ball_010 8 8 15.75",
}
TEST_ROWS = {"header": HEADER, "Clubs_002": "Clubs_002 1 2 3", "Ball_002": "Ball_002 12.5 12.5 25"}
LENGTHS = {"Ball_001": 3, "Ball_003": 4, "Ball_010": 5, "Ball_002": 6, "Clubs_001": 4, "Clubs_002": 3}
KINDS = {"video": "rgb_VST", "audio": "audio_AST", "flow": "flow_I3D"}
WIDTHS = {"video": 6, "audio": 4, "flow": 5}


def features(sub, apparatus, **changed):
    rng = np.random.default_rng(WIDTHS[sub])
    made = {name: rng.standard_normal((clips, WIDTHS[sub]), dtype=np.float32) for name, clips in LENGTHS.items()}
    return {name: array for name, array in {**made, **changed}.items() if name.startswith(apparatus)}


def file(apparatus, sub):
    return f"{apparatus}_{KINDS[sub]}.npy"


def write_labels(folder):
    folder.mkdir()
    write_rows(folder / "train.txt", TRAIN_ROWS)
    write_rows(folder / "test.txt", TEST_ROWS)
    return folder


@pytest.fixture
def dicts(tmp_path):
    """Routines of 3 to 6 clips with ball and clubs, one dict per apparatus and modality."""
    folder = write_labels(tmp_path / "dicts")
    for apparatus in ("Ball", "Clubs"):
        for sub in KINDS:
            write_dict(folder / file(apparatus, sub), features(sub, apparatus))
    return folder


@pytest.fixture
def files(tmp_path):
    """The same, one file per routine."""
    folder = write_labels(tmp_path / "files")
    for sub in KINDS:
        (folder / sub).mkdir()
        for name, array in features(sub, "").items():
            np.save(folder / sub / f"{name}.npy", array)
    return folder


def test_both_layouts_equal_direct_reading_of_the_apparatus(dicts, files):
    data = read_rg(dicts, "Ball", clips=4)
    for split, names in ((data.train, ["Ball_001", "Ball_003", "Ball_010"]), (data.test, ["Ball_002"])):
        assert split.names == names
        batch = split.batch(range(len(names)))
        for sub, key in (("video", "visual"), ("audio", "audio"), ("flow", "flow")):
            for row, name in enumerate(names):
                raw = torch.from_numpy(features(sub, "Ball")[name])
                start = max(len(raw) - 4, 0) // 2
                crop = torch.zeros(4, WIDTHS[sub])
                crop[: len(raw)] = raw[start : start + 4]
                assert torch.equal(getattr(batch, key)[row], crop)
    assert (data.name, data.target, data.simulated) == ("RG", "Ball", False)
    same_bits(data, read_rg(files, "Ball", clips=4))
    same_bits(read_rg(dicts, "Clubs"), read_rg(files, "Clubs"))
    assert read_rg(files, "Clubs").train.names == ["Clubs_001"]
    assert read_rg(files, "Clubs").train.clips == 68


def test_the_target_is_the_total_divided_by_25(dicts):
    ball, clubs = read_rg(dicts, "Ball"), read_rg(dicts, "Clubs")
    assert torch.cat([ball.train.label, ball.test.label]).tolist() == pytest.approx([0.5, 0.2, 0.63, 1])
    assert torch.cat([clubs.train.label, clubs.test.label]).tolist() == pytest.approx([0.68, 0.12])
    assert {ball.train.scale, ball.test.scale, *SCALES["RG"].values()} == {25}


def test_a_label_file_without_a_header_loses_no_row(dicts):
    before = read_rg(dicts, "Ball")
    write_rows(dicts / "train.txt", {name: row for name, row in TRAIN_ROWS.items() if name != "header"})
    same_bits(read_rg(dicts, "Ball"), before)


def test_labels_and_features_may_lie_elsewhere_and_be_named_after_the_apparatus(dicts, tmp_path):
    before = read_rg(dicts, "Ball")
    (dicts / "train.txt").rename(dicts / "Ball_train.txt")
    (dicts / "test.txt").rename(tmp_path / "test.txt")
    (dicts / "Ball_rgb_VST.npy").rename(tmp_path / "vst-Ball.npy")
    (dicts / "Ball_audio_AST.npy").rename(dicts / "ast.npy")
    moved = {"train": "{apparatus}_train.txt", "test": tmp_path / "test.txt"}
    moved |= {"video": tmp_path / "vst-{apparatus}.npy", "audio": ("none.npy", "ast.npy")}
    same_bits(read_rg(dicts, "Ball", **moved), before)


def test_audio_and_flow_may_be_left_out(files):
    batch = read_rg(files, "Ball", audio=None, flow=None).train.batch([0])
    assert (batch.audio, batch.flow) == (None, None)


def test_modalities_of_different_length_are_cropped_to_the_shorter_with_one_warning(dicts):
    write_dict(dicts / file("Ball", "audio"), features("audio", "Ball", Ball_001=np.ones((5, 4), np.float32)))
    with pytest.warns(UserWarning, match="^1 of 4 videos of RG .*by 2 clips at most") as caught:
        data = read_rg(dicts, "Ball", clips=6)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert data.train.batch([0]).audio[0].abs().sum(1).tolist() == [4, 4, 4, 0, 0, 0]


@pytest.mark.parametrize("layout", ["dicts", "files"])
def test_the_apparatuses_keep_their_own_stores(layout, request, monkeypatch):
    folder = request.getfixturevalue(layout)
    first = [read_rg(folder, apparatus) for apparatus in ("Ball", "Clubs")]
    monkeypatch.setattr(raw_features, "load_pickle", None)  # either would fail if it were needed
    monkeypatch.setattr(raw_features, "map_npy", None)
    for data in first:
        same_bits(read_rg(folder, data.target), data)


def labels(split, **changed):
    rows = {"train": TRAIN_ROWS, "test": TEST_ROWS}[split]
    return lambda folder: write_rows(folder / f"{split}.txt", rows, **changed)


def entry(sub, **value):
    return lambda folder: write_dict(folder / file("Ball", sub), features(sub, "Ball", **value))


def without(sub, name):
    def fault(folder):
        videos = features(sub, "Ball")
        del videos[name]
        write_dict(folder / file("Ball", sub), videos)

    return fault


TRAIN, TEST = "train.txt", "test.txt"
RGB, AST, I3D = (file("Ball", sub) for sub in KINDS)
LABEL_FAULTS = {
    "no training labels": (remove(TRAIN), [TRAIN, "no label file"]),
    "no test labels": (remove(TEST), [TEST, "no label file"]),
    "labels without rows": (content(TEST, b"\n \n"), [TEST, "no rows"]),
    "a header and no rows": (content(TEST, HEADER.encode()), [TEST, "header", "no rows"]),
    "no rows of the apparatus": (content(TEST, b"Hoop_001 6 6 12\n"), [TEST, "no rows of Ball"]),
    "labels that are no text": (content(TRAIN, b"a\n\xff\xfe"), [TRAIN, "line 2", "UTF-8"]),
    "too few columns": (labels("train", Ball_003="Ball_003 5 5"), [TRAIN, "line 4", "3 columns", HEADER]),
    "too many columns": (labels("test", Ball_002="Ball_002 1 1 1 1"), [TEST, "line 3", "5 columns"]),
    "commas": (labels("test", header="Ball_005,1,1,2"), [TEST, "line 1", "1 columns"]),
    "a name of no apparatus": (
        labels("train", Ball_003="Bal_003 1 1 2"),
        [TRAIN, "line 4", "'Bal_003'", "Ball_, Clubs_"],
    ),
    "an unparsable total": (labels("train", Ball_010="Ball_010 1 1 2O"), [TRAIN, "line 6", "'2O'", "total"]),
    "an unparsable difficulty": (labels("train", Ball_010="Ball_010 - 1 2"), [TRAIN, "line 6", "'-'", "difficulty"]),
    "an unparsable number of another apparatus": (labels("train", Hoop_001="Hoop_001 1 1 x"), [TRAIN, "line 5", "'x'"]),
    "a total that is not finite": (labels("test", Ball_002="Ball_002 1 1 inf"), [TEST, "line 3", "'inf'", "total"]),
    "a total above its scale": (labels("train", Ball_003="Ball_003 13 12.1 25.1"), [TRAIN, "line 4", "25.1", "25"]),
    "a total below zero": (labels("test", Ball_002="Ball_002 1 1 -1"), [TEST, "line 3", "-1", "scale"]),
    "a duplicate name": (labels("train", Ball_003=TRAIN_ROWS["Ball_001"]), [TRAIN, "line 4", "line 2", "again"]),
    "a name in both splits": (labels("test", Ball_002="Ball_003 1 1 2"), [TEST, "line 3", TRAIN, "line 4"]),
}
FEATURE_FAULTS = {
    "no visual features": (remove(RGB), [RGB, "or", "video", "no feature folder or file"]),
    "no audio features": (remove(AST), [AST, "or", "audio", "no feature folder or file"]),
    "a routine missing from a dict": (without("video", "Ball_003"), [TRAIN, "line 4", "'Ball_003'", RGB, "no such"]),
    "a routine missing from the flow": (without("flow", "Ball_002"), [TEST, "line 3", "'Ball_002'", I3D, "no such"]),
    "a wrong width": (
        entry("audio", Ball_003=np.zeros((4, 3), np.float32)),
        [AST, "'Ball_003'", TRAIN, "line 4", "width 3", "'Ball_001'", "line 2", "have 4"],
    ),
    "no clips": (entry("video", Ball_003=np.zeros((0, 6))), [RGB, "'Ball_003'", TRAIN, "line 4", "empty"]),
    "NaN": (entry("video", Ball_003=spoilt(np.nan)), [RGB, "'Ball_003'", TRAIN, "line 4", "NaN", "clip 2"]),
    "a vector": (entry("audio", Ball_002=np.zeros(4)), [AST, "'Ball_002'", TEST, "line 3", "(4,)"]),
    "a list": (entry("audio", Ball_002=[[1.0]]), [AST, "'Ball_002'", TEST, "line 3", "holds a list"]),
    "no dict": (lambda folder: np.save(folder / RGB, np.zeros((4, 6))), [RGB, "holds a ndarray", "dict"]),
    "an empty file": (content(AST, b""), [AST, "no whole pickle"]),
}


@pytest.mark.parametrize("name", [*LABEL_FAULTS, *FEATURE_FAULTS])
def test_every_fault_is_one_sentence_that_names_file_and_line(dicts, name):
    break_it, named = {**LABEL_FAULTS, **FEATURE_FAULTS}[name]
    break_it(dicts)
    with pytest.raises(DataError) as caught:
        read_rg(dicts, "Ball")
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in named if part not in message] == []
    assert re.search(r": \w+", message), "the sentence says what to do"


@pytest.mark.parametrize("name", LABEL_FAULTS)
def test_labels_are_checked_before_any_feature_is_read(dicts, name):
    LABEL_FAULTS[name][0](dicts)
    for path in dicts.glob("*.npy"):
        path.write_bytes(b"never read")
    with pytest.raises(DataError, match=r"\.txt"):
        read_rg(dicts, "Ball")


def test_a_missing_file_of_one_routine_is_named(files):
    (files / "audio/Ball_003.npy").unlink()
    with pytest.raises(DataError, match=r"train\.txt line 4 names 'Ball_003' but .*audio/Ball_003\.npy"):
        read_rg(files, "Ball")


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(dicts, files, tmp_path):
    entry("audio", Ball_002=Trap(tmp_path / "ran"))(dicts)
    with pytest.raises(DataError, match=r"^[^\n]*Ball_audio_AST\.npy asks for [^\n]*$"):
        read_rg(dicts, "Ball")
    np.save(files / "audio/Ball_002.npy", np.array([Trap(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"^[^\n]*audio/Ball_002\.npy [^\n]*no plain array[^\n]*$"):
        read_rg(files, "Ball")
    assert not (tmp_path / "ran").exists()


def test_a_missing_folder_and_an_unknown_apparatus_are_named(dicts, tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        read_rg(tmp_path / "nowhere", "Ball")
    with pytest.raises(DataError, match=r"RG has no target 'ball'.*Ball, Clubs, Hoop, Ribbon"):
        read_rg(dicts, "ball")


@pytest.fixture(scope="module")
def simulation():
    return simulate(random_texts(), sport="rhythmic_gymnastics", train=22, test=9, length=(10, 20), widths=SMALL)


@pytest.mark.parametrize("variant", ["dict", "files"])
def test_a_simulation_reads_back_bit_for_bit_and_says_that_it_is_one(simulation, tmp_path, variant):
    simulation.write(tmp_path, variant)
    seen = []
    for apparatus in TARGETS["RG"]:
        read = read_rg(tmp_path, apparatus, clips=14)
        same_bits(simulation.dataset(apparatus, clips=14), read)
        assert read.simulated
        seen += read.train.names + read.test.names
    assert sorted(seen) == sorted(simulation.names)
    assert len(list(tmp_path.glob("*_*.npy"))) == (12 if variant == "dict" else 0)
    said = (tmp_path / "SIMULATED.txt").read_text()
    assert "layout of RG" in said
    assert "sport rhythmic_gymnastics" in said
    assert "prove nothing" in said


def test_the_written_label_files_are_the_released_ones(simulation, tmp_path):
    simulation.write(tmp_path)
    lines = (tmp_path / "train.txt").read_text().splitlines()
    assert lines[0].split("\t") == HEADER.split()
    assert [line.split()[0] for line in lines[1:]] == simulation.names[:22]
    for line in lines[1:]:
        name, difficulty, execution, total = line.split("\t")
        assert re.fullmatch(r"(Ball|Clubs|Hoop|Ribbon)_\d{3}", name)
        assert float(total) == pytest.approx(float(difficulty) + float(execution))
    assert sorted(Path(path).name for path in tmp_path.glob("Ball_*")) == sorted([RGB, AST, I3D])


def test_writing_in_the_other_layout_leaves_nothing_old_to_read(simulation, tmp_path):
    simulation.write(tmp_path, "dict")
    options = {"train": 22, "test": 9, "length": (10, 20), "seed": 1, "widths": {"visual": 9, "audio": 9}}
    other = simulate(random_texts(), sport="rhythmic_gymnastics", **options)
    for variant in ("files", "dict"):
        other.write(tmp_path, variant)
        for apparatus in TARGETS["RG"]:
            same_bits(read_rg(tmp_path, apparatus), other.dataset(apparatus))


def test_planted_actions_are_those_of_the_apparatus(simulation):
    for apparatus in TARGETS["RG"]:
        for split in ("train", "test"):
            names = getattr(simulation.dataset(apparatus), split).names
            planted = simulation.planted_actions(split, clips=20, target=apparatus)
            assert len(planted) == len(names)
            for row, name in zip(planted.tolist(), names, strict=True):
                action = simulation.action[simulation.names.index(name)].tolist()
                assert row == action + [-1] * (20 - len(action))
    assert len(simulation.planted_actions("train")) == 22
    assert simulation.planted_actions("test").shape == (9, 68)


def test_totals_lie_within_25_and_follow_what_was_planted():
    options = {"train": 300, "test": 100, "length": (30, 40), "widths": {"visual": 2, "audio": 2}}
    planted = simulate(random_texts(), sport="rhythmic_gymnastics", **options)
    total = np.array(planted.scores["total"])
    assert 4 < total.min() < 9
    assert 18 < total.max() < 25
    assert spearmanr([np.nanmean(q) for q in planted.q], total).statistic > 0.7
    assert spearmanr(planted.technical, planted.scores["difficulty"]).statistic == pytest.approx(1)
    assert 0.85 < spearmanr(planted.component, planted.scores["execution"]).statistic < 0.99


def test_too_few_videos_for_four_apparatuses_are_refused():
    with pytest.raises(ValueError, match=r"^RG wants 4 or more videos .* got 4 and 3$"):
        simulate(random_texts(), sport="rhythmic_gymnastics", train=4, test=3, widths=SMALL)
    simulate(random_texts(), sport="rhythmic_gymnastics", train=4, test=4, widths=SMALL).dataset("Ribbon")
