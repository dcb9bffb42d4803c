"""`cross_validate`: every video is tested once, groups stay whole, and the measures are those of the folds."""

import inspect
import math
from functools import partial
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from torch import nn

from mag2 import TextFeatures, load_trained
from mag2.adapters import gdlt
from mag2.baselines import GDLT, PAMFN
from mag2.data import Dataset
from mag2.data.folds import make_folds
from mag2.data.pooling import pooled
from mag2.metrics import mse, spearman
from mag2.training import Recipe, Run, Validation, cross_validate, fit, predict, train

N = 14
GROUPS = [number // 2 for number in range(N)]
RECIPE = Recipe(lr=1e-2, batch=4)


def vaults(**options):
    draw = np.random.default_rng(0)
    features = [draw.normal(size=(length, 8)) for length in draw.integers(3, 7, N)]
    return Dataset.from_arrays(features, draw.uniform(9, 15, N), **({"scale": 16.0} | options))


def plain():
    return GDLT(in_dim=8, dim=8, n_heads=2, dropout=0.0)


class Mean(nn.Module):
    """A model whose score says which videos it was trained on."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, visual, audio, flow):
        if self.training:
            self.seen += visual.mean(dim=(1, 2)).sum()
        return {"score": torch.sigmoid(visual.mean(dim=(1, 2)) * (1 + self.weight))}

    def loss(self, output, label):
        return {"total": (output["score"] - label).square().mean()}


@pytest.mark.parametrize("groups", [None, GROUPS, ["a"] * 6 + ["b"] * 4 + ["c"] * 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_video_is_tested_once_and_no_group_is_on_both_sides(groups, seed):
    folds = make_folds(N, 3, groups, seed)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(N))
    for training, testing in folds:
        assert sorted([*training, *testing]) == list(range(N))
        if groups is not None:
            assert not {groups[each] for each in training} & {groups[each] for each in testing}


def test_folds_are_as_equal_as_whole_groups_allow():
    assert sorted(len(test) for _, test in make_folds(N, 3)) == [4, 5, 5]
    assert sorted(len(test) for _, test in make_folds(N, 3, GROUPS)) == [4, 4, 6]
    assert sorted(len(test) for _, test in make_folds(8, 2, list("aaaabbcd"))) == [4, 4]


def test_folds_come_from_the_seed():
    def drawn(seed):
        return [test.tolist() for _, test in make_folds(N, 3, None, seed)]

    assert drawn(3) == drawn(3) != drawn(4)


@pytest.mark.parametrize("evaluation", ["crops", "whole"])
def test_the_measures_are_mean_and_spread_over_folds(evaluation):
    dataset = vaults(clips=3)
    result = cross_validate(plain, dataset, RECIPE, Run(epochs=2, evaluation=evaluation), folds=3)
    everything = pooled(dataset)
    score = dict(zip(everything.names, everything.in_units(everything.label).tolist(), strict=True))
    assert set(result.predictions) == set(score)
    rho = [spearman(fold.prediction, [score[name] for name in fold.names]) for fold in result.folds]
    error = [mse(fold.prediction, [score[name] for name in fold.names]) for fold in result.folds]
    assert result.spearman.mean == pytest.approx(fmean(rho))
    assert result.spearman.spread == pytest.approx(stdev(rho))
    assert result.mse.mean == pytest.approx(fmean(error), rel=1e-4)
    assert result.mse.spread == pytest.approx(stdev(error), rel=1e-4)
    assert result.rl2.mean == pytest.approx(fmean(fold.history.last.rl2 for fold in result.folds))
    assert repr(result).startswith(f"CrossValidation(3 folds; Spearman {result.spearman}, MSE ")
    assert f"{rho[0]:.3f}" in repr(result.folds[0])


def test_predictions_are_in_the_units_of_the_scores():
    result = cross_validate(plain, vaults(minimum=8.0, scale=8.0), RECIPE, Run(epochs=1), folds=2)
    assert all(8 <= score <= 16 for score in result.predictions.values())


def test_no_fold_sees_its_own_test_videos():
    built = []

    def build():
        built.append(Mean())
        return built[-1]

    dataset = vaults()
    cross_validate(build, dataset, Recipe(batch=4), Run(epochs=1), folds=3)
    everything = pooled(dataset)
    means = everything.batch(range(N)).visual.mean(dim=(1, 2))
    for model, (training, _) in zip(built, make_folds(N, 3), strict=True):
        torch.testing.assert_close(model.seen, means[torch.from_numpy(training)].sum(), atol=1e-5, rtol=0)


def test_groups_of_the_dataset_are_kept_whole_and_others_may_be_given():
    dataset = vaults(groups=GROUPS)
    for options, groups in (({}, GROUPS), ({"groups": [number % 5 for number in range(N)]}, None)):
        groups = groups or options["groups"]
        result = cross_validate(plain, dataset, RECIPE, Run(epochs=1), folds=3, **options)
        owners = [{groups[int(name.removeprefix("video-"))] for name in fold.names} for fold in result.folds]
        assert not owners[0] & owners[1] | owners[1] & owners[2] | owners[0] & owners[2]


def test_two_models_are_compared_on_the_same_folds_whatever_the_split():
    texts = TextFeatures.for_sport("rhythmic_gymnastics")
    without = cross_validate(plain, vaults(split=0.2), RECIPE, Run(epochs=1), folds=3)
    guided = cross_validate(
        lambda: gdlt.with_mag2(plain(), texts), vaults(split=0.5, seed=4), RECIPE, Run(epochs=1), folds=3
    )
    assert [fold.names for fold in without.folds] == [fold.names for fold in guided.folds]
    assert without.predictions != guided.predictions


def test_the_same_call_gives_the_same_numbers_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = (cross_validate(plain, vaults(), RECIPE, Run(epochs=2), folds=2) for _ in range(2))
    assert first.predictions == second.predictions
    assert torch.equal(torch.get_rng_state(), state)


def test_a_killed_cross_validation_goes_on(tmp_path):
    whole = cross_validate(plain, vaults(), RECIPE, Run(epochs=2), folds=3)
    run = Run(epochs=2, folder=tmp_path, checkpoint_seconds=0)
    seen = []

    def stop(epoch):
        seen.append(epoch)
        if len(seen) == 3:  # in the second fold
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_validate(plain, vaults(), RECIPE, run, folds=3, on_epoch=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold-1", "fold-2"]
    rest = []
    again = cross_validate(plain, vaults(), RECIPE, run, folds=3, on_epoch=rest.append)
    assert len(rest) == 3
    assert again.predictions == whole.predictions
    assert again.spearman == whole.spearman


def test_a_folder_of_other_folds_is_refused(tmp_path):
    run = Run(epochs=1, folder=tmp_path)
    cross_validate(plain, vaults(), RECIPE, run, folds=3)
    with pytest.raises(ValueError, match="data"):
        cross_validate(plain, vaults(), RECIPE, run, folds=3, fold_seed=1)


def folds_of_pamfn(**options):
    """The epochs of two folds of a model that trains its branches first, and their result."""
    draw = np.random.default_rng(0)
    features = {name: [draw.normal(size=(5, 6)) for _ in range(8)] for name in ("visual", "audio", "flow")}
    dataset, epochs = Dataset.from_arrays(features, draw.uniform(size=8), scale=1.0), []
    model = partial(PAMFN, visual_dim=6, audio_dim=6, flow_dim=6, dim=8)
    result = cross_validate(model, dataset, RECIPE, Run(epochs=1), folds=2, on_epoch=epochs.append, **options)
    return epochs, result


def test_models_with_branches_train_them_in_every_fold():
    epochs, result = folds_of_pamfn()
    assert len(epochs) == 2 * 4
    assert len(result.predictions) == 8


def test_a_fold_without_a_rank_correlation_is_said_and_not_averaged():
    scores = [10.0] * 7 + [float(11 + number) for number in range(7)]
    draw = np.random.default_rng(0)
    dataset = Dataset.from_arrays([draw.normal(size=(3, 8)) for _ in range(N)], scores, scale=20.0)
    with pytest.warns(UserWarning, match="fold 1 has equal scores for all of its test videos, given or predicted"):
        result = cross_validate(plain, dataset, RECIPE, Run(epochs=1), folds=2, groups=[0] * 7 + [1] * 7, fold_seed=1)
    assert math.isnan(result.spearman.mean)
    assert not math.isnan(result.mse.mean)


def test_simulated_data_is_marked():
    result = cross_validate(plain, vaults(simulated=True), RECIPE, Run(epochs=1), folds=2)
    assert result.simulated
    assert "2 folds, simulated data; " in repr(result)


@pytest.mark.parametrize("swap", [False, True])
def test_what_stands_in_the_place_of_a_run_or_a_recipe_is_named(swap):
    arguments = (Run(epochs=1), Recipe()) if swap else (Recipe(), 5)
    sentence = "recipe is a Run: give Recipe" if swap else r"run is a int: give Run\(epochs=5\)"
    for call in (lambda: cross_validate(Mean, vaults(), *arguments), lambda: fit(Mean(), vaults(), *arguments)):
        with pytest.raises(TypeError, match=sentence):
            call()


def test_a_validation_chooses_the_epoch_of_each_fold_without_its_test_videos(tmp_path):
    """The same numbers as `fit` on each fold; the weights of the kept epoch give the predictions of the fold."""
    validation = Validation(share=0.4, patience=1, measure="mse")
    run = Run(epochs=4, folder=tmp_path)
    result = cross_validate(plain, vaults(), RECIPE, run, folds=2, validation=validation, keep_model=True)
    everything = pooled(vaults())
    for number, (fold, (training, testing)) in enumerate(zip(result.folds, make_folds(N, 2), strict=True), 1):
        part = Dataset("own", "score", everything.subset(training), everything.subset(testing))
        torch.manual_seed(0)
        model = plain()
        history = fit(model, part, RECIPE, Run(epochs=4), validation=validation)
        assert [epoch.validation for epoch in fold.history.epochs] == [epoch.validation for epoch in history.epochs]
        assert fold.result.epoch == history.chosen == validation.best(history.epochs).epoch
        assert fold.result.mse == pytest.approx(mse(fold.prediction, part.test.in_units(part.test.label)), rel=1e-4)
        torch.testing.assert_close(fold.prediction, part.test.in_units(predict(model, part.test)))
        kept = load_trained(tmp_path / f"fold-{number}")
        torch.testing.assert_close(kept.predict(part.test), fold.prediction)
    assert result.mse.mean == pytest.approx(fmean(fold.result.mse for fold in result.folds))
    assert {fold.result.epoch for fold in result.folds} != {4}, "no fold shows that the kept epoch is used"


def test_a_validation_tears_no_group_apart(monkeypatch):
    held = []
    split = Validation.split

    def spy(self, n):
        kept, back = split(self, n)
        held.append((n, back.tolist()))
        return kept, back

    monkeypatch.setattr(Validation, "split", spy)
    cross_validate(plain, vaults(groups=GROUPS), RECIPE, Run(epochs=1), folds=3, validation=Validation(share=0.3))
    for (n, back), (training, _) in zip(held, make_folds(N, 3, GROUPS), strict=True):
        owners = [GROUPS[video] for video in training]
        inside = {owners[video] for video in back}
        assert len(training) == n
        assert back == [video for video, owner in enumerate(owners) if owner in inside]


def test_branches_take_their_own_recipe_and_epochs_in_every_fold():
    epochs, _ = folds_of_pamfn(branches=Recipe(lr=0.5, batch=4), branch_epochs=2)
    assert [epoch.epoch for epoch in epochs] == ([1, 2] * 3 + [1]) * 2
    assert [epoch.lr for epoch in epochs if epoch.epoch == 1] == ([0.5] * 3 + [RECIPE.lr]) * 2


def test_what_one_training_takes_a_training_in_stages_and_in_folds_takes_as_well():
    of_fit, of_stages, of_folds = (set(inspect.signature(each).parameters) for each in (fit, train, cross_validate))
    assert of_fit <= of_stages
    assert of_stages - {"model"} <= of_folds


@pytest.mark.parametrize(
    ("options", "run", "said"),
    [
        ({"keep_model": True}, Run(epochs=1), "keep_model writes the model into the folder of the run"),
        ({"validation": Validation(videos=(0, 1))}, Run(epochs=1), "another in each fold; give share"),
        ({"branches": RECIPE}, Run(epochs=1), "GDLT has no branches to train before it: leave branches out"),
        ({"branch_epochs": 3}, Run(epochs=1), "leave branch_epochs out"),
        ({}, Run(epochs=1, record=(1,)), "record keeps grades in the folder of the run"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(options, run, said):
    with pytest.raises(ValueError, match=said):
        cross_validate(plain, vaults(), RECIPE, run, folds=2, **options)
