"""The command mag2: train, score, lists; sentences for people, JSON for programs, one line for faults."""

import functools
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mag2 import command
from mag2.command.models import MODELS
from mag2.data import DATASETS
from mag2.saving.registry import KINDS
from mag2.saving.sentences import error_sentence
from mag2.scoring import find_trained, load_trained
from mag2.training.dataset_providers import simulation_provider
from tests.few import few_performances

TINY = {"train": 16, "test": 12, "length": (6, 10), "clips": 8}
QUICK = ["--epochs", "1", "--workers", "1", "--device", "cpu"]


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command in this process on a tiny simulation: (exit status, stdout, stderr)."""
    few_performances(monkeypatch, **TINY)

    def run(*arguments):
        try:
            status = command.main([str(each) for each in arguments])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def trained(call, tmp_path):
    status, *said = call("train", *QUICK, "--seeds", 0, 1, "--out", tmp_path / "run")
    assert status == 0, said
    return tmp_path / "run"


def test_three_commands_train_score_and_list(call, trained):
    status, out, _ = call("score", trained)
    assert status == 0
    names = [each.about["seed"] for each in map(load_trained, find_trained(trained))]
    assert names == [0, 1]
    assert "TES by MLAVL, trained on simulated FS1000, seeds 0, 1" in out
    assert "SIMULATED" in out
    assert "by occlusion" in out
    assert "their true scores" in out
    manifest = json.loads((trained / "settings.json").read_text())
    assert manifest["runs"][0]["command"].startswith("mag2 train --epochs 1")


def test_json_is_for_programs(call, trained, tmp_path):
    status, out, _ = call("score", trained, "--json", "--explain", "gradient", "--seed", 1)
    (scores,) = json.loads(out)
    assert status == 0
    assert scores["seeds"] == [1]
    assert len(scores["performances"]) == 3
    assert set(scores["truth"]) == {each["name"] for each in scores["performances"]}
    assert list(scores["performances"][0]["contributions"]) == ["gradient times input"]
    status, out, _ = call("train", *QUICK, "--rows", "gdlt", "--out", tmp_path / "other", "--json")
    result = json.loads(out)
    assert status == 0
    assert {line["row"] for line in result["results"]} == {"gdlt"}
    assert load_trained(result["trained"][0]).name == "GDLT"


def test_files_and_folders_are_scored(call, trained, tmp_path):
    features = simulation_provider("FS1000", **TINY).simulation().features
    for key, place in (("visual", "video"), ("audio", "audio")):
        (tmp_path / place).mkdir()
        for number in (0, 20):
            np.save(tmp_path / place / f"v{number}.npy", features[key].video(number).numpy())
    assert json.loads(call("score", trained, tmp_path, "--json")[1])[0]["performances"][1]["name"] == "v20"
    files = [tmp_path / "video" / "v20.npy", "--audio", tmp_path / "audio" / "v20.npy", "--clip-seconds", "2"]
    status, out, _ = call("score", trained, *files, "--out", tmp_path / "scores.json")
    assert status == 0
    assert " s (" in out
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written[0]["performances"][0]["seconds"][0][1] - written[0]["performances"][0]["seconds"][0][0] == 2


def test_every_model_trains_by_its_name(call, tmp_path):
    rows = [row for row in MODELS if "+texts+mag2" not in row]
    status, *said = call("train", *QUICK, "--rows", *rows, "--no-weights", "--out", tmp_path)
    assert status == 0, said
    assert len(find_trained(tmp_path)) == len(rows) == 16


def test_lists_have_a_line_each(call):
    for name, count in (("datasets", len(DATASETS)), ("models", 8)):
        status, out, _ = call(name)
        assert status == 0
        assert len(out.splitlines()) == count
        assert len(json.loads(call(name, "--json")[1])) == count
    assert "| FS1000 | TES" in call("recipes")[1]
    assert json.loads(call("recipes", "--json")[1])


def test_models_are_kinds_that_files_know():
    from mag2.command.models import KNOWN

    assert {model.kind for model in KNOWN.values()} <= set(KINDS)


def test_texts_are_shown_and_saved(call, tmp_path):
    status, out, _ = call("texts", "figure_skating", "--grades", 4, "--out", tmp_path / "texts")
    assert status == 0
    assert "a video of" in out
    assert call("train", *QUICK, "--rows", "gdlt", "--texts", "shipped", "--out", tmp_path / "run")[0] == 0
    own = ["texts", "--actions", "handspring", "round-off", "--encoder", "random:0", "--json"]
    assert json.loads(call(*own)[1])["rows"] == [2, 2, 12, 6]


@pytest.mark.parametrize(
    "name", ["train", "score", "report", "figures", "texts", "extract", "datasets", "models", "recipes"]
)
def test_help_teaches_with_an_example(call, name):
    status, out, _ = call(name, "--help")
    assert status == 0
    assert f"mag2 {name}" in out
    if name != "extract":
        assert "example" in out
    assert name in call("--help")[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "mag2: error: unknown command 'nothing'; there are train, score"),
        (["score", "nowhere"], "mag2 score: error: there is no folder nowhere"),
        (["score"], "mag2 score: error: the following arguments are required: RUN"),
        (["train", "--rows", "nothing"], "mag2 train: error: unknown row 'nothing'; there are mlavl, gdlt, gdlt+texts"),
        (["train", "--epochs", "0"], "mag2 train: error: argument --epochs: '0' is no whole number"),
        (["report", "nowhere"], "mag2 report: error: there is no folder nowhere"),
        (["figures", "nowhere"], "mag2 figures: error: there is no folder nowhere"),
        (["texts"], "mag2 texts: error: give a sport"),
        (["texts", "figure_skating", "--grades", "9"], "--grades: '9' is no whole number from 3 to 8"),
        (["texts", "figure_skating", "--grades", "5_0"], "--grades: '5_0' is no whole number from 3 to 8"),
        (["figures", ".", "--seed", "-1"], "--seed: '-1' is no whole number of at least 0"),
        (["report", ".", "--seed", "1.5"], "--seed: '1.5' is no whole number of at least 0"),
        (["report", ".", "--data", ""], "--data: '' is no path; give a folder or a file"),
        (["score", ".", "--clip-seconds", "inf"], "--clip-seconds: 'inf' is no number above 0"),
        (["score", ".", "--level", "1_0"], "--level: '1_0' is no number above 0 and below 1"),
        (["texts", "chess"], "unknown sport 'chess'; there are rhythmic_gymnastics, figure_skating, artistic_"),
        (["texts", "gymnastics"], "; the nearest is rhythmic_gymnastics; for another sport give --actions TERM TERM"),
        (["texts", "Figure-Skating"], "; the nearest is figure_skating; for another sport give --actions"),
        (["texts", "skating"], "; the nearest is figure_skating; for another sport give --actions"),
        (["tests"], "mag2: error: unknown command 'tests'; there are train, score, report, figures, texts, extract"),
        (["scores", "run"], "; the nearest is score"),
        (["train", "--rows", "gdlt+mag"], "; the nearest is gdlt+mag2"),
        (["train", "--targets", "tes"], "mag2 train: error: unknown target 'tes'; there are TES, "),
        (["train", "--datasets", "FisV"], "; the nearest is Fis-V"),
        (
            ["train", "--data", "FS-1000=nowhere"],
            "--data FS-1000=nowhere: unknown dataset 'FS-1000'; there are FS1000, ",
        ),
        (["recipes", "--figure"], "mag2 recipes: error: unrecognized arguments: --figure"),
    ],
)
def test_faults_are_one_line_and_two(call, arguments, sentence):
    status, out, err = call(*arguments)
    assert status == 2
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--names", "nobody"], "there is no video 'nobody'"),
        (["--audio", "a.npy"], "--audio goes with a .npy of visual features"),
        (["--level", "2"], "'2' is no number above 0 and below 1"),
        (["--clip-seconds", "0"], "argument --clip-seconds: '0' is no number above 0"),
        (["--target", "PCS"], "no trained model of target PCS"),
    ],
)
def test_faults_of_a_score_are_one_line(call, trained, arguments, sentence):
    status, out, err = call("score", trained, *arguments)
    assert (status, out) == (2, "")
    assert sentence in err


def test_a_run_of_several_rows_is_asked_for_one(call, trained):
    assert call("train", *QUICK, "--rows", "gdlt", "--out", trained)[0] == 0
    assert "has several rows for TES: give --row, one of gdlt, mlavl" in call("score", trained)[2]
    assert "TES by GDLT" in call("score", trained, "--row", "gdlt")[1]


def test_models_of_several_runs_or_of_one_seed_are_not_averaged(call, trained, tmp_path):
    runs, copies = tmp_path / "runs", tmp_path / "copies"
    for name in ("first", "second"):
        shutil.copytree(trained, runs / name)
        shutil.copytree(find_trained(trained, seed=0)[0], copies / name)
    for more in ((), ("--row", "mlavl"), ("--seed", 0)):
        status, out, err = call("score", runs, *more)
        assert (status, out) == (2, "")
        assert err == (
            f"mag2 score: error: {runs} holds 2 runs with trained models of TES, whose row keys and seeds may be the "
            f"same ({runs / 'first'}, {runs / 'second'}): give the folder of one of them\n"
        )
    status, out, err = call("score", copies)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"several trained models of one seed for TES, {copies / 'first'} and {copies / 'second'}: give the" in err
    assert call("score", runs / "second", "--explain", "none")[0] == 0
    with pytest.raises(ValueError, match=r"models that fit \(first/cells/.*; give the folder of one of them"):
        load_trained(runs, seed=0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["score", "RUN", "--out", "FILE/x.json"],
            "FILE is a file, in which FILE cannot lie|FILE is a file; give a folder",
        ),
        (["score", "RUN", "--out", "FOLDER"], "FOLDER is a folder; move it away"),
        (["score", "FILE"], "FILE is a file; give the folder of a run"),
        (
            ["score", "RUN", "--explain", "none", "gradient"],
            "--explain none gives no contributions; leave out gradient",
        ),
        (["report", "RUN", "--out", "FILE/x.html"], "FILE is a file; give a folder"),
        (["report", "RUN", "--no-figures", "--data", "FOLDER"], "--data is for the figures; leave it out"),
        (["figures", "FILE"], "FILE is a file; give the folder of a run"),
        (
            ["figures", "RUN", "--out", "FILE/x"],
            "FILE is a file, in which FILE/x cannot lie; give another folder for the",
        ),
        (["texts", "figure_skating", "--out", "FILE"], "FILE is a file; give a folder with --out"),
        (["texts", "figure_skating", "--out", "FILE/x"], "FILE is a file, in which FILE/x cannot lie; give another"),
        (["texts", "figure_skating", "--actions", "a", "b"], "or --actions, not both"),
        (["texts", "figure_skating", "--encoder", "FOLDER"], "FOLDER is a folder without texts; give one that"),
        (["train", "--out", "FILE/x"], "FILE is a file, in which FILE/x cannot lie; give another folder with --out"),
        (["train", "--rows", "gdlt", "--out", "TAKEN"], "TAKEN/results.csv is a folder; move it away"),
        (["train", "--texts", "FS100=minilm"], "--texts FS100=minilm: unknown dataset 'FS100'; there are FS1000"),
        (["train", "--weighted", "101"], "'101' is no whole number from 1 to 100"),
    ],
)
def test_a_wrong_place_is_one_line_before_any_work(call, tmp_path, monkeypatch, arguments, sentence):
    from mag2.training.train_cell import CellTraining

    def work(*given, **options):
        raise AssertionError("work began")

    monkeypatch.setattr(CellTraining, "__call__", work)
    monkeypatch.setattr("mag2.command.score._groups", work)
    monkeypatch.setattr("mag2.report.writing.make_report", work)
    monkeypatch.setattr("mag2.figures.collecting.make_figures", work)
    names = {"RUN": "run", "FILE": "file", "FOLDER": "folder", "TAKEN": "taken"}
    places = {name: str(tmp_path / place) for name, place in names.items()}
    (tmp_path / "file").write_text("precious")
    for folder in ("folder", "taken/results.csv", "run/cells/row-gdlt"):
        (tmp_path / folder).mkdir(parents=True)

    def named(text):
        return functools.reduce(lambda said, name: said.replace(name, places[name]), places, text)

    if arguments[0] in ("score", "figures") and sentence.startswith("FILE is a file; give the folder"):
        monkeypatch.undo()
    if arguments[:2] == ["figures", "RUN"]:
        monkeypatch.setattr("mag2.figures.collecting.read_run", lambda folder: None)
    status, out, err = call(*map(named, arguments))
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert any(named(each) in err for each in sentence.split("|")), err
    assert (tmp_path / "file").read_text() == "precious"


def test_a_fault_of_the_system_is_a_file_and_a_reason():
    fault = PermissionError(13, "Permission denied", f"out/scores.json.{'0a' * 8}.partial")
    assert error_sentence(fault) == "out/scores.json cannot be read or written (Permission denied); give another path"
    assert error_sentence(ValueError("one\nline")) == "one line"
    assert error_sentence(ValueError()) == "ValueError"


def test_the_recorded_command_says_where_it_wrote(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("train", *QUICK, "--rows", "gdlt")[0] == 0
    (run,) = json.loads((tmp_path / "runs" / "train-simulated" / "settings.json").read_text())["runs"]
    assert run["command"] == f"mag2 train {' '.join(QUICK)} --rows gdlt --out runs/train-simulated"


def test_the_module_is_the_command():
    ran = subprocess.run([sys.executable, "-m", "mag2", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("mag2 0.")
