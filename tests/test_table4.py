"""The command behind Table 4: what it trains, writes, resumes and refuses."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mag2.data import TARGETS
from mag2.published import table
from mag2.training import command
from mag2.training.dataset_providers import simulation_provider
from mag2.training.tables import Row, Table
from mag2.training.target import Target
from tests.few import few_performances

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "table4.py"
TINY = {"train": 24, "test": 12, "length": (6, 10), "clips": 8}
ONE = ["--datasets", "FS1000", "--rows", "10", "--targets", "TES", "--epochs", "1", "--workers", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("table4_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(example, monkeypatch, capsys):
    """Run the command in this process on a tiny simulation: (exit status, stdout, stderr)."""
    few_performances(monkeypatch, **TINY)

    def call(*arguments):
        try:
            status = command.main(example.TABLE4, [str(a) for a in arguments])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "FS1000"
    simulation_provider("FS1000", **TINY).simulation().write(folder)
    return folder


def test_the_table_has_the_papers_rows_and_the_combined_ones(example):
    headings = [row.heading for row in example.TABLE4.rows]
    published = {row["row"]: f"{row['method']} {row['variant']}".strip() for row in table(4)}
    assert {heading.key: heading.name for heading in headings if heading.published} == published
    assert [heading.name for heading in headings if not heading.published] == [
        *(f"{method} +Texts+MAG2" for method in ("CoFInAl", "QTD", "PAMFN")),
        "MLAVL residual (ours, not the paper's)",
    ]
    wanted = {Target("FS1000", target) for target in (*TARGETS["FS1000"], "average")}
    assert all(set(heading.published) == wanted for heading in headings if heading.published)


def test_simulated_results_say_so_everywhere_and_stand_beside_no_published_number(run, tmp_path):
    status, out, _ = run(*ONE, "--out", tmp_path)
    assert status == 0
    page = (tmp_path / "table4.md").read_text()
    assert page in out
    assert "SIMULATED" in page.splitlines()[0]
    assert "published" not in page.replace("numbers, which are therefore not printed here", "")
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert {row["data"] for row in rows} == {"simulated FS1000"}
    assert {row["protocol"] for row in rows} == {"last_epoch", "best_on_test", "best_mse_on_test"}
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["settings"]["simulated"] is True
    call = settings["runs"][-1]
    assert set(call["versions"]) == {"mag2", "torch", "torch-geometric", "numpy"}
    assert (call["rows"], call["seeds"], call["epochs"]) == (["10"], [0], {"10": {"FS1000/TES": 1}})
    assert call["recipes"]["10"]["FS1000/TES"]["lr"] == 1e-3
    earlier = json.loads((ROOT / "tests" / "saved" / "0.1.0" / "table" / "settings.json").read_text())
    assert set(settings["fingerprints"]) == set(earlier["fingerprints"])
    assert set(call) == set(earlier["runs"][0])
    cell = tmp_path / "cells" / "row-10" / "FS1000" / "TES" / "seed-0"
    assert json.loads((cell / "result.json").read_text())["result"]["data"] == "simulated FS1000"
    assert '"data": "simulated"' in (cell / "metrics.jsonl").read_text()
    assert str(tmp_path / "results.csv") in out


def test_files_and_memory_give_the_same_numbers(run, on_disk, tmp_path):
    status, _, _ = run(*ONE, "--targets", "TES", "PCS", "--rows", "1", "10", "--out", tmp_path / "memory")
    assert status == 0
    from_disk = ["--data", on_disk, "--clips", "8", "--size", "small", "--out", tmp_path / "disk"]
    status, out, _ = run(*ONE, "--targets", "TES", "PCS", "--rows", "1", "10", *from_disk)
    assert status == 0
    assert "SIMULATED" in out
    memory, disk = (numbers(tmp_path / name) for name in ("memory", "disk"))
    assert memory == disk
    assert len(memory) == 12


def numbers(folder: Path) -> list[dict]:
    rows = list(csv.DictReader((folder / "results.csv").open()))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_real_data_stand_beside_the_published_numbers(run, on_disk, tmp_path):
    """The same files without the simulator's mark: what a user of FS1000 sees."""
    import shutil

    shutil.copytree(on_disk, tmp_path / "FS1000", ignore=shutil.ignore_patterns("SIMULATED.txt"))
    arguments = ["--data", tmp_path / "FS1000", "--clips", "8", "--size", "small", "--out", tmp_path / "out"]
    status, out, _ = run(*ONE, "--rows", "10", "9b", *arguments)
    assert status == 0
    assert "SIMULATED" not in out
    assert "(0.917, " in out
    assert "(64.89, " in out
    assert "0.892" not in out, "an average over one target is not the paper's"
    combined = next(line for line in out.splitlines() if "PAMFN +Texts+MAG2" in line)
    assert "(" not in combined, "a row that the paper does not have has nothing beside it"


