"""The command that names actions: its table and plot, measured where actions are planted, and what it refuses."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mag2 import TextFeatures
from mag2.data import simulate

SCRIPT = Path(__file__).parents[1] / "examples" / "timeline.py"
RG = ["--dataset", "RG"]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("timeline_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(example, capsys):
    """Run the command in this process: (exit status, stdout, stderr)."""

    def call(*arguments):
        try:
            status = example.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "RG"
    options = {"train": 4, "test": 8, "length": (20, 30), "widths": {"visual": 384, "audio": 8}}
    texts = TextFeatures.for_sport("rhythmic_gymnastics")
    simulate(texts, sport="rhythmic_gymnastics", **options, aligned=True).write(folder)
    return folder


def rows(folder):
    with (folder / "timeline.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("top1", [0.3, 0.8])
def test_on_simulated_performances_table_and_page_tell_the_measured_accuracy(run, tmp_path, top1):
    pytest.importorskip("matplotlib")
    status, printed, said = run("--top1", top1, "--out", tmp_path / "out")
    assert (status, said) == (0, "")
    table = rows(tmp_path / "out")
    planted = [row for row in table if row["planted"]]
    accuracy = sum(row["action"] == row["planted"] for row in planted) / len(planted)
    assert accuracy == pytest.approx(top1, abs=0.01)
    assert [float(row["accuracy"]) for row in table] == pytest.approx([accuracy] * len(table))
    assert f"top-1 accuracy {accuracy:.2f} (chance 0.02)" in printed
    assert {row["data"] for row in table} == {"SIMULATED FS1000"}
    assert "SIMULATED FS1000" in printed
    first = table[0]["video"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"timeline-{first}.png", "timeline.csv"]
    assert (tmp_path / "out" / f"timeline-{first}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_table(run, tmp_path):
    pytest.importorskip("matplotlib")
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(*RG, "--seed", seed, "--out", tmp_path / folder)[0] == 0
    assert rows(tmp_path / "a") == rows(tmp_path / "b") != rows(tmp_path / "c")


def test_of_a_folder_nobody_knows_the_accuracy_and_it_says_so(run, on_disk, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ["--data", on_disk, *RG, "--target", "Hoop", "--out", tmp_path]
    status, printed, said = run(*arguments, "--videos", "Hoop_002", "Hoop_003")
    assert status == 0
    assert said == "warning: no planted actions here, so how often the names are right is unknown\n"
    assert "accuracy unknown" in printed
    table = rows(tmp_path)
    assert {(row["accuracy"], row["planted"]) for row in table} == {("unknown", "")}
    assert {row["video"] for row in table} == {"Hoop_002", "Hoop_003"}
    assert {path.name for path in tmp_path.glob("*.png")} == {"timeline-Hoop_002.png", "timeline-Hoop_003.png"}
    lengths = [len(np.load(on_disk / "Hoop_audio_AST.npy", allow_pickle=True).item()[f"Hoop_00{i}"]) for i in (2, 3)]
    assert len(table) == sum(lengths)  # whole videos, whatever the length of a crop


def test_texts_of_ones_own_in_a_file_give_the_names_of_the_shipped_ones(run, on_disk, tmp_path):
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "mine.npy", TextFeatures.for_sport("rhythmic_gymnastics").visual.numpy())
    assert run("--data", on_disk, *RG, "--out", tmp_path / "a")[0] == 0
    assert run("--data", on_disk, *RG, "--texts", tmp_path / "mine.npy", "--out", tmp_path / "b")[0] == 0
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "nowhere"], "there is no folder nowhere"),
        (["--data", "{data}", *RG, "--texts", "random:0"], "are 384 wide and the texts 64; give the texts of the same"),
        (["--data", "{data}", *RG, "--texts", "{tmp}/short.npy"], "wants finite features (32, D), has shape (3, 384)"),
        (["--data", "{data}", *RG, "--texts", "nobody:knows"], "unknown text encoder 'nobody:knows'"),
        (["--data", "{data}", *RG, "--split", "both"], "invalid choice: 'both'"),
        (["--texts", "random:0"], "--texts goes with --data"),
        (["--target", "score"], "FS1000 has no target 'score'; choose one of TES, PCS"),
        (["--top1", "2"], "--top1: '2' is no number from 0 to 1"),
        (["--top1", "0.99"], "up to 0.8"),
        (["--seed", "-1"], "--seed: '-1' is no whole number of at least 0"),
        ([*RG, "--videos", "Ball_999"], "no video 'Ball_999'; there are Ball_003"),
        ([*RG, "--out", "{tmp}/short.npy"], "is a file; give a folder with --out"),
    ],
)
def test_what_it_refuses_is_one_line(run, on_disk, tmp_path, arguments, said):
    np.save(tmp_path / "short.npy", np.ones((3, 384), np.float32))
    status, printed, error = run(*(argument.format(data=on_disk, tmp=tmp_path) for argument in arguments))
    assert (status, printed) == (2, "")
    assert said in error
    assert error.count("\n") == 1


def test_a_dataset_without_these_features_says_so(run, tmp_path):
    widths = {"visual": 8, "audio": 8}
    texts = TextFeatures.for_sport("figure_skating")
    simulate(texts, train=2, test=2, length=(8, 9), widths=widths).write(tmp_path / "data")
    status, _, error = run("--data", tmp_path / "data", "--out", tmp_path / "out")
    assert status == 2
    assert "FS1000 here has no vision_language features" in error
    assert not (tmp_path / "out").exists()
