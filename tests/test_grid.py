"""The grid over a Ray cluster is the grid over processes: same results, same failures, same resuming."""

import functools

import pytest

from mag2.training.grid import Cell, read_result, run_grid

CELLS = [Cell(row, "TES", seed) for row in ("a", "bad", "b") for seed in (0, 1)]


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


def test_a_cluster_without_ray_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'mag2\[clusters\]'"):
        run(tmp_path, ray="local")
