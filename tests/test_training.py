"""Training: the same numbers from the same seed, after a kill too, under each recipe and protocol."""

import json
import math

import pytest
import torch
from torch import nn

from mag2 import MLAVL, TextFeatures
from mag2.data import simulate
from mag2.training import Recipe, Run, fit, predict, train
from mag2.training.history import Epoch, History
from mag2.training.recipe import published_epochs

RECIPE = Recipe(lr=3e-3, batch=8)


@pytest.fixture(scope="module")
def dataset():
    texts = TextFeatures.for_sport("figure_skating")
    widths = {"visual": 24, "audio": 16, "flow": 8}
    return simulate(texts, train=26, test=12, length=(6, 12), widths=widths).dataset("TES", clips=8)


def small_model():
    torch.manual_seed(0)
    texts = TextFeatures.for_sport("figure_skating")
    return MLAVL(texts, visual_dim=24, audio_dim=16, dim=16, n_heads=4)


def numbers(history: History) -> list[tuple]:
    return [(e.epoch, e.loss, e.lr, e.spearman, e.mse, e.rl2) for e in history.epochs]


def test_a_seed_gives_the_same_numbers(dataset):
    first = fit(small_model(), dataset, RECIPE, Run(epochs=3, seed=5))
    second = fit(small_model(), dataset, RECIPE, Run(epochs=3, seed=5))
    other = fit(small_model(), dataset, RECIPE, Run(epochs=3, seed=6))
    assert numbers(first) == numbers(second)
    assert numbers(first) != numbers(other)


