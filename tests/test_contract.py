"""What training expects of a model: every model of the library gives it, and each broken part has its sentence."""

import re
import sys

import pytest
import torch
from torch import nn

from mag2 import MLAVL, SimilarityWeighted, TextFeatures
from mag2.baselines import GDLT, PAMFN, QTD, SGN, CoFInAl, MBertLate, SkatingMixer
from mag2.data import ClipFeatures
from mag2.data.labels import Example
from mag2.data.performances import assemble
from mag2.training import ContractError, Recipe, Run, ScoringModel, fit, predict, train
from mag2.training.contract import branches_of, check_model

VIDEOS, WIDTH = 6, 8
RECIPE, RUN = Recipe(batch=4), Run(epochs=1)


@pytest.fixture(scope="module")
def dataset():
    generator = torch.Generator().manual_seed(0)
    videos = [torch.randn(5, WIDTH, generator=generator).numpy() for _ in range(VIDEOS)]
    labels = [Example(f"v{i}", (i + 1) / 10, f"v{i}") for i in range(VIDEOS)]
    features = {"visual": ClipFeatures.stack(videos)}
    return assemble("own", "score", scale=1.0, clips=4, train=labels[:4], test=labels[4:], features=features)


class Scorer(nn.Module):
    """A model of a user's own that keeps the contract."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, 1)

    def forward(self, visual, audio=None, flow=None):
        return {"score": self.linear(visual.mean(1)).sigmoid().squeeze(1)}

    def loss(self, output, label):
        return {"total": (output["score"] - label).square().mean()}


def model(forward=None, loss=None, **attributes):
    """A scorer with a part that is another."""
    members = {} if forward is None else {"forward": forward}
    members |= {} if loss is None else {"loss": loss}
    return type("Own", (Scorer,), members | attributes)()


def scores(self, visual):
    return self.linear(visual.mean(1)).sigmoid()


BROKEN = {
    "an output that is a tensor": (
        model(lambda self, visual, audio=None, flow=None: scores(self, visual).squeeze(1)),
        'Own returned a tensor (4,); return a mapping with "score"',
    ),
    "an output that is a tuple": (
        model(lambda self, visual, audio=None, flow=None: (scores(self, visual), None)),
        "Own returned a tuple; return a mapping",
    ),
    "no output": (model(lambda self, visual, audio=None, flow=None: None), "Own returned a NoneType"),
    "no score": (
        model(lambda self, visual, audio=None, flow=None: {"logits": scores(self, visual), "grades": None}),
        'Own returned a mapping of logits, grades; add "score", a tensor (4,) here',
    ),
    "an empty output": (model(lambda self, visual, audio=None, flow=None: {}), "Own returned an empty mapping"),
    "scores in a column": (
        model(lambda self, visual, audio=None, flow=None: {"score": scores(self, visual)}),
        'Own returned as "score" a tensor (4, 1); give one floating-point number for each video, a tensor (4,) here',
    ),
    "one score for all": (
        model(lambda self, visual, audio=None, flow=None: {"score": scores(self, visual).mean()}),
        'Own returned as "score" a tensor (); give one',
    ),
    "a score for every clip": (
        model(lambda self, visual, audio=None, flow=None: {"score": self.linear(visual).squeeze(2)}),
        'as "score" a tensor (4, 4)',
    ),
    "a list of scores": (
        model(lambda self, visual, audio=None, flow=None: {"score": scores(self, visual).tolist()}),
        'as "score" a list',
    ),
    "whole numbers": (
        model(lambda self, visual, audio=None, flow=None: {"score": scores(self, visual).squeeze(1).long()}),
        'as "score" a tensor (4,) of torch.int64',
    ),
    "one feature": (
        model(lambda self, visual: {"score": scores(self, visual).squeeze(1)}),
        "Own.forward takes (visual) and is called as (visual, audio, flow); "
        "define it as forward(self, visual, audio, flow)",
    ),
    "two features": (
        model(lambda self, visual, audio=None: {"score": scores(self, visual).squeeze(1)}),
        "Own.forward takes (visual, audio) and is called as",
    ),
    "a fourth feature": (
        model(lambda self, visual, audio, flow, text: {"score": scores(self, visual).squeeze(1)}),
        "Own.forward takes (visual, audio, flow, text) and is called as",
    ),
    "features by name alone": (
        model(lambda self, *, visual, audio=None, flow=None: {"score": scores(self, visual).squeeze(1)}),
        "Own.forward takes (visual, audio, flow) and is called as",
    ),
    "vision_language that forward does not take": (
        model(takes_vision_language=True),
        "is called as (visual, audio, flow, vision_language=...); "
        "define it as forward(self, visual, audio, flow, vision_language=None)",
    ),
    "a loss that is torch's": (
        model(loss=nn.MSELoss()),
        "Own.loss is a MSELoss; define loss(self, output, label) that takes what forward returned",
    ),
    "a loss that is a function of torch's": (
        model(loss=staticmethod(nn.functional.mse_loss)),
        "Own.loss is a function; define loss(self, output, label)",
    ),
    "a loss that is a number": (model(loss=0.5), "Own.loss is float 0.5; define loss"),
    "a loss without label": (
        model(loss=lambda self, output: {"total": output["score"].mean()}),
        "Own.loss takes (output) and is called as (output, label); define it as loss(self, output, label)",
    ),
    "a loss that is a tensor": (
        model(loss=lambda self, output, label: (output["score"] - label).square().mean()),
        'Own.loss returned a tensor (); return a mapping with "total", {"total": loss} for example',
    ),
    "losses without total": (
        model(loss=lambda self, output, label: {"mse": (output["score"] - label).square().mean()}),
        'Own.loss returned a mapping of mse; add "total", the scalar that is trained',
    ),
    "a loss for every video": (
        model(loss=lambda self, output, label: {"total": (output["score"] - label).square()}),
        'Own.loss returned as "total" a tensor (4,); give a scalar tensor, loss.mean() say',
    ),
    "a total that is a number": (
        model(loss=lambda self, output, label: {"total": (output["score"] - label).square().mean().item()}),
        'Own.loss returned as "total" float 0.',
    ),
    "a total without gradient": (
        model(loss=lambda self, output, label: {"total": (output["score"].detach() - label).square().mean()}),
        'Own.loss returned a "total" without gradient; compute it from the output, without detach() or no_grad()',
    ),
    "a share of the rate that is none": (model(lr_scale="small"), "Own.lr_scale is str 'small'; give a number above 0"),
    "a share of the rate that is negative": (model(lr_scale=-1), "Own.lr_scale is int -1; give a number above 0"),
    "nothing that learns": (model().requires_grad_(False), "Own has no parameter that learns; set requires_grad on"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_each_broken_part_has_its_sentence(dataset, tmp_path, fault):
    broken, sentence = BROKEN[fault]
    with pytest.raises(ContractError, match=re.escape(sentence)) as caught:
        fit(broken, dataset, RECIPE, Run(epochs=1, folder=tmp_path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_model_without_loss_is_told_which(dataset):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(WIDTH, 1)

        def forward(self, visual, audio=None, flow=None):
            return {"score": self.linear(visual.mean(1)).squeeze(1)}

    with pytest.raises(ContractError, match=r"^Bare has no loss; define loss\(self, output, label\)"):
        fit(Bare(), dataset, RECIPE, RUN)
    assert predict(Bare(), dataset.test).shape == (2,), "prediction needs no loss"


def test_prediction_refuses_what_is_no_score(dataset):
    broken, _ = BROKEN["scores in a column"]
    with pytest.raises(ContractError, match=r'as "score" a tensor \(2, 1\); .* a tensor \(2,\) here'):
        predict(broken, dataset.test)


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"branches": [nn.Linear(1, 1)]}, "Own.branches is a list; give a dict of name to module"),
        ({"branches": {"visual": None}}, "Own.branches has a NoneType as 'visual'; give a module there"),
        ({"branches": {"visual": Scorer()}}, "Own has branches and no start_fusion(); define it"),
    ],
)
def test_branches_that_cannot_be_trained_have_their_sentence(dataset, attributes, sentence):
    with pytest.raises(ContractError, match=re.escape(sentence)):
        train(model(**attributes), dataset, RECIPE, RUN)


def test_a_model_that_keeps_the_contract_trains_also_inside_wrappers(dataset):
    wrapped = nn.DataParallel(Scorer())
    for scorer in (Scorer(), model(lambda self, *features: {"score": scores(self, features[0]).squeeze(1)}), wrapped):
        assert fit(scorer, dataset, RECIPE, RUN).last.epoch == 1


def test_it_is_checked_on_the_first_batch_only(dataset, monkeypatch):
    checks = []
    for name in ("check_model", "check_output", "check_total"):
        # `mag2.training.fit` is the function; its module is found by its full name.
        monkeypatch.setattr(sys.modules["mag2.training.fit"], name, lambda *_, name=name: checks.append(name))
    assert fit(Scorer(), dataset, Recipe(batch=2), Run(epochs=3)).last.epoch == 3
    assert checks == ["check_model", "check_output", "check_total"]


TEXTS = TextFeatures.for_sport("figure_skating")
MODELS = {
    "MLAVL": lambda: MLAVL(TEXTS, visual_dim=WIDTH, audio_dim=WIDTH, dim=8, n_heads=2),
    "SimilarityWeighted": lambda: SimilarityWeighted(
        MLAVL(TEXTS, visual_dim=WIDTH, audio_dim=WIDTH, dim=8, n_heads=2), TEXTS
    ),
    "GDLT": lambda: GDLT(in_dim=WIDTH, dim=8),
    "CoFInAl": lambda: CoFInAl(in_dim=WIDTH, dim=8),
    "QTD": lambda: QTD(in_dim=WIDTH, dim=8, n_queries=4, feed_forward=8),
    "PAMFN": lambda: PAMFN(visual_dim=WIDTH, flow_dim=WIDTH, audio_dim=WIDTH, dim=8),
    "MBertLate": lambda: MBertLate(visual_dim=WIDTH, audio_dim=WIDTH, dim=8, n_heads=2),
    "SkatingMixer": lambda: SkatingMixer(visual_dim=WIDTH, audio_dim=WIDTH, dim=8),
    "SGN": lambda: SGN(TEXTS.visual, visual_dim=WIDTH, audio_dim=WIDTH, dim=8, n_heads=2),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_the_library_keep_it(name):
    scorer = MODELS[name]()
    assert isinstance(scorer, ScoringModel)
    for part in (scorer, *branches_of(scorer).values()):
        check_model(part)
