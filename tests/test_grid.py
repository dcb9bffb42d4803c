"""The grid over a Ray cluster is the grid over processes: same results, same failures, same resuming."""

import functools
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from mag2.data import Dataset
from mag2.training import Run, grid
from mag2.training.cells import Cell, read_result
from mag2.training.contract import check_model
from mag2.training.grid import run_grid
from mag2.training.process_pool import error_line
from mag2.training.target import Target

TES = Target("", "TES")
CELLS = [Cell(row, TES, seed) for row in ("a", "bad", "b") for seed in (0, 1)]


def work(cell, folder, tick, *, worth):
    if cell.row == "bad":
        raise RuntimeError("this cell\ncannot be trained")
    (folder / "metrics.jsonl").write_text("{}")
    tick()
    tick()
    return {"spearman": worth + cell.seed}


def run(out, **options):
    ticks = []
    job = functools.partial(work, worth=0.5)
    outcomes = list(run_grid(CELLS, job, out, on_tick=lambda: ticks.append(1), **options))
    return {o.cell: (o.error, o.result and o.result["spearman"]) for o in outcomes}, len(ticks)


@pytest.mark.slow
def test_a_cluster_gives_what_processes_give(tmp_path):
    pytest.importorskip("ray", reason="the extra `clusters` is not installed")
    expected = {cell: (None, 0.5 + cell.seed) for cell in CELLS if cell.row != "bad"}
    expected |= {cell: ("RuntimeError: this cell cannot be trained", None) for cell in CELLS if cell.row == "bad"}
    for options in ({"ray": "local"}, {"workers": 2}, {"workers": 1}):
        out = tmp_path / "-".join(map(str, options.items()))
        assert run(out, **options) == (expected, 8)
        assert read_result(CELLS[0], out)["spearman"] == 0.5
    again, ticks = run(out, ray="local")
    assert (again, ticks) == (expected, 0), "what is done is not done again"


def test_processes_give_what_one_process_gives(tmp_path):
    one, ticks = run(tmp_path / "one", workers=1)
    two, more = run(tmp_path / "two", workers=2)
    assert one == two
    assert ticks == more == 8


def own():
    raise ValueError("of a model of your own")


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: Run(epochs=0), "a training wants at least one epoch, got 0"),
        (lambda: check_model(nn.Linear(2, 2)), "Linear.forward takes (input) and is called as"),
        (lambda: Dataset.from_arrays([], []), "scores are a list of numbers, one a video, got none"),
        (lambda: nn.Linear(2, 2)(torch.ones(3)), "RuntimeError: mat1 and mat2|RuntimeError: size mismatch"),
        (lambda: {}["visual"], "KeyError: 'visual'"),
        (lambda: Path("nowhere/at/all").read_text(), "FileNotFoundError: [Errno 2] No such file or directory: "),
        (lambda: int("x"), "ValueError: invalid literal for int"),
        (own, "ValueError: of a model of your own"),
        (lambda: next(iter(())), "StopIteration"),
    ],
)
def test_a_refusal_of_the_library_is_the_sentence_alone_and_another_error_has_its_class(call, line):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    said = error_line(caught.value)
    assert any(said.startswith(each) for each in line.split("|")), said
    assert "\n" not in said


def work_with_a_pair(cell, folder, tick):
    return {"spearman": math.nan, "pair": (1, 0.1 + 0.2)}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_result_is_what_its_file_says(tmp_path, workers):
    cells = CELLS[:2]
    for outcome in run_grid(cells, work_with_a_pair, tmp_path, workers=workers):
        assert outcome.result["pair"] == [1, 0.1 + 0.2]
        assert math.isnan(outcome.result["spearman"])
        assert str(outcome.result) == str(read_result(outcome.cell, tmp_path))


def test_a_machine_that_does_not_see_the_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "write_result", lambda *_: None)
    outcomes = list(run_grid(CELLS[:1], work_with_a_pair, tmp_path))
    assert outcomes[0].result is None
    assert "it ended without a result.json in" in outcomes[0].error
    assert "every machine must see that folder" in outcomes[0].error


def work_or_die(cell, folder, tick):
    if cell.row == "bad":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return {"spearman": 0.5}


def test_a_process_that_is_killed_fails_its_own_cell_alone(tmp_path):
    cells = [CELLS[1], CELLS[2], CELLS[4]]  # one that dies, between two that do not
    outcomes = {o.cell: o.error for o in run_grid(cells, work_or_die, tmp_path, workers=2)}
    assert set(outcomes) == set(cells)
    for cell, error in outcomes.items():
        assert error == ("its process was killed, for want of memory perhaps" if cell.row == "bad" else None)


def work_long(cell, folder, tick):
    (folder / "began").write_text("")
    time.sleep(0.2 if cell.seed else 20)
    (folder / "ended").write_text("")
    return {"spearman": 0.5}


def test_a_caller_that_stops_early_leaves_no_training_behind(tmp_path):
    cells = [Cell("a", TES, seed) for seed in (1, 0, 0, 0, 0)]
    before, running = set(multiprocessing.active_children()), run_grid(cells, work_long, tmp_path, workers=2)
    assert next(running).error is None
    workers = [process.pid for process in multiprocessing.active_children() if process not in before]
    assert len(workers) == 2
    running.close()
    for pid in workers:  # the system knows; which thread reaps a process is a race
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert len(list(tmp_path.rglob("ended"))) == 1, "it waited for a training instead of stopping it"


def test_a_cluster_without_ray_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'mag2\[clusters\]'"):
        run(tmp_path, ray="local")
