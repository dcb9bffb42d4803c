"""Reading FS1000's released files, and every fault that it can have."""

import csv
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from mag2.data import SCALES, TARGETS, DataError, read_fs1000

PUBLISHED = Path(__file__).parents[2] / "shared" / "published" / "recipes.csv"

# name TES PCS SS TR PE CO IN factor
TRAIN_ROWS = {
    "a": "a 65.00 60.00 7.50 7.25 7.00 7.75 8.00 2.0",
    "b": "b 32.50 30.00 7.00 7.00 7.50 7.25 7.75 1.0",
    "c": "c\t13.00  24.00 6.00 6.00 6.00 6.00 6.00 0.8",
}
TEST_ROWS = {"d": "d 97.50 72.00 9.00 9.00 9.00 9.00 9.00 1.6"}


@pytest.fixture
def folder(tmp_path):
    """Four videos: crops of 3, 4, 5 and 6 clips."""
    return write_folder(tmp_path / "fs1000")


def write_folder(folder):
    rng = np.random.default_rng(0)
    for sub in ("video", "audio", "flow"):
        (folder / sub).mkdir(parents=True)
    for name, clips in zip("abcd", (3, 4, 5, 6), strict=True):
        np.save(folder / f"video/{name}.npy", rng.standard_normal((clips, 2, 6), dtype=np.float32))
        np.save(folder / f"audio/{name}.npy", rng.standard_normal((clips, 4), dtype=np.float32))
        np.save(folder / f"flow/{name}.npy", rng.standard_normal((clips, 3, 5), dtype=np.float32))
    write_rows(folder / "train_fs1000_new.txt", TRAIN_ROWS)
    write_rows(folder / "val_fs1000_new.txt", TEST_ROWS)
    return folder


def write_rows(path, rows, **changed):
    path.write_text("".join(row + "\n" for row in {**rows, **changed}.values()))


def test_the_store_equals_direct_reading(folder):
    data = read_fs1000(folder, "TES", clips=4)
    for split, names in ((data.train, "abc"), (data.test, "d")):
        batch = split.batch(range(len(names)))
        for row, name in enumerate(names):
            raw = {sub: np.load(folder / sub / f"{name}.npy") for sub in ("video", "audio", "flow")}
            direct = {"visual": raw["video"].mean(1), "audio": raw["audio"], "flow": raw["flow"].mean(1)}
            for key, clips in direct.items():
                start = max(len(clips) - 4, 0) // 2
                crop = torch.zeros(4, clips.shape[1])
                crop[: len(clips)] = torch.from_numpy(clips[start : start + 4])
                assert torch.equal(getattr(batch, key)[row], crop)
    assert data.train.names == ["a", "b", "c"]
    assert data.train.widths == {"visual": 6, "audio": 4, "flow": 5}
    assert not data.simulated


@pytest.mark.parametrize(
    ("target", "labels", "scale"),
    [
        ("TES", [0.5, 0.25, 0.1, 0.75], 130),
        ("PCS", [0.5, 0.5, 0.5, 0.75], 60),  # 60/2, 30/1, 24/0.8, 72/1.6
        ("SS", [0.75, 0.7, 0.6, 0.9], 10),
        ("CO", [0.775, 0.725, 0.6, 0.9], 10),
    ],
)
def test_labels_are_divided_by_the_published_scale_and_pcs_by_the_factor_first(folder, target, labels, scale):
    data = read_fs1000(folder, target)
    assert torch.cat([data.train.label, data.test.label]).tolist() == pytest.approx(labels)
    assert data.train.scale == data.test.scale == scale
    assert (data.name, data.target) == ("FS1000", target)


def test_the_scales_are_the_published_ones():
    if not PUBLISHED.exists():
        pytest.skip("the published recipes are not here")
    with PUBLISHED.open() as file:
        published = [(row["dataset"], row["target"], float(row["score_scale"])) for row in csv.DictReader(file)]
    ours = [(name, target, scale) for name in ("FS1000", "Fis-V", "RG") for target, scale in SCALES[name].items()]
    assert ours == published


