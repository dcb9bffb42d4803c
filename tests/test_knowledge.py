"""The ways of Table 1 to bring in knowledge, MLAVL with each of them, with controls and weights, and folded."""

import io

import pytest
import torch

from mag2 import MLAVL, ActionGraphGuidance, TextFeatures
from mag2.guidance.variants import GUIDES, MLPGuidance, TransformerGuidance, make_guides
from mag2.mlavl import FoldedMLAVL
from mag2.plugin import fold
from mag2.texts import CONTROLS

TEXTS = TextFeatures.for_sport("figure_skating")
SIZES = {"visual_dim": 12, "audio_dim": 10, "dim": 16, "n_heads": 4}


def model(seed: int = 0, **design) -> MLAVL:
    torch.manual_seed(seed)
    made = MLAVL(TEXTS, **SIZES, **design)
    # Statistics as after some training, so that evaluation is not the identity of BatchNorm.
    made(*features(3))
    return made


def features(batch: int = 4, clips: int = 6):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(batch, clips, width, generator=generator) for width in (12, 10))


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_keeps_the_shape_and_no_video_hears_another(name):
    guide = make_guides(name, 16, n_heads=4)[0].eval()
    clips, texts = torch.randn(3, 5, 16), torch.randn(7, 16)
    together = guide(clips, texts)
    assert together.shape == clips.shape
    torch.testing.assert_close(together[:1], guide(clips[:1], texts))
    assert not torch.allclose(together, guide(clips, texts + 1.0)), "the texts are heard"


@pytest.mark.parametrize("name", GUIDES)
def test_padding_changes_no_real_clip(name):
    guide = make_guides(name, 16, n_heads=4)[0].eval()
    clips, texts = torch.randn(2, 5, 16), torch.randn(7, 16)
    mask = torch.tensor([[True] * 3 + [False] * 2] * 2)
    padded = clips.masked_fill(~mask[..., None], 9.0)
    torch.testing.assert_close(guide(clips, texts, clip_mask=mask)[mask], guide(padded, texts, clip_mask=mask)[mask])
    torch.testing.assert_close(guide(clips, texts, clip_mask=mask)[:, :3], guide(clips[:, :3], texts))


def test_in_an_mlp_a_clip_hears_no_other_and_in_a_transformer_it_does():
    clips, texts = torch.randn(1, 4, 16), torch.randn(7, 16)
    other = clips.clone()
    other[:, 1:] += 1.0
    mlp, transformer = MLPGuidance(16).eval(), TransformerGuidance(16, n_heads=4).eval()
    torch.testing.assert_close(mlp(clips, texts)[:, 0], mlp(other, texts)[:, 0])
    assert not torch.allclose(transformer(clips, texts)[:, 0], transformer(other, texts)[:, 0])


def test_a_transformer_guide_is_torchs_encoder_layer_over_clips_and_texts():
    """The slow way: all rows through torch's own layer, and the clip rows taken."""
    guide = TransformerGuidance(16, n_heads=4).eval()
    layer = torch.nn.TransformerEncoderLayer(16, 4, 48, batch_first=True).eval()
    layer.load_state_dict(
        {
            **{f"self_attn.{key}": value for key, value in guide.attention.state_dict().items()},
            **{f"linear1.{key}": value for key, value in guide.widen.state_dict().items()},
            **{f"linear2.{key}": value for key, value in guide.narrow.state_dict().items()},
            **{f"norm{n}.{k}": v for n in (1, 2) for k, v in getattr(guide, f"norm{n}").state_dict().items()},
        }
    )
    clips, texts = torch.randn(2, 5, 16), torch.randn(7, 16)
    rows = layer(torch.cat([clips, texts.expand(2, 7, 16)], dim=1))
    torch.testing.assert_close(guide(clips, texts), guide.last(rows[:, :5]))


def test_shared_is_one_guide_and_dual_two():
    shared, none = make_guides("shared_transformer", 16, n_heads=4)
    assert none is None
    one, two = make_guides("dual_transformer", 16, n_heads=4)
    assert one is not two
    assert count(one) == count(two) == count(shared)
    ours = {name: count(model(guidance=name)) for name in GUIDES}
    assert ours["dual_transformer"] - ours["shared_transformer"] == count(shared)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", GUIDES)
