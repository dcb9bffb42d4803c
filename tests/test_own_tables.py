"""Rows of a table on one's own arrays, as CONTRIBUTING.md says."""

import csv
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from mag2.data import DATASETS, SCALES, TARGETS, ArraysSpec, DataError, Dataset
from mag2.vocabulary import ACTIONS

ROOT = Path(__file__).parents[1]
BLOCK = re.search(r"^```python\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M | re.S)[1]


@pytest.fixture
def vault(monkeypatch):
    """The module that the block makes."""
    for known in (DATASETS, SCALES, TARGETS, ACTIONS):
        for key in ("Vault", "vault"):
            monkeypatch.setitem(known, key, None)
            monkeypatch.delitem(known, key)
    module = types.ModuleType("vault")
    monkeypatch.setitem(sys.modules, "vault", module)
    exec(compile(BLOCK, "CONTRIBUTING.md", "exec"), vars(module))
    return module


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    (tmp_path / "data" / "video").mkdir(parents=True)
    for number in range(14):
        video = draw.normal(size=(int(draw.integers(5, 9)), 16)).astype(np.float32)
        np.save(tmp_path / "data" / "video" / f"vault-{number:02}.npy", video)
    np.savetxt(tmp_path / "data" / "scores.txt", draw.uniform(9, 15, 14))
    return tmp_path / "data"


def test_every_row_is_trained_on_arrays_of_ones_own(vault, folder, tmp_path, capsys):
    call = ["--data", f"Vault={folder}", "--texts", "random:0", "--epochs", "1", "--workers", "1"]
    assert vault.main(vault.TABLE, [*call, "--controls", "--seeds", "0", "1", "--out", str(tmp_path / "out")]) == 0
    page = capsys.readouterr().out
    assert page.startswith("# Vault: Vault\n")
    assert "SIMULATED" not in page
    assert "GDLT +MAG2" in page
    results = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert {(each["row"], each["dataset"]) for each in results} >= {("1", "Vault"), ("2", "Vault")}
    assert {each["row"] for each in results} == {"1", "2", *(f"2-{name}" for name in _controls(vault))}
    known = json.loads((tmp_path / "out" / "settings.json").read_text())["fingerprints"]
    assert "visual of Vault/score" in known


def _controls(vault):
    return [row.control for row in vault.TABLE.rows[1].controls()]


def test_other_arrays_do_not_go_on_in_the_same_folder(vault, folder, tmp_path, capsys):
    call = ["--data", f"Vault={folder}", "--texts", "random:0", "--epochs", "1", "--workers", "1", "--rows", "1"]
    call += ["--out", str(tmp_path / "out")]
    assert vault.main(vault.TABLE, call) == 0
    np.savetxt(folder / "scores.txt", np.linspace(9, 15, 14))
    with pytest.raises(SystemExit) as stopped:
        vault.main(vault.TABLE, call)
    assert stopped.value.code == 2
    assert "holds results of other data" in capsys.readouterr().err.splitlines()[-1]


def test_without_texts_the_command_says_which_to_give(vault, folder, capsys):
    with pytest.raises(SystemExit):
        vault.main(vault.TABLE, ["--data", f"Vault={folder}", "--epochs", "1"])
    assert "no shipped feature for the prompt 'a video of a handspring'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_block_is_a_file_whose_workers_know_the_dataset(folder, tmp_path):
    (tmp_path / "vault.py").write_text(BLOCK, encoding="utf-8")
    command = [sys.executable, "vault.py", "--data", f"Vault={folder}", "--texts", "random:0", "--epochs", "1"]
    done = subprocess.run([*command, "--workers", "2"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "GDLT +MAG2" in done.stdout


class Faulty(ArraysSpec):
    name, sport, scales, clips = "Faulty", "figure_skating", {"score": 16.0}, 4

    def __init__(self, given):
        self.given = given

    def arrays(self, folder, target):
        return self.given


FEATURES = [np.ones((3, 4))] * 4


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"features": FEATURES}, "Faulty.arrays returned no features or scores: return a dict with both"),
        (None, "Faulty.arrays returned no features or scores"),
        ({"features": FEATURES, "scores": [1, 2, 3, 4], "scale": 4}, "Faulty.arrays returned scale: leave it out"),
        ({"features": FEATURES, "scores": [1, 2, 3, 40], "split": 0.5}, "'video-3' has the score 40, above 16"),
    ],
)
def test_what_arrays_returns_wrong_is_one_sentence(given, expected, tmp_path):
    with pytest.raises(DataError, match=expected):
        Faulty(given).read(tmp_path, "score")


def test_other_arguments_of_read_are_refused(tmp_path):
    spec = Faulty({"features": FEATURES, "scores": [1, 2, 3, 4], "split": 0.5})
    assert isinstance(spec.read(tmp_path, "score"), Dataset)
    assert spec.read(tmp_path, "score", clips=2).train.clips == 2
    with pytest.raises(DataError, match="Faulty has no target 'total': choose one of score"):
        spec.read(tmp_path, "total")
    with pytest.raises(DataError, match="give it no label files and no locations of features"):
        spec.read(tmp_path, "score", features={"audio": None})
    with pytest.raises(DataError, match=r"there is no folder .*: give the folder of Faulty"):
        spec.read(tmp_path / "nowhere", "score")
    with pytest.raises(DataError, match="Faulty has no label files"):
        spec.read_labels({}, "score")
