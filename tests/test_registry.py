"""Kinds have names of their own: a class may move, what is saved stays readable."""

import copy
import io
import json
import pickle
import subprocess
import sys

import pytest
import torch

from mag2 import MLAVL, ActionGraphGuidance, TextFeatures
from mag2.baselines import GDLT, PAMFN, QTD, CoFInAl, MBertLate, ModalityBranch
from mag2.saving.registry import FORMER_NAMES, KINDS, class_of, name_of_class, register
from mag2.texts import Provenance, TextRows, provenance_of


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_a_class_that_can_be_described_and_built_again(name):
    cls = class_of(name)
    assert name_of_class(cls) == name, f"{KINDS[name]} is another place than that of the class: correct the registry"
    assert hasattr(cls, "config")
    assert callable(cls.from_config)


@pytest.mark.parametrize("former", FORMER_NAMES)
def test_what_version_0_1_called_a_kind_is_still_known(former):
    assert class_of(former) is class_of(FORMER_NAMES[former])


@pytest.mark.parametrize("cls", [MLAVL, ActionGraphGuidance, GDLT, CoFInAl, QTD, PAMFN, ModalityBranch, MBertLate])
def test_an_argument_that_no_released_model_has_is_refused(cls):
    more = {"text_features": None} if cls is MLAVL else {"H": 4, "pe": "no", "query_var": 1.0} if cls is QTD else {}
    with pytest.raises(TypeError, match="'dropuot'"):
        cls.from_released({}, dropuot=0.1, **more)


def test_an_option_of_the_hub_without_the_hub_is_refused(tmp_path):
    guide = ActionGraphGuidance(4, torch.randn(3, 4))
    with pytest.raises(TypeError, match="save_pretrained takes no argument 'safe'; there are commit_message, private"):
        guide.save_pretrained(tmp_path / "guide", safe=True)
    with pytest.raises(TypeError, match="private is for the hub: leave it out, or add push_to_hub=True"):
        guide.save_pretrained(tmp_path / "guide", private=True)
    assert not (tmp_path / "guide").exists()


def test_a_name_belongs_to_one_class():
    with pytest.raises(ValueError, match=r"the kind 'mlavl' is taken by mag2\.mlavl\.model:MLAVL; choose another name"):
        register("mlavl")(type("Other", (), {}))


def test_mag2_works_without_the_baselines_and_the_adapters():
    code = (
        "import sys; sys.modules['mag2.baselines'] = sys.modules['mag2.adapters'] = None\n"
        "import torch, mag2, mag2.data, mag2.training, mag2.alignment\n"
        "texts = mag2.TextFeatures.for_sport('figure_skating')\n"
        "model = mag2.MLAVL(texts, visual_dim=8, audio_dim=8, dim=8, n_heads=2)\n"
        "output = model(torch.randn(2, 5, 8), torch.randn(2, 5, 8))\n"
        "model.loss(output, torch.rand(2))['total'].backward()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_guide_is_built_and_run_without_importing_pyg_or_the_hub():
    code = (
        "import sys, torch, mag2\n"
        "guide = mag2.ActionGraphGuidance(8, mag2.TextFeatures.for_sport('figure_skating').visual)\n"
        "guide(torch.randn(2, 5, 8)).sum().backward()\n"
        "assert not {'torch_geometric', 'huggingface_hub', 'open_clip'} & set(sys.modules)\n"
        "guide(torch.randn(2, 5, 8), edge_index=torch.tensor([[5], [0]]))\n"
        "assert 'torch_geometric' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_seed_gives_the_initial_weights_of_pygs_layer():
    from torch_geometric.nn import SAGEConv

    torch.manual_seed(3)
    guide = ActionGraphGuidance(8)
    torch.manual_seed(3)
    layers = SAGEConv(8, 4), SAGEConv(4, 8)
    for ours, theirs in zip((guide.conv1, guide.conv2), layers, strict=True):
        torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), atol=0, rtol=0)


# --- provenance travels with the rows


def texts() -> TextFeatures:
    return TextFeatures.for_sport("figure_skating")


@pytest.mark.parametrize(
    "copied",
    [
        lambda rows: rows.clone(),
        lambda rows: rows.detach(),
        lambda rows: rows.double().float(),
        lambda rows: rows.to(torch.bfloat16),
        lambda rows: rows.to("cpu").contiguous(),
        lambda rows: copy.deepcopy(rows),
        lambda rows: torch.clone(rows),
    ],
)
def test_a_copy_of_text_rows_keeps_where_they_are_from(copied):
    rows = copied(texts().visual)
    guide = ActionGraphGuidance(8, rows)
    assert guide.provenance == Provenance(texts().prompts.visual, texts().source, "figure_skating")


def test_new_values_are_plain_tensors_of_no_known_origin():
    rows = texts().visual
    for other in (rows * 2, rows[:3], rows.T, rows @ rows.T, torch.cat([rows, rows]), rows.mean(dim=0)):
        assert type(other) is torch.Tensor
        assert provenance_of(other) == Provenance()


def test_provenance_may_be_said_where_rows_cannot():
    own = Provenance(("a vault",), "mine", "vault")
    assert ActionGraphGuidance(8, torch.randn(1, 6), provenance=own).provenance == own


def test_text_rows_are_saved_as_a_plain_tensor_and_features_know_their_rows_again():
    file = io.BytesIO()
    torch.save(texts().visual, file)
    file.seek(0)
    assert type(torch.load(file)) is torch.Tensor
    again = pickle.loads(pickle.dumps(texts()))
    assert provenance_of(again.audio) == provenance_of(texts().audio)
    assert isinstance(again.audio, TextRows)


def test_text_rows_compute_differentiate_and_compile_as_tensors():
    rows = texts().visual
    plain = rows.plain
    learned = torch.nn.Parameter(rows.clone())
    (learned * 2).sum().backward()
    assert torch.equal(learned.grad, torch.full_like(plain, 2))
    assert torch.equal(torch.func.vmap(lambda row: row * 2)(rows), plain * 2)
    guide = ActionGraphGuidance(384).eval()
    clips = torch.randn(1, 3, 384)
    compiled = torch.compile(guide, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(clips, rows), guide(clips, plain))


# --- what prints


def test_texts_and_prompts_print_in_one_line_each():
    for value in (texts(), texts().prompts):
        assert "\n" not in repr(value)
        assert len(repr(value)) < 250
    assert "42 visual" in repr(texts())
    assert json.dumps(texts().source)[1:-1] in repr(texts())


def test_an_unknown_kind_of_any_length_is_one_short_sentence():
    with pytest.raises(ValueError, match="unknown kind '9999") as fault:
        class_of("9" * 5000)
    assert len(str(fault.value)) < 1000