def test_cells_that_are_done_are_skipped_and_workers_change_nothing(run, tmp_path):
    first = [*ONE, "--rows", "1"]
    run(*first, "--out", tmp_path / "grown")
    results = tmp_path / "grown" / "cells" / "row-1" / "FS1000" / "TES" / "seed-0" / "result.json"
    before = results.stat().st_mtime_ns
    status, _, err = run(*first, "--rows", "1", "10", "--out", tmp_path / "grown")
    assert status == 0
    assert "1 of 2 trainings are done already" in err
    assert results.stat().st_mtime_ns == before
    run(*first, "--rows", "1", "10", "--out", tmp_path / "whole")
    assert numbers(tmp_path / "grown") == numbers(tmp_path / "whole")


def test_the_page_keeps_what_earlier_runs_trained(run, tmp_path):
    run(*ONE, "--rows", "10", "--out", tmp_path)
    status, out, _ = run(*ONE, "--rows", "1", "--targets", "PCS", "--out", tmp_path)
    assert status == 0
    assert {(row["row"], row["target"]) for row in numbers(tmp_path)} == {("10", "TES"), ("1", "PCS")}
    assert "| 10 | MLAVL |" in out
    assert "| 1 | CoFInAl |" in out
    assert len(json.loads((tmp_path / "settings.json").read_text())["runs"]) == 2


def test_a_seed_that_is_given_twice_is_trained_once(run, tmp_path):
    run(*ONE, "--seeds", "0", "0", "--out", tmp_path)
    assert len(numbers(tmp_path)) == 3


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 1}'])
@pytest.mark.parametrize("name", ["settings.json", "cells/row-10/FS1000/TES/seed-0/result.json"])
def test_a_damaged_file_is_named_in_one_sentence(run, tmp_path, name, content):
    run(*ONE, "--out", tmp_path)
    (tmp_path / name).write_text(content)
    status, _, err = run(*ONE, "--out", tmp_path)
    assert status == 2
    assert f"{name} is damaged" in err
    assert err.count("\n") == 1


def test_an_out_that_is_a_file_is_refused(run, tmp_path):
    (tmp_path / "out").write_text("")
    status, _, err = run(*ONE, "--out", tmp_path / "out")
    assert status == 2
    assert "is a file; give a folder with --out" in err


def test_several_seeds_give_a_mean_and_a_spread(run, tmp_path):
    status, out, _ = run(*ONE, "--seeds", "0", "1", "--out", tmp_path)
    assert status == 0
    assert " ± " in out


