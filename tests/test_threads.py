"""A cell has the same numbers with any number of workers, and when it is trained again alone."""

import json

import pytest
import torch
from torch import nn

from mag2.training.cells import Cell
from mag2.training.grid import run_grid
from mag2.training.target import Target
from mag2.training.threads import THREADS, threads_of_torch
from tests.few import few_performances

CELLS = [Cell("a", Target("", "TES"), seed) for seed in range(3)]


def trained(seed: int) -> torch.Tensor:
    """The weights of a network after some steps, wide enough that torch divides its sums among threads."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(256, 700, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(700, 512), nn.LayerNorm(512), nn.GELU(), nn.Linear(512, 1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        loss = (model(inputs).squeeze(1) - inputs.sum(1) / 30).pow(2).sum()
        loss.backward()
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def work(cell, folder, tick):
    return {"threads": torch.get_num_threads(), "weights": trained(cell.seed).double().sum().item().hex()}


@pytest.fixture
def two_threads():
    with threads_of_torch(2):
        yield


def results(out, cells=CELLS, **options):
    return {outcome.cell: outcome.result for outcome in run_grid(cells, work, out, **options)}


def numbers(found):
    return {cell: {key: value for key, value in result.items() if key != "seconds"} for cell, result in found.items()}


def test_workers_change_no_number(two_threads, tmp_path):
    one = numbers(results(tmp_path / "one", workers=1))
    two = numbers(results(tmp_path / "two", workers=2))
    assert one == two
    assert {result["threads"] for result in one.values()} == {THREADS}
    (CELLS[1].folder(tmp_path / "two") / "result.json").unlink()
    alone = numbers(results(tmp_path / "two", workers=2))
    assert alone == one, "the cell that is retried is the only one that waits, and runs in this process"
    assert torch.get_num_threads() == 2, "the caller's threads are left alone"


def test_the_number_of_threads_is_what_would_change_them(two_threads):
    with threads_of_torch(1):
        one = trained(0)
    if torch.equal(one, trained(0)):
        pytest.skip("this machine adds in one order with any number of threads")
    torch.testing.assert_close(one, trained(0), rtol=1e-3, atol=1e-4)


def test_threads_that_are_requested_are_those_of_every_cell(tmp_path):
    one = numbers(results(tmp_path / "one", CELLS[:2], workers=1, threads=2))
    two = numbers(results(tmp_path / "two", CELLS[:2], workers=2, threads=2))
    assert one == two
    assert {result["threads"] for result in one.values()} == {2}


def test_a_table_does_not_mix_threads(tmp_path, capsys, monkeypatch):
    import table4

    from mag2.training.command import main

    few_performances(monkeypatch, train=24, test=12, length=(6, 10), clips=8)
    arguments = [
        "--datasets",
        "FS1000",
        "--rows",
        "10",
        "--targets",
        "TES",
        "--epochs",
        "1",
        "--workers",
        "1",
        "--device",
        "cpu",
    ]
    arguments += ["--out", str(tmp_path)]
    assert main(table4.TABLE4, arguments) == 0
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["settings"]["threads"] == THREADS
    with pytest.raises(SystemExit):
        main(table4.TABLE4, [*arguments, "--threads", "2"])
    assert "holds results with threads 1, this run has 2; give another --out" in capsys.readouterr().err
    del settings["settings"]["threads"]  # as before it was recorded
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    assert main(table4.TABLE4, arguments) == 0


def test_an_error_gives_the_threads_back():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), threads_of_torch(before + 1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