def test_the_callers_randomness_is_left_alone(dataset):
    model = small_model()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    fit(model, dataset, RECIPE, Run(epochs=1))
    assert torch.equal(torch.rand(1), expected)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_killed_training_ends_with_the_numbers_of_an_unbroken_one(dataset, tmp_path, seconds):
    """With a checkpoint at every epoch, and with none but the last: what was lost is trained again."""
    unbroken = small_model()
    whole = fit(unbroken, dataset, RECIPE, Run(epochs=4, folder=tmp_path / "whole", checkpoint_seconds=seconds))
    run = Run(epochs=4, folder=tmp_path / "killed", checkpoint_seconds=seconds)

    def kill(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit(small_model(), dataset, RECIPE, run, on_epoch=kill)
    resumed = small_model()
    torch.manual_seed(99)
    history = fit(resumed, dataset, RECIPE, run)
    assert numbers(history) == numbers(whole)
    for ours, theirs in zip(resumed.state_dict().values(), unbroken.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    lines = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert not list((tmp_path / "killed").glob("*.partial"))


def test_a_finished_training_is_not_trained_again(dataset, tmp_path):
    run = Run(epochs=2, folder=tmp_path)
    history = fit(small_model(), dataset, RECIPE, run)

    def never(epoch: Epoch) -> None:
        raise AssertionError("trained again")

    model = small_model()
    assert numbers(fit(model, dataset, RECIPE, run, on_epoch=never)) == numbers(history)
    assert history.last.mse == pytest.approx(
        float(((predict(model, dataset.test) - dataset.test.label) ** 2).mean()) * dataset.test.scale**2, rel=1e-4
    )


def test_a_checkpoint_of_another_training_is_refused(dataset, tmp_path):
    fit(small_model(), dataset, RECIPE, Run(epochs=1, folder=tmp_path))
    for recipe, run in (
        (Recipe(lr=1e-4, batch=8), Run(epochs=1, folder=tmp_path)),
        (RECIPE, Run(epochs=1, folder=tmp_path, precision="bfloat16")),
        (RECIPE, Run(epochs=1, folder=tmp_path, seed=1)),
    ):
        with pytest.raises(ValueError, match="of another training"):
            fit(small_model(), dataset, recipe, run)


def test_the_two_protocols():
    """The result is the last epoch; the released scripts report the best on the test set, nan never."""
    rhos = [0.1, 0.7, math.nan, 0.4]
    history = History([Epoch(i + 1, 0.0, 0.0, rho, 1.0, 1.0, 0.0) for i, rho in enumerate(rhos)])
    assert history.last.epoch == 4
    assert history.best_on_test.epoch == 2


def test_training_learns_what_the_simulator_planted():
    """Untrained models score at chance on simulated performances; a trained one ranks them."""
    texts = TextFeatures.for_sport("figure_skating")
    data = simulate(texts, train=320, test=160, length=(10, 14), widths={"visual": 32, "audio": 32}).dataset(
        "TES", clips=12
    )
    torch.manual_seed(0)
    sizes = {"visual_dim": 32, "audio_dim": 32, "dim": 32, "n_heads": 4, "n_fusion": 1, "n_grading": 1}
    model = MLAVL(texts, **sizes, dropout=0.1)
    history = fit(model, data, Recipe(lr=4e-3, batch=32), Run(epochs=15))
    assert history.last.spearman > 0.4
    assert history.last.loss < history.epochs[0].loss


def test_bfloat16_trains_and_stays_near_float32(dataset):
    full = fit(small_model(), dataset, RECIPE, Run(epochs=2))
    half = fit(small_model(), dataset, RECIPE, Run(epochs=2, precision="bfloat16"))
    assert numbers(full) != numbers(half)
    assert half.last.loss == pytest.approx(full.last.loss, rel=0.2)


def test_prediction_is_deterministic_and_leaves_the_mode_alone(dataset):
    model = small_model().train()
    assert torch.equal(predict(model, dataset.test), predict(model, dataset.test))
    assert model.training
    torch.testing.assert_close(predict(model, dataset.test), predict(model, dataset.test, batch=5))


def test_no_parameter_is_trained_on_a_batch_of_one():
    """26 = 25 + 1: BatchNorm has no variance of one video, which joins the batch before."""
    from mag2.training.fit import batches

    sizes = [len(index) for index in batches(26, 25, torch.Generator().manual_seed(0))]
    assert sizes == [26]
    assert sorted(torch.cat(list(batches(26, 8, torch.Generator()))).tolist()) == list(range(26))


def test_a_model_with_branches_trains_them_first(dataset, tmp_path):
    order = []

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(24, 1)

        def forward(self, visual, audio=None, flow=None):
            order.append(id(self))
            return {"score": self.linear(visual.mean(1)).sigmoid().squeeze(1)}

        def loss(self, output, label):
            return {"total": (output["score"] - label).square().mean()}

    class Whole(Part):
        def __init__(self):
            super().__init__()
            self.branches = {"visual": Part()}
            self.part = self.branches["visual"]

        def start_fusion(self):
            self.part.requires_grad_(False)

    model = Whole()
    train(model, dataset, RECIPE, Run(epochs=1, folder=tmp_path))
    assert order.index(id(model.part)) < order.index(id(model))
    assert (tmp_path / "visual" / "checkpoint.pt").is_file()
    assert (tmp_path / "checkpoint.pt").is_file()


def test_a_loss_that_explodes_stops_with_a_sentence(dataset):
    class Exploding(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, visual, audio=None, flow=None):
            return {"score": visual.mean((1, 2)) * self.w}

        def loss(self, output, label):
            return {"total": output["score"].sum() * math.inf}

    with pytest.raises(FloatingPointError, match="in epoch 1; a smaller learning rate"):
        fit(Exploding(), dataset, RECIPE, Run(epochs=1))


def test_published_epochs():
    assert published_epochs("FS1000", "TES") == 510
    assert published_epochs("RG", "Ribbon") == 710


@pytest.mark.parametrize(("optimizer", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_recipes_make_their_optimizer(optimizer, kind):
    made = Recipe(optimizer, lr=0.1).make_optimizer(nn.Linear(1, 1))
    assert type(made).__name__ == kind


def test_the_cosine_ends_at_one_percent_of_the_rate():
    recipe = Recipe(lr=1.0)
    optimizer = recipe.make_optimizer(nn.Linear(1, 1))
    schedule = recipe.make_schedule(optimizer, 10)
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr()[0] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Recipe("lion"), "unknown optimizer 'lion'; there are adam, adamw, sgd"),
        (lambda: Recipe(schedule="linear"), "unknown schedule"),
        (lambda: Run(epochs=0), "at least one epoch"),
        (lambda: Run(epochs=1, precision="int8"), "unknown precision 'int8'"),
    ],
)
def test_bad_settings_get_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_text_tower_trains_at_a_share_of_the_rate():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[1].lr_scale = 0.01
    groups = Recipe("adam", lr=0.5).make_optimizer(model).param_groups
    assert {group["lr"]: len(group["params"]) for group in groups} == {0.5: 2, 0.005: 2}
    optimizer = Recipe("adam", lr=0.5).make_optimizer(model)
    schedule = Recipe("adam", lr=0.5).make_schedule(optimizer, 4)
    rates = []
    for _ in range(5):
        rates.append(schedule.get_last_lr())
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx([0.5, 0.005]), "the whole rate first, which is the one that is logged"
    assert rates[2] == pytest.approx([0.5 * 0.505, 0.005 * 0.505])
    assert rates[4] == pytest.approx([0.005, 0.00005])
    model[1].requires_grad_(False)
    assert [len(group["params"]) for group in Recipe("adam", lr=0.5).make_optimizer(model).param_groups] == [2]