def test_a_failed_cell_does_not_stop_the_others(run, example, monkeypatch, tmp_path):
    def broken(inputs):
        raise RuntimeError("this model cannot be built")

    rows = tuple(Row(row.heading, broken, row.recipe) if row.heading.key == "1" else row for row in example.TABLE4.rows)
    monkeypatch.setattr(example, "TABLE4", Table("table4", "Table 4", rows, {"FS1000": ("TES",)}))
    status, out, err = run(*ONE, "--rows", "1", "10", "--out", tmp_path)
    assert status == 1
    assert "RuntimeError: this model cannot be built" in out
    assert "1 of 2 trainings failed" in err
    assert len(numbers(tmp_path)) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "nowhere"], "there is no folder nowhere"),
        (["--rows", "13"], "unknown row '13'; there are 1, 2, 3, 3b, 4"),
        (["--targets", "XYZ"], "unknown target 'XYZ'; there are TES, PCS"),
        (["--epochs", "0"], "'0' is no whole number of at least 1"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_arguments_get_one_sentence_and_leave_nothing(run, tmp_path, arguments, sentence):
    out = tmp_path / "out"
    status, stdout, err = run("--workers", "1", *arguments, "--out", out)
    assert status == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert stdout == ""
    assert not out.exists()


def label_row_short(folder):
    path = folder / "train_fs1000_new.txt"
    lines = path.read_text().splitlines()
    lines[2] = " ".join(lines[2].split()[:-1])
    path.write_text("\n".join(lines) + "\n")
    return "train_fs1000_new.txt"


def name_without_features(folder):
    path = folder / "train_fs1000_new.txt"
    name = path.read_text().split()[0]
    (folder / "video" / f"{name}.npy").unlink()
    return name


def nan_features(folder):
    import numpy as np

    path = next((folder / "audio").glob("*.npy"))
    features = np.load(path)
    features[0, 0] = np.nan
    np.save(path, features)
    return path.name


@pytest.mark.parametrize("fault", [label_row_short, name_without_features, nan_features])
def test_faults_of_the_data_get_one_sentence_and_leave_nothing(run, on_disk, tmp_path, fault):
    import shutil

    shutil.copytree(on_disk, tmp_path / "FS1000", ignore=shutil.ignore_patterns(".mag2-cache"))
    named = fault(tmp_path / "FS1000")
    status, stdout, err = run(*ONE, "--data", tmp_path / "FS1000", "--out", tmp_path / "out")
    assert status == 2
    assert named in err
    assert err.count("\n") == 1
    assert stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_row_that_needs_flow_says_so(run, on_disk, tmp_path):
    import shutil

    shutil.copytree(on_disk, tmp_path / "FS1000", ignore=shutil.ignore_patterns("flow", ".mag2-cache"))
    status, _, err = run(*ONE, "--rows", "7", "--data", tmp_path / "FS1000", "--out", tmp_path / "out")
    assert status == 2
    assert "row 7 (PAMFN) needs flow features" in err


def test_results_of_other_settings_are_not_mixed(run, tmp_path):
    run(*ONE, "--out", tmp_path)
    status, _, err = run(*ONE, "--epochs", "2", "--out", tmp_path)
    assert status == 2
    assert "holds results with epochs 1, this run has 2; give another --out" in err


# The real script on the tiny simulation; it dies as the first epoch of row 10 is measured, before its checkpoint.
KILLED = """
import os, runpy, signal, sys
from mag2.training.checkpoint import Checkpoint
from tests.few import few_performances
script, tiny, sys.argv = sys.argv[1], eval(sys.argv[2]), sys.argv[1:2] + sys.argv[3:]
few_performances(**tiny)
save = Checkpoint.save
def save_or_die(self, *state, **how):
    save(self, *state, **how)
    if "row-10" in self.run.folder.parts:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.save = save_or_die
runpy.run_path(script, run_name="__main__")
"""


def test_a_killed_run_goes_on_to_the_same_numbers(run, tmp_path):
    """The real script, killed without warning in mid-training, then run again."""
    arguments = [*ONE, "--rows", "1", "10", "--epochs", "2"]
    base = [sys.executable, "-c", KILLED, str(SCRIPT), repr(TINY), *arguments, "--out", str(tmp_path / "killed")]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join((str(SCRIPT.parent), str(SCRIPT.parents[1]))),
    }
    killed = subprocess.run(base, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    cell = tmp_path / "killed" / "cells" / "row-10" / "FS1000" / "TES" / "seed-0"
    assert len((cell / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (cell / "result.json").exists()
    status, _, err = run(*arguments, "--out", tmp_path / "killed")
    assert status == 0, err
    assert "1 of 2 trainings are done already" in err
    assert run(*arguments, "--out", tmp_path / "whole")[0] == 0
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
