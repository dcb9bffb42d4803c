"""A plugin comes back from its folder as it was, or says in one sentence why not."""

import copy
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import mag2.saving.folders
from mag2 import MLAVL, ActionGraphGuidance, TextFeatures, attach, attached, detach, load_plugin, save_plugin
from mag2.adapters.queries import replace_queries
from mag2.guidance import FoldedGuidance
from mag2.plugin import FeaturePlug, IdentityStart, fold, insert
from mag2.saving import register
from tests.test_plugin import BATCH, CLIPS, DIM, Scorer, assert_as_before, clips, guide, snapshot, trained


def base():
    torch.manual_seed(7)
    return Scorer().eval()


def saved(folder, model=None):
    """A trained guided model, saved; and the base that it was attached to."""
    model = trained(attach(base(), guide(), at="encoder", freeze=True)) if model is None else model
    save_plugin(model, folder)
    return model


def untouched(model):
    """The base alone, with what it learned meanwhile."""
    return detach(copy.deepcopy(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "plug",
    [
        lambda model: attach(model, guide(), at="encoder"),
        lambda model: attach(model, guide(), at="encoder", start="identity", freeze=True),
        lambda model: attach(model, guide(hidden=3, dropout=0.1), at=("encoder", "encoder.0")),
        lambda model: attach(model, [guide(), guide()], at=("encoder", "encoder.2"), side="input"),
        lambda model: attach(model, guide(convolution="gat"), at="encoder"),
        lambda model: attach(model, guide(control="zero_texts"), at="encoder"),
        lambda model: attach(model, guide(control="no_edges"), at="encoder"),
        lambda model: attach(attach(model, guide(), at="encoder.2", side="input").encoder, guide(), at="0") and model,
    ],
)
def test_a_folder_round_trips_to_equal_outputs(plug, dtype, tmp_path):
    model = trained(plug(base())).to(dtype)
    save_plugin(model, tmp_path)
    fresh = untouched(model)
    expected, features = model(clips().to(dtype)), clips().to(dtype)
    assert not torch.equal(fresh(features), expected)
    assert load_plugin(fresh, tmp_path) is fresh
    assert torch.equal(fresh(features), expected)
    assert fresh.state_dict().keys() == model.state_dict().keys()
    described = [
        [(place.plug.describe(place.at), place.plug.how) for place in attached(each)] for each in (fresh, model)
    ]
    assert described[0] == described[1]
    grads = [[p.requires_grad for p in each.parameters()] for each in (fresh, model)]
    assert grads[0] == grads[1]


def test_a_folded_guide_round_trips(tmp_path):
    model = fold(saved(tmp_path / "whole"))
    save_plugin(model, tmp_path / "folded")
    other = load_plugin(untouched(model), tmp_path / "folded")
    assert torch.equal(other(clips()), model(clips()))
    assert isinstance(attached(other)[0].module, FoldedGuidance)


def test_a_folder_holds_the_plug_alone_and_says_how_it_was_built(tmp_path):
    texts = TextFeatures.for_sport("figure_skating")
    model = attach(base(), ActionGraphGuidance(DIM, texts.visual), at="encoder", layout="btd")
    save_plugin(model, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["plugin.json", "plugin.safetensors"]
    weights = load_file(tmp_path / "plugin.safetensors")
    assert {key.removeprefix("0.") for key in weights} == set(attached(model)[0].module.state_dict())
    about = json.loads((tmp_path / "plugin.json").read_text())
    assert about["mag2"] == mag2.saving.folders.library_version() != "unknown"
    assert about["model"] == "Scorer"
    assert about["plugs"][0]["at"] == "encoder"
    assert about["plugs"][0]["config"]["layout"] == "btd"
    config = about["guides"][0]["config"]
    assert (config["dim"], config["hidden"]) == (DIM, DIM // 2)
    assert config["owned_texts"]["prompts"] == list(texts.prompts.visual)
    assert config["owned_texts"]["source"] == texts.source
    assert config["owned_texts"]["sport"] == "figure_skating"


def test_what_was_loaded_still_knows_its_prompts_when_it_is_saved_again(tmp_path):
    texts = TextFeatures.for_sport("rhythmic_gymnastics")
    save_plugin(attach(base(), ActionGraphGuidance(DIM, texts.controlled("zero_texts").audio), at="encoder"), tmp_path)
    save_plugin(load_plugin(base(), tmp_path), tmp_path / "again")
    first, second = (json.loads((tmp_path / each / "plugin.json").read_text()) for each in (".", "again"))
    assert first == second
    assert first["guides"][0]["config"]["owned_texts"]["source"] == f"{texts.source}, zero_texts"


def test_wrappers_leave_no_trace_in_a_folder(tmp_path):
    model = saved(tmp_path / "plain")
    compiled = torch.compile(model, backend="eager")
    save_plugin(compiled, tmp_path / "compiled")
    for name in ("plugin.safetensors", "plugin.json"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "compiled" / name).read_bytes()
    inside = attach(base(), torch.compile(guide(), backend="eager"), at="encoder")
    save_plugin(inside, tmp_path / "inside")
    assert not any("_orig_mod" in key for key in load_file(tmp_path / "inside" / "plugin.safetensors"))
    fresh = torch.compile(untouched(model), backend="eager")
    torch.testing.assert_close(load_plugin(fresh, tmp_path / "compiled")(clips()), model(clips()))


def test_weights_that_kept_the_prefixes_of_wrappers_load(tmp_path):
    model = saved(tmp_path)
    weights = load_file(tmp_path / "plugin.safetensors")
    save_file({f"module._orig_mod.{key}": value for key, value in weights.items()}, tmp_path / "plugin.safetensors")
    forget_digest(tmp_path)
    assert torch.equal(load_plugin(untouched(model), tmp_path)(clips()), model(clips()))


def forget_digest(folder, **changed):
    about = json.loads((folder / "plugin.json").read_text())
    about.pop("sha256", None)
    (folder / "plugin.json").write_text(json.dumps(about | changed))


def test_loading_draws_no_random_number(tmp_path):
    model = saved(tmp_path)
    fresh = untouched(model)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load_plugin(fresh, tmp_path)
    assert torch.equal(torch.rand(2), expected)


def test_a_plugin_loads_beside_what_is_plugged_in_elsewhere(tmp_path):
    model = saved(tmp_path)
    other = attach(untouched(model), guide(), at="encoder.0")
    assert [place.at for place in attached(load_plugin(other, tmp_path))] == ["encoder.0", "encoder"]


# --- guides of one's own ---


class Own(nn.Module):
    """A guide that mag2 has never heard of."""

    def __init__(self, dim=DIM):
        super().__init__()
        self.dim, self.mix = dim, nn.Linear(dim, dim)

    def forward(self, clips, clip_mask=None):
        return self.mix(clips)


@pytest.mark.parametrize("start", ["replace", "residual", "identity"])
def test_a_guide_of_ones_own_is_given_to_load_into(start, tmp_path):
    model = trained(attach(base(), [guide(), Own(), Own()], at=PLACES, start=start))
    save_plugin(model, tmp_path)
    given = [Own(), Own()]
    fresh = load_plugin(untouched(model), tmp_path, guides=given)
    assert torch.equal(fresh(clips()), model(clips()))
    inside = [place.module.guide if start == "identity" else place.module for place in attached(fresh)]
    assert inside[1:] == given


PLACES = ("encoder", "encoder.0", "encoder.2")


class Mean(nn.Module):
    """A convolution of one's own."""

    def __init__(self, in_dim, out_dim):
        super().__init__()
        self.lin = nn.Linear(in_dim, out_dim)

    def forward(self, x, edge_index):
        return self.lin(x)


def test_a_guidance_with_a_convolution_of_ones_own_is_given_too(tmp_path):
    def make():
        return ActionGraphGuidance(DIM, clips(4, 6), convolution=Mean)

    model = trained(attach(base(), make(), at="encoder"))
    save_plugin(model, tmp_path)
    assert torch.equal(load_plugin(untouched(model), tmp_path, guides=[make()])(clips()), model(clips()))
    with pytest.raises(ValueError, match="ActionGraphGuidance of your own is wanted"):
        load_plugin(untouched(model), tmp_path)


# --- the kinds of the adapters ---


class Asking(nn.Module):
    def __init__(self):
        super().__init__()
        self.prototype = nn.Embedding(4, DIM)

    def forward(self, clips):
        return (clips @ self.prototype.weight.T).mean(dim=(1, 2))


def test_a_plug_of_an_adapter_loads_where_nobody_imported_the_adapter(tmp_path):
    texts = TextFeatures.for_sport("figure_skating")
    model = replace_queries(Asking().eval(), texts, at="prototype", settings={"training": False})
    save_plugin(model, tmp_path / "texts")
    torch.save((model(clips()), clips()), tmp_path / "expected.pt")
    code = (
        "import sys, torch; from torch import nn; from mag2 import load_plugin\n"
        "assert 'mag2.adapters' not in sys.modules\n"
        "class Asking(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        f"        self.prototype = nn.Embedding(4, {DIM})\n"
        "    def forward(self, clips):\n"
        "        return (clips @ self.prototype.weight.T).mean(dim=(1, 2))\n"
        f"expected, clips = torch.load({str(tmp_path / 'expected.pt')!r})\n"
        f"model = load_plugin(Asking().eval(), {str(tmp_path / 'texts')!r})\n"
        "assert torch.equal(model(clips), expected)\n"
        "assert not model.prototype._parameters['weight'].requires_grad\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_json_names_registered_kinds_only_and_runs_nothing_else(tmp_path):
    model = saved(tmp_path)
    about = json.loads((tmp_path / "plugin.json").read_text())
    for name in (
        "os.system",
        "mag2.saving.folders.Path",
        "mag2.vocabulary.Prompts",
        "torch.nn.Linear",
        "tests.bomb.Bomb",
        7,
    ):
        about["guides"][0]["kind"] = name
        (tmp_path / "plugin.json").write_text(json.dumps(about))
        with pytest.raises(ValueError, match="unknown kind"):
            load_plugin(untouched(model), tmp_path)
    assert "tests.bomb" not in sys.modules


def test_kinds_of_ones_own_can_be_registered(tmp_path):
    @register("my_own_guide")
    class Registered(Own):
        config = {"dim": DIM}  # noqa: RUF012

        @classmethod
        def from_config(cls, config):
            return cls(**config)

    model = trained(attach(base(), Registered(), at="encoder"))
    save_plugin(model, tmp_path)
    assert torch.equal(load_plugin(untouched(model), tmp_path)(clips()), model(clips()))


# --- one plain sentence, and the model as it was ---


def rewritten(change):
    """Change the weights of a saved plugin."""

    def apply(folder):
        weights = load_file(folder / "plugin.safetensors")
        save_file(change(weights), folder / "plugin.safetensors")
        forget_digest(folder)

    return apply


def described_anew(change):
    """Change the JSON of a saved plugin."""

    def apply(folder):
        about = json.loads((folder / "plugin.json").read_text())
        change(about)
        (folder / "plugin.json").write_text(json.dumps(about))

    return apply


def less(weights):
    return {key: value for key, value in weights.items() if key != "0.conv1.lin_l.bias"}


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (rewritten(less), r"does not fit ActionGraphGuidance \(missing: conv1.lin_l.bias\)"),
        (rewritten(lambda w: w | {"0.extra": torch.zeros(1)}), r"\(unexpected: extra\)"),
        (rewritten(lambda w: w | {"1.extra": torch.zeros(1)}), r"1.extra is of none of the 1 guides"),
        (rewritten(lambda w: w | {"x": torch.zeros(1)}), r"x is of none of the 1 guides"),
        (rewritten(lambda w: w | {"0.owned_texts.texts": torch.zeros(4, 5)}), r"of another shape: owned_texts.texts"),
        (
            lambda folder: (folder / "plugin.json").unlink(),
            "no plugin.json in .*; give a folder that save_plugin wrote",
        ),
        (lambda folder: (folder / "plugin.safetensors").unlink(), "no plugin.safetensors in .*"),
        (lambda folder: (folder / "plugin.json").write_text("{"), "is no JSON"),
        (lambda folder: (folder / "plugin.json").write_text("[]"), "holds a list"),
        (lambda folder: (folder / "plugin.safetensors").write_bytes(b"x"), "not of the same save"),
        (
            lambda folder: ((folder / "plugin.safetensors").write_bytes(b"x"), forget_digest(folder)),
            "is no safetensors file",
        ),
        (
            lambda folder: forget_digest(folder, format=3, mag2="9.9"),
            "has format 3, mag2 9.9 wrote it; this version of mag2 reads 1 and 2",
        ),
        (
            described_anew(lambda a: a.update(crystals=1, mag2="9.9")),
            "has 'crystals', which mag2 .* does not know; mag2 9.9 wrote it",
        ),
        (described_anew(lambda a: a["plugs"][0].update(colour=1)), "cannot fill: 'colour'; mag2 .* wrote it"),
        (described_anew(lambda a: a["plugs"][0]["config"].update(angle=1)), "cannot fill: .*'angle'"),
        (described_anew(lambda a: a["guides"][0]["config"].update(depth=3)), "cannot build: .*'depth'"),
        (described_anew(lambda a: a["guides"][0]["config"].pop("owned_texts")), "cannot build: 'owned_texts'"),
        (described_anew(lambda a: a["guides"][0]["config"].update(convolution="x")), "unknown convolution 'x'"),
        (described_anew(lambda a: a["plugs"][0].update(guide=3)), "cannot fill"),
        (described_anew(lambda a: a["plugs"][0].update(kind="mag2.guidance.ActionGraphGuidance")), "is no plug"),
        (described_anew(lambda a: a["plugs"][0]["config"].update(layout="x")), "unknown layout 'x'"),
        (described_anew(lambda a: a["plugs"][0].update(at="decoder")), "has no submodule 'decoder'; it has 'encoder'"),
        (described_anew(lambda a: a["plugs"][0].update({"in": "part"})), "has no submodule 'part'"),
        (described_anew(lambda a: a.pop("plugs")), "cannot fill: 'plugs'"),
    ],
)
def test_a_folder_that_does_not_fit_says_why_and_leaves_the_model_as_it_was(spoil, sentence, tmp_path):
    fresh = untouched(saved(tmp_path))
    before = snapshot(fresh)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=sentence) as caught:
        load_plugin(fresh, tmp_path)
    assert "\n" not in str(caught.value)
    assert_as_before(fresh, before)


def test_of_several_places_one_that_is_missing_leaves_all_as_they_were(tmp_path):
    model = nn.ModuleDict({"a": base(), "b": base()})
    for part in model.values():
        attach(part, guide(), at="encoder")
    save_plugin(model, tmp_path)
    other = nn.ModuleDict({"a": base(), "b": nn.Linear(DIM, DIM)})
    before = snapshot(other)
    with pytest.raises(ValueError, match="Linear has no submodule 'encoder'"):
        load_plugin(other, tmp_path)
    assert_as_before(other, before)


class Unregistered(FeaturePlug):
    pass


class Odd(Own):
    def get_extra_state(self):
        return {"a": 1}

    def set_extra_state(self, state):
        pass


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda folder: save_plugin(base(), folder), "nothing is attached to this Scorer"),
        (lambda folder: load_plugin(saved(folder), folder), "on the output of 'encoder' sits there already"),
        (lambda folder: load_plugin(untouched(saved(folder)), folder, guides=[Own()]), "wants 0 guides of your own, 1"),
        (lambda folder: save_plugin(insert(base(), Unregistered("head", Own())), folder), "register that class"),
        (
            lambda folder: save_plugin(attach(base(), Odd(), at="encoder"), folder),
            "Odd is a dict; save tensors",
        ),
        (lambda folder: load_plugin(base(), folder / "nowhere"), "no plugin.json in"),
    ],
)
def test_what_cannot_be_saved_or_loaded_says_so_in_one_sentence(call, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_save_that_is_killed_leaves_the_old_folder_or_says_that_it_is_torn(fails_at, tmp_path, monkeypatch):
    model = saved(tmp_path)
    expected, calls = model(clips()), []
    replace = mag2.saving.folders.Path.replace

    def killed(path, target):
        calls.append(target)
        if len(calls) == fails_at:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(mag2.saving.folders.Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_plugin(trained(attach(base(), guide(), at="encoder")), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["plugin.json", "plugin.safetensors"]
    if fails_at == 1:
        assert torch.equal(load_plugin(untouched(model), tmp_path)(clips()), expected)
    else:
        with pytest.raises(ValueError, match="not of the same save"):
            load_plugin(untouched(model), tmp_path)


# --- save_pretrained and from_pretrained ---


def mlavl(**options):
    texts = TextFeatures.for_sport("rhythmic_gymnastics", n_grades=4)
    model = MLAVL(texts, visual_dim=12, audio_dim=10, dim=16, n_heads=2, **options)
    model(clips(BATCH, CLIPS, 12), clips(BATCH, CLIPS, 10))  # the BatchNorms have seen a batch
    return model.eval()


@pytest.mark.parametrize("options", [{}, {"fusion": "avcf", "use_pe": True, "n_grading": 1}, {"released": True}])
def test_an_mlavl_comes_back_from_a_local_folder_with_its_prompts(options, tmp_path):
    model = mlavl(**options)
    model.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors"} <= set(os.listdir(tmp_path))
    other = MLAVL.from_pretrained(tmp_path)
    assert not other.training
    torch.testing.assert_close(
        other(clips(2, 7, 12), clips(2, 7, 10)), model(clips(2, 7, 12), clips(2, 7, 10)), atol=0, rtol=0
    )
    assert other.config == model.config
    assert other.provenance.prompts == TextFeatures.for_sport("rhythmic_gymnastics", n_grades=4).prompts.rows
    assert other.provenance.sport == "rhythmic_gymnastics"


@pytest.mark.parametrize("texts", [None, clips(4, 6)])
def test_a_guide_comes_back_from_a_local_folder(texts, tmp_path):
    module = ActionGraphGuidance(DIM, texts, hidden=3, dropout=0.1)
    given = (clips(4, DIM),) if texts is None else ()
    module(clips(), *given)
    module.eval().save_pretrained(str(tmp_path))
    other = ActionGraphGuidance.from_pretrained(str(tmp_path))
    assert torch.equal(other(clips(), *given), module(clips(), *given))
    assert ActionGraphGuidance.from_pretrained(tmp_path, dropout=0.5).dropout == 0.5
    if texts is not None:
        module.fold().save_pretrained(tmp_path / "folded")
        folded = FoldedGuidance.from_pretrained(tmp_path / "folded")
        assert torch.equal(folded(clips()), module.fold()(clips()))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda folder: MLAVL.from_pretrained(folder / "nowhere"), "no folder .*nowhere"),
        (
            lambda folder: MLAVL.from_pretrained(folder),
            "holds a 'action_graph_guidance'; MLAVL.from_pretrained reads a 'mlavl'",
        ),
        (lambda folder: ActionGraphGuidance.from_pretrained(folder, strict=False), "leave out strict=False"),
        (
            lambda folder: ((folder / "config.json").unlink(), ActionGraphGuidance.from_pretrained(folder)),
            "holds no config.json",
        ),
        (
            lambda folder: ActionGraphGuidance(DIM, clips(4, 6), convolution=Mean).save_pretrained(folder),
            "was built with code of your own",
        ),
        (
            lambda folder: attach(mlavl(), guide(16), at="fusion").save_pretrained(folder),
            "something is attached to this MLAVL",
        ),
    ],
)
def test_what_is_not_pretrained_says_so_in_one_sentence(call, sentence, tmp_path):
    guide().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=sentence) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_residual_around_a_residual_is_described_all_the_way_down(tmp_path):
    model = trained(attach(base(), IdentityStart(IdentityStart(guide())), at="encoder"))
    save_plugin(model, tmp_path)
    assert torch.equal(load_plugin(untouched(model), tmp_path)(clips()), model(clips()))