def test_the_objective_reaches_every_parameter(name):
    made = model(guidance=name)
    made.loss(made(*features()), torch.rand(4))["total"].backward()
    assert [key for key, p in made.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", GUIDES)
def test_saving_and_loading_gives_the_same_scores(name):
    made, other = model(guidance=name).eval(), model(seed=1, guidance=name).eval()
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(made(*features())["score"], other(*features())["score"])
    rebuilt = MLAVL.from_config(made.config)
    rebuilt.load_state_dict(made.state_dict())
    assert torch.equal(made(*features())["score"], rebuilt.eval()(*features())["score"])


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_changes_what_both_graphs_hear_and_nothing_else(control):
    plain, controlled = model().eval(), model(control=control).eval()
    controlled.load_state_dict(plain.state_dict())
    whole, less = plain(*features()), controlled(*features())
    # The order of the texts is nothing that a complete graph hears; see docs/language.md.
    if control == "permuted_texts":
        torch.testing.assert_close(less["score"], whole["score"], atol=1e-5, rtol=0)
    else:
        assert not torch.allclose(less["score"], whole["score"], atol=1e-5)
    assert torch.equal(less["texts_visual"], whole["texts_visual"])
    assert controlled.guide_visual.control_seed != controlled.guide_audio.control_seed


@pytest.mark.parametrize("control", CONTROLS)
def test_a_controlled_model_trains_all_that_it_says_it_trains(control):
    made = model(control=control)
    made.loss(made(*features()), torch.rand(4))["total"].backward()
    assert [key for key, p in made.named_parameters() if p.requires_grad and p.grad is None] == []


def test_weights_of_one_are_the_complete_graph_and_others_are_not():
    made = model().eval()
    clips = features()
    ones = torch.ones(4, 6, len(TEXTS.visual))
    torch.testing.assert_close(made(*clips, edge_weight=ones)["score"], made(*clips)["score"], atol=1e-5, rtol=0)
    weights = torch.rand(4, 6, len(TEXTS.visual)) * 10
    assert not torch.allclose(made(*clips, edge_weight=weights)["score"], made(*clips)["score"], atol=1e-5)


def test_weights_reach_both_graphs():
    made = model()
    weights = torch.rand(4, 6, len(TEXTS.visual), requires_grad=True)
    for guide in (made.guide_visual, made.guide_audio):
        calls = []
        handle = guide.register_forward_hook(
            lambda module, args, kwargs, output, calls=calls: calls.append(kwargs["edge_weight"]), with_kwargs=True
        )
        made(*features(), edge_weight=weights)
        handle.remove()
        assert calls[0] is weights


@pytest.mark.parametrize("design", [{}, {"queries": "learnable"}, {"control": "zero_texts"}, {"fusion": "decoder"}])
def test_a_folded_model_is_the_model_without_its_texts(design):
    made = model(**design).eval()
    folded = made.fold()
    for clips in (3, 6):
        whole, less = made(*features(4, clips)), folded(*features(4, clips))
        for key in ("score", "score_visual", "grades_audio_visual"):
            torch.testing.assert_close(less[key], whole[key], atol=1e-5, rtol=1e-5)
    assert not any(key.startswith(("texts", "owned_texts")) for key in folded.state_dict())
    assert count(folded) < count(made)


def test_a_folded_model_is_saved_and_loaded(tmp_path):
    folded = model().eval().fold()
    folded.save_pretrained(tmp_path)
    again = FoldedMLAVL.from_pretrained(tmp_path)
    assert torch.equal(again(*features())["score"], folded(*features())["score"])


def test_fold_of_any_model_folds_this_one_too():
    made = model().eval()
    torch.testing.assert_close(fold(made)(*features())["score"], made(*features())["score"], atol=1e-5, rtol=1e-5)


def test_folding_leaves_the_model_as_it_was():
    made = model().train()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    made.fold()
    assert made.training
    assert all(torch.equal(before[key], value) for key, value in made.state_dict().items())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: make_guides("gnn"), "unknown guidance 'gnn'; there are graph, mlp"),
        (lambda: make_guides("mlp", control="no_edges"), "control 'no_edges' is for the graph; mlp has none"),
        (lambda: model(guidance="mlp").fold(), "only the graph folds; this model's guidance is 'mlp'"),
        (lambda: model(control="no_edges").fold(), "only the complete graph"),
        (lambda: model(guidance="mlp")(*features(), edge_weight=torch.ones(4, 6, 42)), "edge_weight is for the graph"),
        (lambda: model()(*features(), edge_weight=torch.ones(4, 6, 41)), "edge_weight wants shape"),
        (lambda: MLPGuidance(8)(torch.zeros(1, 2, 9), torch.zeros(3, 8)), r"clips want shape \(B, T, 8\)"),
        (lambda: model().fold()(features()[0]), "wants audio features"),
        (lambda: ActionGraphGuidance(8, control="none"), "unknown control 'none'"),
    ],
)
def test_bad_input_gets_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)
