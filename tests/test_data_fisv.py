"""Reading Fis-V in both released forms, every fault that it can have, and simulating it with real scores."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from mag2.data import TARGETS, DataError, raw_features, read_fisv, simulate_fisv
from tests.test_data_simulate import SMALL, random_texts

REAL = Path(__file__).parents[2] / "shared" / "fisv"

# number TES PCS deduction
TRAIN_ROWS = {"1": "1 22.5 20 1", "3": "3 9.00 30.00 0", "12": "12\t36  10 0"}
TEST_ROWS = {"2": "2 45 40 2"}
LENGTHS = {"1": 3, "3": 4, "12": 5, "2": 6}
FILES = {"video": "FISV_rgb_VST.npy", "audio": "FISV_audio_AST.npy", "flow": "FISV_flow_I3D.npy"}
WIDTHS = {"video": 6, "audio": 4, "flow": 5}


def features(**changed):
    rng = np.random.default_rng(0)
    made = {
        sub: {name: rng.standard_normal((clips, width), dtype=np.float32) for name, clips in LENGTHS.items()}
        for sub, width in WIDTHS.items()
    }
    return {sub: {**videos, **changed.get(sub, {})} for sub, videos in made.items()}


def write_rows(path, rows, **changed):
    path.write_text("".join(row + "\n" for row in {**rows, **changed}.values()))


def write_labels(folder):
    folder.mkdir()
    write_rows(folder / "train.txt", TRAIN_ROWS)
    write_rows(folder / "test.txt", TEST_ROWS)
    return folder


def write_dict(file, videos):
    np.save(file, videos, allow_pickle=True)


@pytest.fixture
def dicts(tmp_path):
    """Four videos of 3 to 6 clips, one dict per modality."""
    folder = write_labels(tmp_path / "dicts")
    for sub, videos in features().items():
        write_dict(folder / FILES[sub], videos)
    return folder


@pytest.fixture
def files(tmp_path):
    """The same, one file per video."""
    folder = write_labels(tmp_path / "files")
    for sub, videos in features().items():
        (folder / sub).mkdir()
        for name, array in videos.items():
            np.save(folder / sub / f"{name}.npy", array)
    return folder


def same_bits(left, right):
    """The two datasets have the same names and give the same batches, bit for bit."""
    assert left.fingerprint == right.fingerprint
    for a, b in ((left.train, right.train), (left.test, right.test)):
        assert (a.names, a.scale, a.widths, a.clips) == (b.names, b.scale, b.widths, b.clips)
        for seed in (None, 7):
            ours, theirs = (
                split.batch(range(len(a)), seed and torch.Generator().manual_seed(seed)) for split in (a, b)
            )
            for key in ("visual", "audio", "flow", "vision_language", "label"):
                one, other = getattr(ours, key), getattr(theirs, key)
                assert (one is None) == (other is None)
                assert one is None or torch.equal(one.view(torch.int32), other.view(torch.int32))


def test_both_layouts_equal_direct_reading(dicts, files):
    data = read_fisv(dicts, "TES", clips=4)
    for split, names in ((data.train, ["1", "3", "12"]), (data.test, ["2"])):
        assert split.names == names
        batch = split.batch(range(len(names)))
        for sub, key in (("video", "visual"), ("audio", "audio"), ("flow", "flow")):
            for row, name in enumerate(names):
                raw = torch.from_numpy(features()[sub][name])
                start = max(len(raw) - 4, 0) // 2
                crop = torch.zeros(4, WIDTHS[sub])
                crop[: len(raw)] = raw[start : start + 4]
                assert torch.equal(getattr(batch, key)[row], crop)
    assert (data.name, data.target, data.simulated) == ("Fis-V", "TES", False)
    same_bits(data, read_fisv(files, "TES", clips=4))
    assert read_fisv(files, "TES").train.clips == 136


def test_the_numbers_of_a_dict_may_be_integers_or_text(dicts):
    before = read_fisv(dicts, "TES")
    write_dict(dicts / FILES["video"], {int(name): array for name, array in features()["video"].items()})
    write_dict(dicts / FILES["audio"], {np.int64(name): array for name, array in features()["audio"].items()})
    same_bits(read_fisv(dicts, "TES"), before)


def test_views_in_a_dict_are_averaged_and_videos_without_label_are_left_alone(dicts):
    crops = {name: np.stack([array - 1, array + 1], axis=1) for name, array in features()["video"].items()}
    before = read_fisv(dicts, "TES", clips=6).train.batch([0, 1, 2]).visual
    write_dict(dicts / FILES["video"], {**crops, "99": "no features at all"})
    after = read_fisv(dicts, "TES", clips=6).train.batch([0, 1, 2]).visual
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize(
    ("target", "labels", "scale"), [("TES", [0.5, 0.2, 0.8, 1], 45), ("PCS", [0.5, 0.75, 0.25, 1], 40)]
)
def test_labels_are_divided_by_the_published_scale(dicts, target, labels, scale):
    data = read_fisv(dicts, target)
    assert torch.cat([data.train.label, data.test.label]).tolist() == pytest.approx(labels)
    assert data.train.scale == data.test.scale == scale
    assert data.target == target


def test_a_header_and_the_deductions_may_be_there_or_not(dicts):
    before = read_fisv(dicts, "PCS")
    write_rows(dicts / "train.txt", {"header": "Video TES PCS Deductions (falls)", **TRAIN_ROWS})
    (dicts / "test.txt").write_text("\n2 45 40\r\n")
    same_bits(read_fisv(dicts, "PCS"), before)


def test_labels_and_features_may_lie_elsewhere(dicts, files, tmp_path):
    before = read_fisv(dicts, "TES")
    (dicts / "train.txt").rename(tmp_path / "fit.txt")
    (dicts / FILES["video"]).rename(tmp_path / "vst.npy")
    (dicts / FILES["audio"]).rename(dicts / "ast.npy")
    moved = {"train": tmp_path / "fit.txt", "video": tmp_path / "vst.npy", "audio": "ast.npy", "flow": files / "flow"}
    same_bits(read_fisv(dicts, "TES", **moved), before)


def test_a_dict_goes_before_a_folder(dicts):
    before = read_fisv(dicts, "TES")
    (dicts / "video").mkdir()
    same_bits(read_fisv(dicts, "TES"), before)


def test_audio_and_flow_may_be_left_out_and_flow_may_be_absent(dicts):
    batch = read_fisv(dicts, "TES", audio=None, flow=None).train.batch([0])
    assert (batch.audio, batch.flow) == (None, None)
    (dicts / FILES["flow"]).unlink()
    assert read_fisv(dicts, "TES").train.widths == {"visual": 6, "audio": 4}


def test_modalities_of_different_length_are_cropped_to_the_shorter_with_one_warning(dicts):
    longer = {"1": np.ones((5, 4), np.float32), "2": np.ones((2, 4), np.float32)}
    write_dict(dicts / FILES["audio"], features(audio=longer)["audio"])
    with pytest.warns(UserWarning, match="^2 of 4 videos of Fis-V .*by 4 clips at most") as caught:
        data = read_fisv(dicts, "TES", clips=6)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert data.train.batch([0]).audio[0].abs().sum(1).tolist() == [4, 4, 4, 0, 0, 0]
    assert (data.test.batch([0]).visual[0].abs().sum(1) > 0).tolist() == [True] * 2 + [False] * 4


def test_a_dict_is_unpickled_once_and_never_again_from_the_store(dicts, monkeypatch):
    opened, load_pickle = [], raw_features.load_pickle
    monkeypatch.setattr(raw_features, "load_pickle", lambda file: (opened.append(file.name), load_pickle(file))[1])
    first = read_fisv(dicts, "TES")
    assert sorted(opened) == sorted(FILES.values())
    same_bits(read_fisv(dicts, "TES"), first)
    read_fisv(dicts, "PCS")
    assert len(opened) == 3
    write_dict(dicts / FILES["audio"], {name: 2 * array for name, array in features()["audio"].items()})
    os.utime(dicts / FILES["audio"], ns=(0, 0))  # whatever the clock's step is
    assert read_fisv(dicts, "TES").fingerprint != first.fingerprint
    assert opened[3:] == [FILES["audio"]]


def test_progress_counts_every_video_of_every_modality(dicts):
    calls = []
    read_fisv(dicts, "TES", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 12) for done in range(1, 13)]


def labels(split, **changed):
    rows = {"train": TRAIN_ROWS, "test": TEST_ROWS}[split]
    return lambda folder: write_rows(folder / f"{split}.txt", rows, **changed)


def content(path, raw):
    return lambda folder: (folder / path).write_bytes(raw)


def remove(path):
    return lambda folder: (folder / path).rename(folder / "gone")


def entry(sub, name, value):
    """A fault of one entry of a dict."""
    return lambda folder: write_dict(folder / FILES[sub], features(**{sub: {name: value}})[sub])


def without(sub, name):
    def fault(folder):
        videos = features()[sub]
        del videos[name]
        write_dict(folder / FILES[sub], videos)

    return fault


def spoilt(value):
    array = np.zeros((4, 6), np.float32)
    array[2, 1] = value
    return array


TRAIN, TEST, RGB, AST, I3D = "train.txt", "test.txt", *FILES.values()
LABEL_FAULTS = {
    "no training labels": (remove(TRAIN), [TRAIN, "no label file"]),
    "no test labels": (remove(TEST), [TEST, "no label file"]),
    "labels without rows": (content(TEST, b"\n \n"), [TEST, "no rows"]),
    "a header and no rows": (content(TEST, b"number TES PCS\n"), [TEST, "header", "no rows"]),
    "labels that are no text": (content(TRAIN, b"1 1\n\xff\xfe"), [TRAIN, "line 2", "UTF-8"]),
    "too few columns": (labels("train", **{"3": "3 9"}), [TRAIN, "line 2", "2 columns", "number TES PCS deduction"]),
    "too many columns": (labels("test", **{"2": "2 1 1 1 1"}), [TEST, "line 1", "5 columns"]),
    "commas": (labels("test", **{"2": "2,45,40,2"}), [TEST, "line 1", "1 columns"]),
    "numbers that are none in the first line": (content(TEST, b"x nan nan 0\n"), [TEST, "line 1", "TES", "nan"]),
    "a second header": (labels("train", **{"3": "number TES PCS deduction"}), [TRAIN, "line 2", "'TES'", "number"]),
    "an unparsable number": (labels("train", **{"1": "1 x22.5 20 1"}), [TRAIN, "line 1", "'x22.5'", "TES"]),
    "an unparsable PCS when TES is read": (
        labels("train", **{"12": "12 1 2O 1"}),
        [TRAIN, "line 3", "'2O'", "PCS"],
    ),
    "a score that is not finite": (labels("train", **{"12": "12 nan 1 1"}), [TRAIN, "line 3", "'nan'", "TES"]),
    "a score above its scale": (labels("train", **{"3": "3 45.1 1 1"}), [TRAIN, "line 2", "45.1", "45"]),
    "a score below zero": (labels("test", **{"2": "2 -1 1 1"}), [TEST, "line 1", "-1", "scale"]),
    "a duplicate number": (labels("train", **{"12": TRAIN_ROWS["1"]}), [TRAIN, "line 3", "line 1", "'1'", "again"]),
    "a number in both splits": (labels("test", **{"2": "3 1 1 1"}), [TEST, "line 1", TRAIN, "line 2", "'3'"]),
}
FEATURE_FAULTS = {
    "no visual features": (remove(RGB), [RGB, "or", "video", "no feature folder or file"]),
    "no audio features": (remove(AST), [AST, "or", "audio", "no feature folder or file"]),
    "a video missing from a dict": (without("video", "3"), [TRAIN, "line 2", "'3'", RGB, "no such video"]),
    "a video missing from the flow": (without("flow", "2"), [TEST, "line 1", "'2'", I3D, "no such video"]),
    "a number twice": (entry("video", 3, np.zeros((4, 6))), [RGB, "'3' twice"]),
    "a wrong width": (
        entry("audio", "3", np.zeros((4, 3), np.float32)),
        [AST, "'3'", TRAIN, "line 2", "width 3", "'1'", "line 1", "have 4"],
    ),
    "no clips": (entry("video", "3", np.zeros((0, 6), np.float32)), [RGB, "'3'", TRAIN, "line 2", "empty"]),
    "NaN": (entry("video", "3", spoilt(np.nan)), [RGB, "'3'", TRAIN, "line 2", "NaN or infinite", "clip 2"]),
    "infinity": (entry("video", "3", spoilt(np.inf)), [RGB, "'3'", TRAIN, "line 2", "NaN or infinite", "clip 2"]),
    "a vector": (entry("audio", "2", np.zeros(4, np.float32)), [AST, "'2'", TEST, "line 1", "(4,)"]),
    "words": (entry("audio", "2", np.full((6, 4), "x")), [AST, "'2'", TEST, "line 1", "<U1", "numbers"]),
    "a list": (entry("audio", "2", [[1.0]]), [AST, "'2'", TEST, "line 1", "holds a list"]),
    "no dict": (lambda folder: np.save(folder / RGB, np.zeros((4, 6))), [RGB, "holds a ndarray", "dict"]),
    "text": (content(AST, b"hello\nworld\n"), [AST, "no whole pickle"]),
    "an empty file": (content(AST, b""), [AST, "no whole pickle"]),
    "half a pickle": (lambda folder: content(AST, (folder / AST).read_bytes()[:-50])(folder), [AST, "no whole pickle"]),
}


@pytest.mark.parametrize("name", [*LABEL_FAULTS, *FEATURE_FAULTS])
def test_every_fault_is_one_sentence_that_names_file_and_line(dicts, name):
    break_it, named = {**LABEL_FAULTS, **FEATURE_FAULTS}[name]
    break_it(dicts)
    with pytest.raises(DataError) as caught:
        read_fisv(dicts, "TES")
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
        read_fisv(dicts, "TES")


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (lambda folder: (folder / "video/3.npy").unlink(), [TRAIN, "line 2", "'3'", "video/3.npy"]),
        (lambda folder: np.save(folder / "audio/2.npy", np.zeros((6, 5))), [TEST, "line 1", "audio/2.npy", "width 5"]),
        (lambda folder: np.save(folder / "video/3.npy", spoilt(np.nan)), [TRAIN, "line 2", "video/3.npy", "clip 2"]),
    ],
)
def test_faults_of_the_other_layout_name_the_videos_own_file(files, fault, named):
    fault(files)
    with pytest.raises(DataError, match=r"^[^\n]+: \w[^\n]+$") as caught:
        read_fisv(files, "TES")
    assert [part for part in named if part not in str(caught.value)] == []


class Trap:
    """Pickles as a call that would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(dicts, files, tmp_path):
    entry("audio", "2", Trap(tmp_path / "ran"))(dicts)
    with pytest.raises(DataError, match=r"^[^\n]*FISV_audio_AST\.npy asks for [^\n]*$"):
        read_fisv(dicts, "TES")
    np.save(files / "audio/2.npy", np.array([Trap(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"^[^\n]*audio/2\.npy [^\n]*no plain array[^\n]*$"):
        read_fisv(files, "TES")
    assert not (tmp_path / "ran").exists()


def test_a_missing_folder_and_an_unknown_target_are_named(dicts, tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        read_fisv(tmp_path / "nowhere", "TES")
    with pytest.raises(DataError, match=r"Fis-V has no target 'SS'.*TES, PCS"):
        read_fisv(dicts, "SS")


@pytest.fixture(scope="module")
def simulation():
    return simulate_fisv(random_texts(), train=20, test=8, length=(10, 20), widths=SMALL)


@pytest.mark.parametrize("variant", ["dict", "files"])
def test_a_simulation_reads_back_bit_for_bit_and_says_that_it_is_one(simulation, tmp_path, variant):
    simulation.write(tmp_path, variant)
    for target in TARGETS["Fis-V"]:
        read = read_fisv(tmp_path, target, clips=14)
        same_bits(simulation.dataset(target, clips=14), read)
        assert read.simulated
        assert simulation.dataset(target).simulated
    assert {path.name for path in tmp_path.glob("FISV_*")} == (set(FILES.values()) if variant == "dict" else set())
    said = (tmp_path / "SIMULATED.txt").read_text()
    assert "layout of Fis-V" in said
    assert "prove nothing" in said
    assert "real labels" not in said


def test_writing_in_the_other_layout_leaves_nothing_old_to_read(simulation, tmp_path):
    simulation.write(tmp_path, "dict")
    (tmp_path / "notes.txt").write_text("mine")
    other = simulate_fisv(random_texts(), train=20, test=8, length=(10, 20), widths={"visual": 9, "audio": 9}, seed=1)
    for variant in ("files", "dict", "files"):
        other.write(tmp_path, variant)
        same_bits(read_fisv(tmp_path, "TES"), other.dataset("TES"))
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "flow").exists()


def test_features_taken_from_a_simulated_folder_make_the_whole_simulated(simulation, dicts, tmp_path):
    simulation.write(tmp_path / "new", "dict")
    write_dict(tmp_path / "new" / FILES["video"], features()["video"])
    assert not read_fisv(dicts, "TES").simulated
    assert read_fisv(dicts, "TES", video=tmp_path / "new" / FILES["video"]).simulated


def test_simulated_scores_are_spread_like_the_real_ones():
    if not REAL.is_dir():
        pytest.skip("the real scores are not here")
    real = np.concatenate([np.loadtxt(REAL / name) for name in ("train.txt", "test.txt")])
    ours = simulate_fisv(random_texts(), train=400, test=100, length=(40, 40), widths={"visual": 2, "audio": 2})
    for column, target in ((1, "TES"), (2, "PCS")):
        quantiles = [
            np.quantile(scores, (0.05, 0.25, 0.5, 0.75, 0.95)) for scores in (ours.scores[target], real[:, column])
        ]
        assert np.abs(quantiles[0] - quantiles[1]).max() < 1.5
        assert all(float(f"{score:.2f}") == score for score in ours.scores[target])
    assert abs(np.corrcoef(ours.scores["TES"], ours.scores["PCS"])[0, 1] - np.corrcoef(real[:, 1:3].T)[0, 1]) < 0.1


def real_like(folder, n=60):
    """Label files like the real ones: unsorted numbers, correlated scores."""
    rng = np.random.default_rng(0)
    tes = rng.uniform(10, 42, n)
    pcs = 0.8 * tes + rng.uniform(0, 6, n)
    rows = [
        f"{number} {a:.2f} {b:.2f} {number % 3}\n"
        for number, a, b in zip(rng.permutation(n) + 1, tes, pcs, strict=True)
    ]
    folder.mkdir()
    (folder / "train.txt").write_text("".join(rows[:40]))
    (folder / "test.txt").write_text("".join(rows[40:]))
    return folder


def test_real_scores_and_split_stay_as_they_are_and_only_features_are_simulated(tmp_path):
    real = real_like(tmp_path / "real")
    simulated = simulate_fisv(random_texts(), labels=real, length=(10, 20), widths=SMALL)
    simulated.write(tmp_path / "written")
    for split in ("train.txt", "test.txt"):
        written = tmp_path / "written" / split
        assert written.read_text().splitlines()[0] == "number TES PCS deduction"
        assert np.array_equal(np.loadtxt(real / split), np.loadtxt(written, skiprows=1))
    for target in ("TES", "PCS"):
        data = simulated.dataset(target, clips=12)
        assert data.simulated
        assert data.train.names == [row.split()[0] for row in (real / "train.txt").read_text().splitlines()]
        same_bits(data, read_fisv(tmp_path / "written", target, clips=12))
        assert read_fisv(tmp_path / "written", target).simulated
    said = (tmp_path / "written" / "SIMULATED.txt").read_text()
    assert "SIMULATED: real labels, simulated features" in said


def test_real_labels_without_deductions_are_written_without_them(tmp_path):
    real = real_like(tmp_path / "real", n=45)
    path = real / "test.txt"
    path.write_text("".join(" ".join(row.split()[:3]) + "\n" for row in path.read_text().splitlines()))
    simulate_fisv(random_texts(), labels=real, length=(9, 9), widths=SMALL).write(tmp_path / "written", "files")
    assert {len(row.split()) for row in (tmp_path / "written" / "test.txt").read_text().splitlines()} == {3}


@pytest.mark.parametrize("labels", ["like the real ones", "real"])
def test_performances_deserve_the_real_scores_that_they_get(tmp_path, labels):
    if labels == "real" and not REAL.is_dir():
        pytest.skip("the real scores are not here")
    folder = REAL if labels == "real" else real_like(tmp_path / "real", n=300)
    planted = simulate_fisv(random_texts(), labels=folder, length=(40, 40), widths={"visual": 48, "audio": 2})
    assert spearmanr(planted.technical, planted.scores["TES"]).statistic > 0.995
    assert spearmanr(planted.component, planted.scores["PCS"]).statistic > 0.85
    # What was planted, and the features themselves, go with the performance to its video.
    q = [np.nanmean(q) for q in planted.q]
    assert spearmanr(q, planted.scores["PCS"]).statistic > 0.7
    data = planted.dataset("TES", clips=40)
    x, z = (split.batch(range(len(split))).visual.mean(1).double() for split in (data.train, data.test))
    centre, y = x.mean(0), data.train.label.double()
    weight = torch.linalg.solve((x - centre).T @ (x - centre) + 10 * torch.eye(48), (x - centre).T @ (y - y.mean()))
    assert spearmanr((z - centre) @ weight, data.test.label).statistic > 0.5


def test_what_real_labels_do_not_allow_is_one_plain_sentence(tmp_path):
    real = real_like(tmp_path / "real")
    with pytest.raises(ValueError, match=r"^the real labels say how many .*leave test and train out$"):
        simulate_fisv(random_texts(), labels=real, train=5, test=5)
    (real / "test.txt").write_text("1 46 20 0\n")
    with pytest.raises(DataError, match=r"^[^\n]*test\.txt line 1 [^\n]*46[^\n]*$"):
        simulate_fisv(random_texts(), labels=real)
    (real / "test.txt").write_text((real / "train.txt").read_text())
    with pytest.raises(DataError, match=r"test\.txt line 1 .*train\.txt line 1"):
        simulate_fisv(random_texts(), labels=real)
    with pytest.raises(DataError, match=r"no label file .*train\.txt"):
        simulate_fisv(random_texts(), labels=tmp_path / "nowhere")


def test_an_unknown_variant_is_named(simulation, tmp_path):
    with pytest.raises(ValueError, match="no variant 'zip': choose one of dict, files"):
        simulation.write(tmp_path, "zip")
    with pytest.raises(DataError, match=r"performances of Fis-V, not FS1000"):
        simulation.write_fs1000(tmp_path)
    assert not list(tmp_path.iterdir())
