"""The benchmark: every section runs, and what ours is measured against computes the same."""

import csv
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import measuring

from mag2 import MLAVL
from mag2.guidance import action_graph

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(EXAMPLES))
    spec = importlib.util.spec_from_file_location("benchmark_example", EXAMPLES / "benchmark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def quick(benchmark, tmp_path_factory):
    """One round of everything at tiny sizes: what it returned, and the rows of its table."""
    path = tmp_path_factory.mktemp("benchmark") / "runs" / "all.csv"
    sections = ["layer", "length", "mlavl", "loading", "epoch", "predict", "bf16"]
    status = benchmark.main(["--quick", "--rounds", "1", "--out", str(path), "--sections", *sections])
    with path.open(newline="", encoding="utf-8") as file:
        return status, list(csv.DictReader(file)), path


def test_every_section_measures_something(quick):
    status, rows, path = quick
    assert status == 0
    assert {row["section"] for row in rows} == {"layer", "length", "mlavl", "loading", "epoch", "predict", "bf16"}
    assert all(float(row["value"]) > 0 for row in rows if row["unit"] != "Spearman")
    assert not list(path.parent.glob("*.partial"))


def test_each_comparison_is_relative_to_its_first_way_and_lengths_to_their_half(quick):
    _, rows, _ = quick
    groups = {}
    for row in rows:
        groups.setdefault((row["comparison"], row["unit"]), []).append(row)
    compared = 0
    for (title, _), group in groups.items():
        befores = [group[0], *group] if title.startswith("MAG2 over T") else [group[0]] * len(group)
        for before, row in zip(befores, group, strict=False):
            if row["ratio"]:
                compared += 1
                expected = float(row["value"]) / float(before["value"])
                assert float(row["ratio"]) == pytest.approx(expected, rel=1e-3)
    assert compared > 30


def test_the_picture_lies_beside_the_table(quick):
    pytest.importorskip("matplotlib")
    _, _, path = quick
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_section_of_videos_runs(benchmark, tmp_path):
    pytest.importorskip("av")
    pytest.importorskip("transformers")
    plan = benchmark.Plan(benchmark.TINY, 1, "cpu", compile=False)
    (comparison,) = benchmark.extraction.run(plan)
    assert comparison.rows[0].way == "decoding alone (PyAV)"
    assert len(comparison.rows) == 5
    assert all(row.value > 0 for row in comparison.rows)


def test_without_matplotlib_a_line_says_so(benchmark, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "matplotlib is not installed" in benchmark.plot([], tmp_path / "none.png")
    assert not list(tmp_path.iterdir())


def test_a_baseline_takes_its_plugs(benchmark):
    plan = benchmark.Plan(benchmark.TINY, 1, "cpu", compile=False)
    ways = benchmark.plugs.ways(plan, "GDLT")
    assert set(ways) == {"plain", "+Texts", "+MAG2"}
    for way in ways.values():
        way()


def test_a_profile_counts_the_matrix_products(benchmark, capsys, tmp_path):
    out = str(tmp_path / "all.csv")
    assert benchmark.main(["--quick", "--rounds", "1", "--sections", "layer", "--profile", "--out", out]) == 0
    printed = capsys.readouterr().out
    assert "where the time goes: bare matrix products" in printed
    assert "aten::mm" in printed
    left, right = torch.randn(30, 50), torch.randn(50, 70)
    text = measuring.profiled(lambda: (left @ right).relu(), "cpu")
    assert f"matrix products: {2 * 30 * 50 * 70 / 1e9:.4g} GFLOP" in text


def test_rounds_are_one_or_more(benchmark, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--rounds", "0"])
    assert "argument --rounds: '0' is no whole number of at least 1" in capsys.readouterr().err


def test_edges_that_are_appended_are_the_action_graph(benchmark):
    ours, theirs = action_graph(5, 3), benchmark.layer.appended_edges(5, 3)
    assert set(map(tuple, ours.T.tolist())) == set(map(tuple, theirs.T.tolist()))


def test_both_ways_of_mag2_compute_the_same(benchmark):
    plan = benchmark.Plan(benchmark.TINY, 1, "cpu", compile=False)
    guide, clips, texts = benchmark.layer.drawn(plan)
    edges = benchmark.layer.appended_edges(clips.shape[1], len(texts))
    released = benchmark.layer.graph_a_video(guide, clips, texts, edges, 0.0)
    torch.testing.assert_close(guide(clips, texts), released)


def test_the_reference_step_is_mlavl_in_value_loss_and_gradient(benchmark):
    """Its dropout taken away: the released way of the same weights."""
    mlavl = benchmark.mlavl
    reference = mlavl.ReleasedMLAVL(mlavl.TEXTS, 12, 16, 2, 0.0)
    ours = MLAVL.from_released(reference.state_dict(), text_features=mlavl.TEXTS, n_head=2, dropout=0.0)
    ours, reference = ours.double().train(), reference.double().train()
    visual, audio, label = torch.randn(3, 5, 12), torch.randn(3, 5, 12), torch.rand(3)
    visual, audio, label = (part.double() for part in (visual, audio, label))

    output, expected = ours(visual, audio), reference(visual, audio)
    for key in expected:
        torch.testing.assert_close(output[key], expected[key])
    loss, expected_loss = ours.loss(output, label)["total"], reference.loss(expected, label)
    torch.testing.assert_close(loss, expected_loss)
    loss.backward()
    expected_loss.backward()
    for name, theirs in (
        ("project_visual.reduce", reference.proj_visual[0]),
        ("guide_audio.conv1.lin_l", reference.gcn_A.conv1.lin_l),
    ):
        torch.testing.assert_close(ours.get_parameter(f"{name}.weight").grad, theirs.weight.grad.squeeze(-1))
    torch.testing.assert_close(ours.grading.w.grad, reference.w1.grad)


def test_the_peak_counts_what_is_held_together(benchmark):
    measuring = sys.modules["benchmarks.measuring"]
    size = 4 * 1000 * 1000

    def one_after_another():
        for _ in range(3):
            torch.ones(1000, 1000)

    def together():
        return [torch.ones(1000, 1000) for _ in range(3)]

    assert measuring.peak_bytes(one_after_another, "cpu") == pytest.approx(size, rel=0.05)
    assert measuring.peak_bytes(together, "cpu") == pytest.approx(3 * size, rel=0.05)
