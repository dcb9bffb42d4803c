"""What a training may be given beside its data: curves, a limit of the gradient, precision, a compiler."""

import csv
import sys

import pytest
import torch
from torch import nn

from mag2.data import simulate
from mag2.training import Recipe, Run, command, fit
from mag2.training.recipe import MLAVL_RECIPE
from mag2.training.tables import Heading, Row, Table
from tests.few import few_performances
from tests.models import TEXTS

WIDTHS = {"visual": 6, "audio": 4}
RECIPE = Recipe("sgd", lr=0.1, weight_decay=0.0, batch=4)


class Scorer(nn.Module):
    """A model that is quick to train and to compile; `slope` multiplies its loss."""

    def __init__(self, width: int = 6, slope: float = 1.0):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(width, 1)
        self.slope = slope
        self.seen: list[torch.dtype] = []

    def forward(self, visual, audio=None, flow=None):
        logits = self.linear(visual).mean(dim=1).squeeze(1)
        if not torch.compiler.is_compiling():
            self.seen.append(logits.dtype)
        return {"score": logits.sigmoid()}

    def loss(self, output, label):
        return {"total": self.slope * (output["score"] - label).square().mean()}


@pytest.fixture(scope="module")
def data():
    made = simulate(TEXTS, sport="rhythmic_gymnastics", train=32, test=16, length=(6, 8), widths=WIDTHS)
    return made.dataset("Ball", clips=6)


# --- curves ---


def test_tensorboard_has_a_point_of_each_curve_for_every_epoch(data, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    history = fit(Scorer(), data, RECIPE, Run(epochs=3, folder=tmp_path))
    accumulator = events.EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert set(accumulator.Tags()["scalars"]) == {"loss", "lr", "spearman", "mse", "rl2"}
    for curve in accumulator.Tags()["scalars"]:
        points = accumulator.Scalars(curve)
        assert [point.step for point in points] == [1, 2, 3]
        expected = [getattr(epoch, curve) for epoch in history.epochs]
        assert [point.value for point in points] == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_a_resumed_training_adds_its_epochs_to_the_curves(data, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    class KilledError(Exception):
        pass

    def kill(epoch):
        if epoch.epoch == 2:
            raise KilledError

    run = Run(epochs=3, folder=tmp_path, checkpoint_seconds=0)
    with pytest.raises(KilledError):
        fit(Scorer(), data, RECIPE, run, on_epoch=kill)
    fit(Scorer(), data, RECIPE, run)
    accumulator = events.EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert [point.step for point in accumulator.Scalars("loss")] == [1, 2, 3]


def test_without_tensorboard_or_without_a_folder_nothing_is_written(data, tmp_path, monkeypatch):
    fit(Scorer(), data, RECIPE, Run(epochs=1))
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    fit(Scorer(), data, RECIPE, Run(epochs=1, folder=tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "checkpoint.pt", "metrics.jsonl"}


# --- the gradient ---


def step(data, slope, grad_clip):
    """How far one step over the whole training set went."""
    model = Scorer(slope=slope)
    before = [p.detach().clone() for p in model.parameters()]
    fit(model, data, Recipe("sgd", lr=1.0, momentum=0.0, weight_decay=0.0, batch=8, grad_clip=grad_clip), Run(epochs=1))
    return torch.cat([(p - was).detach().flatten() for p, was in zip(model.parameters(), before, strict=True)])


def test_grad_clip_is_the_longest_step_and_keeps_its_direction(data):
    free, clipped = step(data, 1000.0, None), step(data, 1000.0, 0.5)
    assert free.norm() > 1
    torch.testing.assert_close(clipped, 0.5 * free / free.norm(), rtol=1e-4, atol=1e-6)


def test_grad_clip_leaves_a_short_gradient_alone(data):
    assert torch.equal(step(data, 1.0, None), step(data, 1.0, 1e3))


# --- precision and compiler ---


def test_bf16_runs_the_model_in_bfloat16_and_keeps_weights_and_loss_in_float32(data):
    losses = {}
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        model = Scorer()
        losses[precision] = fit(model, data, RECIPE, Run(epochs=2, precision=precision)).last.loss
        assert set(model.seen) == {dtype}
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses["float32"] != losses["bfloat16"]
    assert losses["float32"] == pytest.approx(losses["bfloat16"], rel=0.05)


@pytest.fixture
def compiled(monkeypatch):
    """What was compiled; by the backend that takes no compiler of C++."""
    models = []

    def compile_eagerly(model, make=torch.compile):
        models.append(model)
        return make(model, backend="eager")

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    yield models
    torch.compiler.reset()


def test_compile_trains_the_same_model_compiled(data, compiled):
    plain, model = Scorer(), Scorer()
    expected = fit(plain, data, RECIPE, Run(epochs=1))
    history = fit(model, data, RECIPE, Run(epochs=1, compile=True))
    assert compiled == [model]
    assert history.last.loss == pytest.approx(expected.last.loss, rel=1e-5)
    assert model.seen == []  # it ran nowhere but in the compiler's graph
    for ours, theirs in zip(model.state_dict().items(), plain.state_dict().items(), strict=True):
        assert ours[0] == theirs[0]
        torch.testing.assert_close(ours[1], theirs[1])


# --- the same as options of the command ---

TABLE = Table(
    "own", "A table", (Row(Heading("1", "Own", "", {}), lambda i: Scorer(i.widths["visual"]), MLAVL_RECIPE),),
    {"FS1000": ("TES",)},
)  # fmt: skip


@pytest.fixture
def table(monkeypatch, capsys, tmp_path):
    """Run the command on a tiny simulation; the folder of its one training."""
    few_performances(monkeypatch, train=8, test=4, length=(6, 8), clips=6)

    def run(*options, name="out"):
        arguments = ["--epochs", "1", "--workers", "1", "--device", "cpu", "--out", str(tmp_path / name), *options]
        assert command.main(TABLE, arguments) == 0, capsys.readouterr().err
        return tmp_path / name / "cells" / "row-1" / "FS1000" / "TES" / "seed-0"

    return run


def test_keep_weights_keeps_the_trained_model_and_without_it_none_stays(table):
    kept, bare = table("--keep-weights", name="kept"), table(name="bare")
    assert not list(bare.rglob("*.pt"))
    saved = torch.load(kept / "checkpoint.pt", weights_only=True)
    model = Scorer(saved["model"]["linear.weight"].shape[1])
    model.load_state_dict(saved["model"])
    assert len(saved["history"]) == 1
    assert all((folder / "metrics.jsonl").read_text() for folder in (kept, bare))


def test_bf16_and_compile_reach_the_training(table, compiled, tmp_path):
    seen = []
    original = Scorer.forward

    def forward(self, *features):
        output = original(self, *features)
        seen.append(torch.is_autocast_enabled("cpu"))
        return output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scorer, "forward", forward)
        table("--bf16", name="half")
        table(name="full")
    assert set(seen[: len(seen) // 2]) == {True}
    assert set(seen[len(seen) // 2 :]) == {False}
    assert compiled == []
    table("--compile", name="compiled")
    assert [type(model) for model in compiled] == [Scorer]
    full, through_compiler = (
        [float(row["mse"]) for row in csv.DictReader((tmp_path / name / "results.csv").open())]
        for name in ("full", "compiled")
    )
    assert full == pytest.approx(through_compiler, rel=1e-4)
