"""Folders as people download them, as arguments of a table's command."""

import argparse
import shutil

import pytest
from table4 import TABLE4

from mag2.training import command
from mag2.training.apart import folders_apart
from mag2.training.dataset_providers import simulation_provider
from tests.few import few_performances

TINY = {"train": 20, "test": 10, "length": (6, 10), "clips": 8}
GIVEN = ["--targets", "TES", "--epochs", "1", "--workers", "1", "--device", "cpu", "--size", "small", "--clips", "8"]


@pytest.fixture
def run(monkeypatch, capsys):
    few_performances(monkeypatch, **TINY)

    def call(*arguments):
        try:
            status = command.main(TABLE4, [*GIVEN, *map(str, arguments)])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def mine(tmp_path):
    """FS1000 in folders of a user's own names, labels apart from features."""
    simulation_provider("FS1000", **TINY).simulation().write(tmp_path / "written")
    (tmp_path / "labels").mkdir()
    for path in (tmp_path / "written").glob("*fs1000_new.txt"):
        shutil.move(path, tmp_path / "labels")
    (tmp_path / "features").mkdir()
    for ours, theirs in (("video", "timesformer_crops"), ("audio", "ast")):
        shutil.move(tmp_path / "written" / ours, tmp_path / "features" / theirs)
    return tmp_path


def test_labels_and_features_lie_apart_and_the_log_says_what_was_read(run, mine):
    apart = ("--label-folder", f"FS1000={mine / 'labels'}")
    status, out, err = run("--data", f"FS1000={mine / 'features'}", *apart, "--rows", "10", "--out", mine / "out")
    assert status == 0, err
    assert out.splitlines()[0] == "# Table 4: FS1000"
    assert f"{mine / 'labels' / 'train_fs1000_new.txt'}: no header, line 1 is a video" in err
    assert f"visual features {mine / 'features' / 'timesformer_crops'}" in err
    assert f"audio features {mine / 'features' / 'ast'}" in err


def test_one_modality_may_be_named(run, mine):
    places = [f"FS1000.{key}={mine / 'features' / name}" for key, name in (("visual", "a"), ("audio", "b"))]
    for old, new in (("timesformer_crops", "a"), ("ast", "b")):
        (mine / "features" / old).rename(mine / "features" / new)
    given = ("--data", mine / "labels", "--rows", "4", "--out", mine / "out", "--feature-folder")
    status, _, err = run(*given, *places)
    assert status == 0, err


def test_audio_may_be_missing_where_no_row_needs_it(run, mine):
    shutil.rmtree(mine / "features" / "ast")
    given = ("--data", mine / "features", "--label-folder", mine / "labels", "--out", mine / "out")
    status, _, err = run(*given, "--rows", "4")
    assert status == 0, err
    assert "FS1000: no audio features found; it is read without them" in err
    status, _, err = run(*given, "--rows", "10")
    assert status == 2
    assert "row 10 (MLAVL) needs audio features, and FS1000 here has visual" in err
    assert err.count("\n") == 1


def test_a_folder_without_a_layout_is_refused_with_those_that_would_do(run, mine):
    status, _, err = run("--data", mine / "features", "--rows", "4", "--out", mine / "out")
    assert status == 2
    assert "layouts that would do: (1) train_fs1000_new.txt and val_fs1000_new.txt beside video/<name>.npy" in err
    assert "(2) those files, or train_fs800.txt" in err
    assert err.count("\n") == 1


def test_the_options_are_for_files(run, tmp_path):
    for given in (("--label-folder", tmp_path), ("--feature-folder", tmp_path), ("--crops", "released")):
        status, _, err = run("--rows", "4", *given, "--out", tmp_path / "out")
        assert status == 2
        assert f"{given[0]} is for files" in err


def options(**given):
    return argparse.Namespace(**({"label_folder": None, "feature_folder": None} | given))


def test_places_are_of_the_dataset_and_the_modality_that_they_name(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    given = [f"RG={a}", f"FS1000.audio={b}", f"visual={a}"]
    with pytest.raises(ValueError, match="--data has no folder of visual"):
        folders_apart(options(feature_folder=given), ["FS1000", "RG"], "FS1000")
    assert folders_apart(options(feature_folder=given[:2]), ["FS1000", "RG"], "FS1000") == {
        "FS1000": {"places": (("audio", str(b)),)},
        "RG": {"feature_folder": a},
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"label_folder": ["FS1000=/nowhere"]}, "/nowhere for the labels of FS1000 does not exist"),
        ({"label_folder": ["LOGO=/x"]}, "--label-folder LOGO=/x: --data has no folder of LOGO; it has FS1000"),
        ({"label_folder": ["/usr", "FS1000=/y"]}, "the labels of FS1000 are given twice, /usr and /y"),
        ({"feature_folder": ["FS1000.smell=/x"]}, "unknown modality 'smell'; there are visual, audio, flow"),
        ({"feature_folder": ["FS1000.audio=/usr", "FS1000.audio=/y"]}, "the audio features of FS1000 are given twice"),
    ],
)
def test_places_that_mean_nothing_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        folders_apart(options(**given), ["FS1000"], "FS1000")
