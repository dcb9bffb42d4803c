"""A trained model comes back from its folder: whichever row, plug or sport, equal to the one that was trained."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

import mag2
from mag2 import MLAVL, ActionGraphGuidance, SimilarityWeighted, TextFeatures, attach, load_trained
from mag2.adapters import cofinal, gdlt, pamfn, qtd
from mag2.baselines import GDLT, PAMFN, QTD, CoFInAl
from mag2.data import Dataset, simulate
from mag2.texts import LearnedPrompts
from mag2.training import Recipe, Run, fit, predict
from mag2.training.report import PROTOCOLS
from mag2.training.trained_folder import save_trained

RECIPE = Recipe(lr=3e-3, batch=8)
TEXTS = TextFeatures.for_sport("figure_skating")


@pytest.fixture(scope="module")
def dataset():
    widths = {"visual": 384, "audio": 16, "flow": 8}
    made = simulate(TEXTS, train=12, test=8, length=(8, 10), widths=widths, aligned=True, top1=0.6)
    return made.dataset("PCS", clips=8)


def with_texts_and_mag2(adapter, model, **grading):
    adapter.with_texts(model, TEXTS, **grading)
    adapter.with_mag2(model, TEXTS)
    return model


MODELS = {
    "mlavl": lambda: MLAVL(TEXTS, visual_dim=384, audio_dim=16, dim=16, n_heads=4),
    "mlavl-control": lambda: MLAVL(TEXTS, visual_dim=384, audio_dim=16, dim=16, n_heads=4, control="random_texts"),
    "mlavl-queries": lambda: MLAVL(TEXTS, visual_dim=384, audio_dim=16, dim=16, n_heads=4, queries="learnable"),
    "mlavl-grades": lambda: MLAVL(
        TextFeatures.for_sport("figure_skating", n_grades=4), visual_dim=384, audio_dim=16, dim=16, n_heads=4
    ),
    "mlavl-learned": lambda: MLAVL(
        LearnedPrompts.for_sport("figure_skating", "random:0"), visual_dim=384, audio_dim=16, dim=16, n_heads=4
    ),
    "gdlt": lambda: GDLT(in_dim=384, dim=16, n_heads=2),
    "gdlt-plugs": lambda: with_texts_and_mag2(gdlt, GDLT(in_dim=384, dim=16, n_heads=2)),
    "cofinal-plugs": lambda: with_texts_and_mag2(cofinal, CoFInAl(in_dim=384, dim=16, n_heads=2)),
    "qtd-plugs": lambda: with_texts_and_mag2(qtd, QTD(in_dim=384, dim=16, feed_forward=16, n_queries=6)),
    "pamfn-plugs": lambda: with_texts_and_mag2(pamfn, PAMFN(visual_dim=384, audio_dim=16, flow_dim=8, dim=16), dim=16),
    "weighted": lambda: SimilarityWeighted(gdlt.with_mag2(GDLT(in_dim=384, dim=16, n_heads=2), TEXTS), TEXTS),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_comes_back_equal(dataset, tmp_path, name):
    torch.manual_seed(1)
    model = MODELS[name]()
    for parameter in model.parameters():  # guides start without effect
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_trained(model, tmp_path, dataset, texts=TEXTS)
    before = torch.get_rng_state()
    trained = load_trained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(part.training for part in trained.model.modules())
    assert (trained.target, trained.scale, trained.clips) == ("PCS", dataset.test.scale, 8)
    expected = predict(model, dataset.test) * dataset.test.scale
    torch.testing.assert_close(trained.predict(dataset.test), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trained.own_predictions.predicted, expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        trained.own_predictions.score, dataset.test.label.numpy() * dataset.test.scale, rtol=1e-5
    )
    assert trained.own_predictions.names == tuple(dataset.test.names)


def test_the_texts_are_those_of_the_model(dataset, tmp_path):
    four = TextFeatures.for_sport("figure_skating", n_grades=4)
    save_trained(MODELS["mlavl-grades"](), tmp_path, dataset, texts=TEXTS)
    trained = load_trained(tmp_path)
    assert trained.texts.prompts == four.prompts
    assert torch.equal(trained.texts.rows, four.rows)
    assert trained.texts.sport == "figure_skating"


def test_scores_of_your_own_range_come_back_in_it(tmp_path):
    scores = np.linspace(-3, 5, 20)
    features = {"visual": [torch.randn(6, 24) for _ in scores], "audio": [torch.randn(6, 16) for _ in scores]}
    data = Dataset.from_arrays(features, scores, split=0.4, scale=10, minimum=-4, clips=6)
    torch.manual_seed(0)
    model = GDLT(in_dim=24, dim=16, n_heads=2)
    fit(model, data, RECIPE, Run(epochs=1, folder=tmp_path), keep_model=True)
    trained = load_trained(tmp_path)
    expected = -4 + 10 * predict(model, data.test)
    torch.testing.assert_close(trained.predict(data.test), expected)
    np.testing.assert_allclose(trained.own_predictions.predicted, expected.numpy(), rtol=1e-5, atol=1e-5)
    assert all(np.isclose(scores, score).any() for score in trained.own_predictions.score)
    assert [each.score for each in trained.score(data.test, explain=())] == pytest.approx(expected.tolist())


def test_fit_keeps_what_it_trained(dataset, tmp_path):
    torch.manual_seed(0)
    model = MODELS["mlavl"]()
    history = fit(model, dataset, RECIPE, Run(epochs=3, seed=4, folder=tmp_path), keep_model=True)
    trained = mag2.load_trained(tmp_path)
    assert (trained.seed, trained.about["epoch"], trained.about["protocol"]) == (4, 3, "last_epoch")
    torch.testing.assert_close(trained.predict(dataset.test), predict(model, dataset.test) * trained.scale)
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["spearman"]) for row in rows] == [epoch.spearman for epoch in history.epochs]
    both = trained.predictions
    assert set(both) == set(PROTOCOLS)
    best = history.predictions[history.best_on_test.epoch - 1] * trained.scale
    np.testing.assert_allclose(both["best_on_test"].predicted, best.numpy(), rtol=1e-5)


def test_a_resumed_training_knows_the_predictions_of_all_its_epochs(dataset, tmp_path):
    class KilledError(Exception):
        pass

    def kill(epoch):
        if epoch.epoch == 2:
            raise KilledError

    def made():
        torch.manual_seed(0)
        return MODELS["gdlt"]()

    whole = fit(made(), dataset, RECIPE, Run(epochs=3))
    run = Run(epochs=3, folder=tmp_path, checkpoint_seconds=0)
    with pytest.raises(KilledError):
        fit(made(), dataset, RECIPE, run, on_epoch=kill)
    resumed = fit(made(), dataset, RECIPE, run)
    assert all(torch.equal(a, b) for a, b in zip(resumed.predictions, whole.predictions, strict=True))


class Own(nn.Module):
    """A model of no registered kind."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(384, 16), nn.Linear(16, 1)

    def forward(self, visual, audio, flow):
        return {"score": self.head(self.embed(visual).mean(dim=1)).flatten().sigmoid()}

    def loss(self, output, label):
        return {"total": ((output["score"] - label) ** 2).mean()}


