"""Validation on training videos: when a training stops, which epoch it keeps; the test set has no part in it."""

import json

import pytest
import torch

from mag2 import TextFeatures, load_trained
from mag2.baselines import GDLT
from mag2.data import simulate
from mag2.training import Epoch, Recipe, Run, Validation, fit, measure, predict

RECIPE = Recipe(lr=3e-3, batch=8)


@pytest.fixture(scope="module")
def dataset():
    texts = TextFeatures.for_sport("figure_skating")
    made = simulate(texts, train=24, test=10, length=(6, 10), widths={"visual": 24, "audio": 16})
    return made.dataset("TES", clips=8)


def small_model():
    torch.manual_seed(0)
    return GDLT(in_dim=24, dim=16, n_heads=2)


def epochs(*values):
    return [Epoch(i + 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, validation=value) for i, value in enumerate(values)]


def test_the_videos_held_back_are_never_trained_on(dataset, monkeypatch):
    seen, batch = set(), type(dataset.train).batch

    def recorded(self, index, generator=None, **more):
        if generator is not None:
            seen.update(torch.as_tensor(index).tolist())
        return batch(self, index, generator, **more)

    monkeypatch.setattr(type(dataset.train), "batch", recorded)
    validation = Validation(share=0.25)
    kept, held = validation.split(len(dataset.train))
    fit(small_model(), dataset, RECIPE, Run(epochs=2), validation=validation)
    assert seen == set(kept.tolist())
    assert len(held) == 6
    assert not seen & set(held.tolist())


def test_the_best_epoch_on_validation_is_kept(dataset, tmp_path):
    validation, model = Validation(share=0.25), small_model()
    run = Run(epochs=6, folder=tmp_path)
    history = fit(model, dataset, RECIPE, run, validation=validation, keep_model=True)
    best = validation.best(history.epochs)
    _, held = validation.split(len(dataset.train))
    again = measure(predict(model, dataset.train, videos=held), dataset.train, held)
    assert again["spearman"] == best.validation == max(epoch.validation for epoch in history.epochs)
    assert history.chosen == best.epoch
    torch.testing.assert_close(predict(model, dataset.test), history.predictions[best.epoch - 1])
    trained = load_trained(tmp_path)
    assert trained.about["validation"]["share"] == 0.25
    assert trained.about["epoch"] == best.epoch
    torch.testing.assert_close(trained.predict(dataset.test), predict(model, dataset.test) * trained.scale)
    assert ("best_on_validation" in trained.predictions) == (best.epoch != 6)


def test_training_stops_when_nothing_gets_better(dataset, tmp_path):
    frozen = Recipe(lr=1e-30, batch=8)  # no epoch is better than the first
    run = Run(epochs=20, folder=tmp_path)
    validation = Validation(share=0.25, patience=3)
    history = fit(small_model(), dataset, frozen, run, validation=validation)
    assert len(history.epochs) == 4
    assert history.chosen == 1

    def never(epoch):
        raise AssertionError("trained on")

    assert len(fit(small_model(), dataset, frozen, run, on_epoch=never, validation=validation).epochs) == 4
    with pytest.raises(ValueError, match="of another training"):
        fit(small_model(), dataset, frozen, run)


def test_a_killed_training_keeps_its_best_epoch(dataset, tmp_path):
    class KilledError(Exception):
        pass

    def kill(epoch):
        if epoch.epoch == 4:
            raise KilledError

    validation, whole, resumed = Validation(share=0.25), small_model(), small_model()
    expected = fit(whole, dataset, RECIPE, Run(epochs=6), validation=validation)
    run = Run(epochs=6, folder=tmp_path, checkpoint_seconds=0)
    with pytest.raises(KilledError):
        fit(small_model(), dataset, RECIPE, run, on_epoch=kill, validation=validation)
    history = fit(resumed, dataset, RECIPE, run, validation=validation)
    assert [e.validation for e in history.epochs] == [e.validation for e in expected.epochs]
    assert all(
        torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True)
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["validation"] for line in lines] == [e.validation for e in history.epochs]


def test_what_is_best_and_when_it_stops():
    nan = float("nan")
    rho, error = Validation(patience=2), Validation(patience=2, measure="mse")
    assert rho.best(epochs(nan, 0.2, 0.5, 0.5)).epoch == 3
    assert error.best(epochs(4.0, 2.0, 3.0)).epoch == 2
    assert not rho.stops(epochs(0.5, 0.4))
    assert rho.stops(epochs(0.5, 0.4, 0.4))
    assert not Validation().stops(epochs(0.5, 0.4, 0.4))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Validation(share=0), "share is a part of the training videos"),
        (lambda: Validation(share=1), "above 0 and below 1, got 1"),
        (lambda: Validation(patience=0), "patience is a number of epochs, 1 or more"),
        (lambda: Validation(measure="rl2"), "unknown measure 'rl2'; there are spearman, mse"),
        (lambda: Validation(keep_best=False), "changes nothing; leave it out"),
        (lambda: Validation().split(3), "3 training videos give"),
        (lambda: Validation(videos=(0, 0)).split(9), "different numbers from 0 to 8"),
        (lambda: Validation(videos=(0, 9)).split(9), "different numbers from 0 to 8"),
        (lambda: Validation(videos=tuple(range(8))).split(9), "9 training videos give 8 and 1"),
    ],
)
def test_settings_that_mean_nothing_get_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_groups_are_held_back_whole():
    kept, held = Validation(videos=(1, 5, 2)).split(7)
    assert held.tolist() == [1, 2, 5]
    assert kept.tolist() == [0, 3, 4, 6]