def test_plain_features_and_half_precision_and_double_are_read_as_well(folder):
    crops = np.load(folder / "video/a.npy")
    np.save(folder / "video/b.npy", crops[:, 0])
    np.save(folder / "video/c.npy", crops.astype(np.float64))
    np.save(folder / "video/a.npy", crops.astype(np.float16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = read_fs1000(folder, "TES", clips=3).train.batch([0, 1, 2])
    mean = torch.from_numpy(crops.mean(1))
    assert torch.equal(batch.visual[1], torch.from_numpy(crops[:, 0]))
    torch.testing.assert_close(batch.visual[2], mean)
    torch.testing.assert_close(batch.visual[0], mean, atol=2e-3, rtol=0)


def test_flow_may_be_absent_or_left_out(folder):
    assert read_fs1000(folder, "TES", flow=None).train.batch([0]).flow is None
    assert read_fs1000(folder, "TES", flow="elsewhere").train.widths == {"visual": 6, "audio": 4}


def test_feature_folders_may_have_other_names_and_places(folder, tmp_path):
    before = read_fs1000(folder, "TES")
    (folder / "video").rename(tmp_path / "vst")
    (folder / "audio").rename(folder / "ast")
    after = read_fs1000(folder, "TES", video=tmp_path / "vst", audio="ast")
    assert torch.equal(before.train.batch([0, 1]).visual, after.train.batch([0, 1]).visual)
    assert before.fingerprint == after.fingerprint


def test_modalities_of_different_length_are_cropped_to_the_shorter_with_one_warning(folder):
    np.save(folder / "audio/a.npy", np.ones((5, 4), np.float32))
    np.save(folder / "audio/d.npy", np.ones((2, 4), np.float32))
    with pytest.warns(UserWarning, match="^2 of 4 videos of FS1000 .*by 4 clips at most") as caught:
        data = read_fs1000(folder, "TES", clips=6)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert data.train.batch([0]).audio[0].abs().sum(1).tolist() == [4, 4, 4, 0, 0, 0]
    assert (data.test.batch([0]).visual[0].abs().sum(1) > 0).tolist() == [True] * 2 + [False] * 4


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_do_not_matter(folder):
    before = read_fs1000(folder, "TES")
    path = folder / "train_fs1000_new.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert read_fs1000(folder, "TES").fingerprint == before.fingerprint


def test_the_fingerprint_tells_data_targets_and_crops_apart(folder):
    seen = [read_fs1000(folder, "TES").fingerprint, read_fs1000(folder, "SS").fingerprint]
    seen.append(read_fs1000(folder, "TES", clips=7).fingerprint)
    features = np.load(folder / "video/d.npy")
    features[0, 0, 0] += 1
    np.save(folder / "video/d.npy", features)
    seen.append(read_fs1000(folder, "TES").fingerprint)
    write_rows(folder / "val_fs1000_new.txt", TEST_ROWS, d=TEST_ROWS["d"].replace("97.50", "97.51"))
    seen.append(read_fs1000(folder, "TES").fingerprint)
    assert len(set(seen)) == 5


def rows(split, **changed):
    """A fault of the label files."""
    name, original = {
        "train": ("train_fs1000_new.txt", TRAIN_ROWS),
        "test": ("val_fs1000_new.txt", TEST_ROWS),
    }[split]
    return lambda folder: write_rows(folder / name, original, **changed)


def array(path, values):
    """A fault of a feature file."""
    return lambda folder: np.save(folder / path, values)


def content(path, raw):
    return lambda folder: (folder / path).write_bytes(raw)


def remove(path):
    def fault(folder):
        target = folder / path
        if target.is_dir():
            target.rename(folder.with_name("gone"))
        else:
            target.unlink()

    return fault


def spoilt(value):
    features = np.zeros((4, 2, 6), np.float32)
    features[2, 1, 3] = value
    return array("video/b.npy", features)


TRAIN, VAL = "train_fs1000_new.txt", "val_fs1000_new.txt"
LABEL_FAULTS = {
    "no training labels": (remove(TRAIN), [TRAIN, "no label file"]),
    "no test labels": (remove(VAL), [VAL, "no label file"]),
    "labels without rows": (content(VAL, b"\n \n"), [VAL, "no rows"]),
    "labels that are no text": (content(TRAIN, b"a 1\n\xff\xfe"), [TRAIN, "line 2", "UTF-8"]),
    "too few columns": (rows("train", b="b 1 2 3 4 5 6 7"), [TRAIN, "line 2", "8 columns", "factor"]),
    "too many columns": (rows("test", d="d 1 2 3 4 5 6 7 1 1"), [VAL, "line 1", "10 columns"]),
    "an unparsable number": (rows("train", c="c 1 2 x3 4 5 6 7 1"), [TRAIN, "line 3", "'x3'", "SS"]),
    "a score that is not finite": (rows("train", c="c nan 2 3 4 5 6 7 1"), [TRAIN, "line 3", "'nan'", "TES"]),
    "a score above its scale": (rows("train", b="b 130.1 2 3 4 5 6 7 1"), [TRAIN, "line 2", "130.1", "130"]),
    "a score below zero": (rows("test", d="d -1 2 3 4 5 6 7 1"), [VAL, "line 1", "-1", "scale"]),
    "a factor of zero": (rows("train", b="b 1 2 3 4 5 6 7 0"), [TRAIN, "line 2", "factor 0"]),
    "a negative factor": (rows("train", b="b 1 2 3 4 5 6 7 -1.6"), [TRAIN, "line 2", "factor -1.6"]),
    "a duplicate name": (rows("train", b=TRAIN_ROWS["a"]), [TRAIN, "line 2", "line 1", "'a'", "again"]),
    "a name in both splits": (rows("test", d=TRAIN_ROWS["c"]), [VAL, "line 1", TRAIN, "line 3", "'c'"]),
}
FEATURE_FAULTS = {
    "no visual folder": (remove("video"), ["video", "no feature folder"]),
    "no audio folder": (remove("audio"), ["audio", "no feature folder"]),
    "a name without visual features": (remove("video/b.npy"), [TRAIN, "line 2", "'b'", "video/b.npy"]),
    "a name without audio features": (remove("audio/d.npy"), [VAL, "line 1", "'d'", "audio/d.npy"]),
    "a name without flow features": (remove("flow/c.npy"), [TRAIN, "line 3", "'c'", "flow/c.npy"]),
    "a wrong width": (
        array("audio/b.npy", np.zeros((4, 3), np.float32)),
        ["audio/b.npy", TRAIN, "line 2", "width 3", "audio/a.npy", "have 4"],
    ),
    "a wrong width in the first video": (
        array("video/a.npy", np.zeros((3, 2, 7), np.float32)),
        ["video/a.npy", "line 1", "width 7", "video/b.npy", "have 6"],
    ),
    "no clips": (array("video/b.npy", np.zeros((0, 2, 6), np.float32)), ["video/b.npy", "line 2", "empty"]),
    "no crops": (array("video/b.npy", np.zeros((4, 0, 6), np.float32)), ["video/b.npy", "line 2", "empty"]),
    "NaN": (spoilt(np.nan), ["video/b.npy", TRAIN, "line 2", "NaN or infinite", "clip 2"]),
    "infinity": (spoilt(-np.inf), ["video/b.npy", TRAIN, "line 2", "NaN or infinite", "clip 2"]),
    "too large for float32": (
        array("audio/a.npy", np.full((3, 4), 1e300)),
        ["audio/a.npy", "line 1", "infinite"],
    ),
    "a vector": (array("audio/d.npy", np.zeros(4, np.float32)), ["audio/d.npy", VAL, "line 1", "(4,)"]),
    "four dimensions": (
        array("video/d.npy", np.zeros((2, 2, 2, 6))),
        ["video/d.npy", "line 1", "(2, 2, 2, 6)"],
    ),
    "a scalar": (array("audio/d.npy", np.float32(1)), ["audio/d.npy", VAL, "line 1", "shape ()"]),
    "words": (array("audio/d.npy", np.full((6, 4), "x")), ["audio/d.npy", VAL, "line 1", "<U1", "numbers"]),
    "objects": (
        lambda folder: np.save(folder / "audio/d.npy", {"d": 1}, allow_pickle=True),
        ["audio/d.npy", VAL, "line 1", "no plain array"],
    ),
    "a pickle": (content("audio/d.npy", b"\x80\x04]\x94."), ["audio/d.npy", "line 1", "no plain array"]),
    "text": (content("audio/d.npy", b"hello\nworld\n"), ["audio/d.npy", "line 1", "no plain array"]),
    "an empty file": (content("audio/d.npy", b""), ["audio/d.npy", VAL, "line 1", "no plain array"]),
    "half a header": (content("audio/d.npy", b"\x93NUMPY\x01\x00v\x00{'descr'"), ["audio/d.npy", "line 1"]),
    "an archive": (
        lambda folder: (
            np.savez(folder / "audio/d.npy.npz", a=np.zeros(3))
            or (folder / "audio/d.npy.npz").replace(folder / "audio/d.npy")
        ),
        ["audio/d.npy", VAL, "line 1", "several arrays"],
    ),
    "a torn archive": (content("audio/d.npy", b"PK\x03\x04torn"), ["audio/d.npy", VAL, "line 1"]),
    "half an array": (
        lambda folder: (folder / "audio/d.npy").write_bytes((folder / "audio/d.npy").read_bytes()[:-8]),
        ["audio/d.npy", VAL, "line 1", "no plain array"],
    ),
}


@pytest.mark.parametrize("name", [*LABEL_FAULTS, *FEATURE_FAULTS])
def test_every_fault_is_one_sentence_that_names_file_and_line(folder, name):
    break_it, named = {**LABEL_FAULTS, **FEATURE_FAULTS}[name]
    break_it(folder)
    with pytest.raises(DataError) as caught:
        read_fs1000(folder, "TES")
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in named if part not in message] == []
    assert re.search(r": \w+", message), "the sentence says what to do"


@pytest.mark.parametrize("name", LABEL_FAULTS)
def test_labels_are_checked_before_any_feature_is_read(folder, name):
    break_it, _ = LABEL_FAULTS[name]
    break_it(folder)
    for path in folder.glob("*/*.npy"):
        path.write_bytes(b"never read")
    with pytest.raises(DataError, match=r"\.txt"):
        read_fs1000(folder, "TES")


def test_a_pcs_outside_its_scale_is_judged_after_the_factor(folder):
    write_rows(folder / TRAIN, TRAIN_ROWS, b="b 1 100 3 4 5 6 7 2.0")
    assert read_fs1000(folder, "PCS").train.label[1] == pytest.approx(50 / 60)
    write_rows(folder / TRAIN, TRAIN_ROWS, b="b 1 100 3 4 5 6 7 1.6")
    with pytest.raises(DataError, match=r"train_fs1000_new.txt line 2 .*62\.5.*60"):
        read_fs1000(folder, "PCS")


def test_a_missing_folder_and_an_unknown_target_are_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        read_fs1000(tmp_path / "nowhere", "TES")
    with pytest.raises(DataError, match=r"'TSE'.*TES, PCS, SS, TR, PE, CO, IN"):
        read_fs1000(folder, "TSE")
    assert TARGETS["FS1000"] == ("TES", "PCS", "SS", "TR", "PE", "CO", "IN")


def test_a_pickle_among_the_features_is_never_run(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    np.save(folder / "audio/d.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"audio/d\.npy"):
        read_fs1000(folder, "TES")
    assert not (tmp_path / "ran").exists()
