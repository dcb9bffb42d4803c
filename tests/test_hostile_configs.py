"""`config.json` and `plugin.json` with values of others: one sentence, before anything is allocated for them."""

import json
import resource

import pytest
import torch
from torch import nn

from mag2 import MLAVL, ActionGraphGuidance, TextFeatures, attach, load_plugin, save_plugin
from mag2.nn.pretrained import Pretrained
from mag2.saving.allocation_budget import AllocationBudget, OverBudgetError
from mag2.saving.registry import KINDS, class_of, name_of
from tests.models import ONE_OF_EACH

TEXTS = TextFeatures.for_sport("figure_skating")


def small_mlavl():
    return MLAVL(TEXTS, visual_dim=8, audio_dim=8, dim=8, n_heads=2)


BUILD = {name: make for name, (make, _) in ONE_OF_EACH.items()} | {
    "ActionGraphGuidance": lambda: ActionGraphGuidance(8, TEXTS.visual[:4]),
    "FoldedGuidance": lambda: ActionGraphGuidance(8, TEXTS.visual[:4]).eval().fold(),
    "MLAVL": small_mlavl,
    "FoldedMLAVL": lambda: small_mlavl().eval().fold(),
}

CLASSES = {name: type(make()) for name, make in BUILD.items()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for name, make in BUILD.items():
        make().save_pretrained(folder / name)
    return folder


def load(saved, name, tmp_path, change):
    about = json.loads((saved / name / "config.json").read_text())
    change(about)
    (tmp_path / "config.json").write_text(json.dumps(about))
    (tmp_path / "model.safetensors").write_bytes((saved / name / "model.safetensors").read_bytes())
    return CLASSES[name].from_pretrained(tmp_path)


def test_every_kind_that_saves_itself_is_tried(saved):
    kinds = {name for name in KINDS if issubclass(class_of(name), Pretrained)}
    assert {name_of(make()) for make in BUILD.values()} == kinds


@pytest.mark.parametrize("name", BUILD)
def test_an_unchanged_config_loads_and_draws_no_random_number(saved, name, tmp_path):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    load(saved, name, tmp_path, lambda about: None)
    assert torch.equal(torch.get_rng_state(), before)


def sized(about):
    """The arguments that are whole numbers."""
    return [
        key for key, value in about["built"].items() if type(value) is int and "seed" not in key and key != "n_joint"
    ]


VALUES = {
    "a text": "8",
    "a list": [8],
    "a truth value": True,
    "a fraction": 8.5,
    "a negative number": -8,
    "a thousand million": 10**9,
    "2^62": 2**62,
    "2^200": 2**200,
    "nan": float("nan"),
    "infinity": float("inf"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", BUILD)
def test_a_size_of_another_kind_or_absurd_is_one_sentence(saved, name, tmp_path, value):
    about = json.loads((saved / name / "config.json").read_text())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for key in sized(about):
        with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
            load(saved, name, tmp_path, lambda about, key=key: about["built"].update({key: VALUES[value]}))
        assert len(str(caught.value)) < 900
        assert str(tmp_path) in str(caught.value), key
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 1_000_000  # KiB


@pytest.mark.parametrize("name", BUILD)
def test_a_dropout_of_seven_is_one_sentence(saved, name, tmp_path):
    about = json.loads((saved / name / "config.json").read_text())
    for key in [key for key in about["built"] if key.endswith("dropout")]:
        for value in (7, -0.1, 1.5, "0.3", True, None, float("nan")):
            with pytest.raises(ValueError, match=rf"config\.json has .* as (the )?{key}"):
                load(saved, name, tmp_path, lambda about, key=key, value=value: about["built"].update({key: value}))


@pytest.mark.parametrize("name", BUILD)
def test_an_argument_that_is_missing_or_unknown_is_one_sentence(saved, name, tmp_path):
    about = json.loads((saved / name / "config.json").read_text())
    for key in about["built"]:
        with pytest.raises(ValueError, match=r"^[^\n]*config\.json [^\n]+$"):
            load(saved, name, tmp_path, lambda about, key=key: about["built"].pop(key))
    if name != "FoldedMLAVL":  # which takes the sizes of any version
        with pytest.raises(ValueError, match=r"^[^\n]*config\.json [^\n]+$"):
            load(saved, name, tmp_path, lambda about: about["built"].update(surprise=1))


CHANGES = {
    "no arguments": lambda about: about.pop("built"),
    "arguments that are a list": lambda about: about.update(built=[1, 2]),
    "arguments that are null": lambda about: about.update(built=None),
    "no kind": lambda about: about.pop("kind"),
    "an unknown kind": lambda about: about.update(kind="rubbish"),
    "a kind that is a list": lambda about: about.update(kind=["gdlt"]),
    "a kind that is a place in the code": lambda about: about.update(kind="os.system"),
    "a plug": lambda about: about.update(kind="feature_plug"),
    "a format of the future": lambda about: about.update(format=3),
    "a format that is true": lambda about: about.update(format=True),
    "a format that is a list": lambda about: about.update(format=[2] * 10_000),
    "a digest that is a number": lambda about: about.update(sha256=7),
    "another digest": lambda about: about.update(sha256="0" * 64),
    "an unknown part": lambda about: about.update({"x\x1b[2J" * 1000: 1}),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["GDLT", "MLAVL", "FoldedMLAVL"])
def test_a_changed_frame_is_one_sentence(saved, name, tmp_path, change):
    with pytest.raises(ValueError, match=r"^[^\n\x1b]+$") as caught:
        load(saved, name, tmp_path, CHANGES[change])
    assert len(str(caught.value)) < 900


OWNED = {
    "rows": [[10**10] * 4, [-1] * 4, ["a"] * 4, [], None, 7, [1, 2]],
    "width": [10**12, -1, "wide", None, 0.5],
}


@pytest.mark.parametrize("key", OWNED)
def test_texts_of_absurd_sizes_are_one_sentence(saved, tmp_path, key):
    for value in OWNED[key]:
        with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
            load(
                saved, "MLAVL", tmp_path, lambda about, value=value: about["built"]["owned_texts"].update({key: value})
            )
        assert len(str(caught.value)) < 900


@pytest.mark.parametrize("shape", [[10**6, 10**6], [2**40], [-1, 3], ["a"], None, 7, {}])
def test_texts_of_an_absurd_shape_are_one_sentence(saved, tmp_path, shape):
    for name, change in (
        ("ActionGraphGuidance", lambda about: about["built"]["owned_texts"].update(shape=shape)),
        ("SGN", lambda about: about["built"].update(texts=shape)),
    ):
        with pytest.raises(ValueError, match=r"^[^\n]*config\.json [^\n]+$"):
            load(saved, name, tmp_path, change)


def test_arguments_of_the_call_are_checked_as_such(saved):
    cls = class_of("gdlt")
    for changed in ({"dropout": 7}, {"n_heads": "two"}, {"dim": float("nan")}):
        with pytest.raises(ValueError, match=r"the call of GDLT\.from_pretrained has"):
            cls.from_pretrained(saved / "GDLT", **changed)
    assert cls.from_pretrained(saved / "GDLT", dropout=0.7).config["dropout"] == 0.7


@pytest.fixture
def plugged(tmp_path):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    attach(model, ActionGraphGuidance(8, TEXTS.visual[:4]), at="1")
    save_plugin(model, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "changed",
    [
        {"dim": 10**10},
        {"hidden": 2**40},
        {"dim": "8"},
        {"dim": True},
        {"dropout": 7},
        {"dropout": float("nan")},
        {"control_seed": 2**200},
        {"owned_texts": {"shape": [10**6, 10**6]}},
        {"owned_texts": {"shape": "wide"}},
        {"convolution": "rubbish"},
        {"convolution": 7},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_plugin_of_absurd_sizes_is_one_sentence(plugged, changed):
    about = json.loads((plugged / "plugin.json").read_text())
    config = about["guides"][0]["config"]
    while "owned_texts" not in config:
        config = next(value for value in config.values() if isinstance(value, dict))["config"]
    config.update(changed)
    (plugged / "plugin.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"^[^\n]*plugin\.json[^\n]+$"):
        load_plugin(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), plugged)


def test_a_budget_is_spent_before_memory_is_taken():
    for make in (
        lambda: torch.empty(10**12),
        lambda: torch.zeros((10**6, 10**6)),
        lambda: torch.randn(2**40),
        lambda: torch.eye(10**6),
        lambda: torch.arange(10**12),
        lambda: torch.full((10**12,), 1.0),
        lambda: torch.ones(10**5)[:, None] * torch.ones(10**5),
        lambda: torch.ones(10**5, 1) @ torch.ones(1, 10**5),
        lambda: [torch.empty(1000) for _ in range(10**9)],
        lambda: nn.Linear(10**6, 10**6),
        lambda: nn.ModuleList(nn.Linear(100, 100) for _ in range(10**9)),
        lambda: torch.ones(3).new_zeros(10**12),
    ):
        with pytest.raises(OverBudgetError), AllocationBudget({}):
            make()