def test_a_model_of_your_own_comes_back_by_your_function(dataset, tmp_path):
    torch.manual_seed(0)
    model = attach(Own(), ActionGraphGuidance(16, TEXTS.visual), at="embed")
    fit(model, dataset, RECIPE, Run(epochs=1, folder=tmp_path), keep_model=True)
    with pytest.raises(ValueError, match=r"holds a Own of your own.*build=lambda: Own\(\.\.\.\)"):
        load_trained(tmp_path)
    with pytest.raises(ValueError, match="build= returned a GDLT"):
        load_trained(tmp_path, build=MODELS["gdlt"])
    trained = load_trained(tmp_path, build=Own)
    torch.testing.assert_close(trained.predict(dataset.test), predict(model, dataset.test) * trained.scale)


def test_a_folder_of_another_version_says_what_is_missing(dataset, tmp_path):
    save_trained(MODELS["gdlt"](), tmp_path, dataset)
    path = tmp_path / "trained.json"
    about = json.loads(path.read_text())
    older = {key: value for key, value in about.items() if key != "scale"}
    for other, sentence in (
        (older, 'lacks "scale"'),
        ({**about, "format": 9}, "has format 9"),
        ({**about, "novelty": 1}, "has 'novelty'"),
    ):
        path.write_text(json.dumps({**other, "mag2": "7.0"}))
        with pytest.raises(ValueError, match=sentence) as error:
            load_trained(tmp_path)
        assert "mag2 7.0 wrote it" in str(error.value)
    path.write_text(json.dumps(about))
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="not of the same save"):
        load_trained(tmp_path)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({}, "holds 2 trained models that fit"),
        ({"seed": 7}, "no trained model of seed 7; there are .*seed 0, 1"),
        ({"target": "TES"}, "no trained model of target TES"),
        ({"row": "nothing"}, "no trained model of row nothing"),
    ],
)
def test_a_run_of_several_is_chosen_from_by_name(dataset, tmp_path, call, sentence):
    for seed in (0, 1):
        save_trained(MODELS["gdlt"](), tmp_path / f"seed-{seed}", dataset, run=Run(epochs=1, seed=seed))
    assert load_trained(tmp_path, seed=1, target="FS1000/PCS").seed == 1
    with pytest.raises(ValueError, match=sentence):
        load_trained(tmp_path, **call)


def test_where_nothing_was_trained_one_sentence_says_so(dataset, tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        load_trained(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no trained\.json in"):
        load_trained(tmp_path)
    save_trained(MODELS["gdlt"](), tmp_path, dataset, weights=False)
    assert (tmp_path / "predictions.csv").is_file()
    with pytest.raises(ValueError, match="holds no weights; train again without --no-weights"):
        load_trained(tmp_path)
    with pytest.raises(ValueError, match="keep_model writes the model into the folder"):
        fit(MODELS["gdlt"](), dataset, RECIPE, Run(epochs=1), keep_model=True)
