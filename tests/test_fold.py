"""Fold: a trained guide without its texts is the same guide."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn import SAGEConv

from mag2 import MLAVL, ActionGraphGuidance, TextFeatures, attach, attached, detach
from mag2.guidance import FoldedGuidance
from mag2.mlavl import FoldedMLAVL
from mag2.plugin import fold
from mag2.texts import TEXT_CONTROLS


@settings(deadline=None, max_examples=40)
@given(
    n_texts=st.integers(1, 7),
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=4),
    masked=st.booleans(),
    owned=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_one_folded_guide_is_the_guide_at_every_number_of_clips_and_under_every_mask(
    n_texts, sizes, masked, owned, seed
):
    torch.manual_seed(seed)
    texts = torch.randn(n_texts, 6)
    guide = (trained(texts) if owned else ActionGraphGuidance(6)).double().eval()
    given_texts = () if owned else (texts.double(),)
    folded = guide.fold(*given_texts)
    for batch, n_clips in sizes:
        clips = torch.randn(batch, n_clips, 6, dtype=torch.float64)
        mask = torch.rand(batch, n_clips) < 0.7 if masked else None
        torch.testing.assert_close(folded(clips, clip_mask=mask), guide(clips, *given_texts, clip_mask=mask))


def test_at_the_size_of_the_paper_folding_changes_less_than_1e_5():
    texts = TextFeatures.for_sport("figure_skating").visual
    guide = trained(texts, dim=256)
    clips = torch.randn(3, 95, 256)
    assert (guide.fold()(clips) - guide(clips)).abs().max() < 1e-5


def test_folding_needs_no_order_of_the_texts():
    texts, clips = torch.randn(9, 12), torch.randn(2, 5, 8)
    guide = trained(texts)
    other = copy.deepcopy(guide)
    other.texts.copy_(texts[torch.randperm(9)])
    assert (other.fold()(clips) - guide.fold()(clips)).abs().max() < 1e-5


@pytest.mark.parametrize("owned", [True, False])
@pytest.mark.parametrize("control", TEXT_CONTROLS)
def test_a_control_folds_with_the_texts_that_it_hears(control, owned):
    texts, clips = torch.randn(5, 8), torch.randn(2, 4, 8)
    guide = ActionGraphGuidance(8, texts if owned else None, control=control).eval()
    texts = () if owned else (texts,)
    torch.testing.assert_close(guide.fold(*texts)(clips), guide(clips, *texts))


def test_what_is_left_is_two_sums_a_number_and_the_layers_in_torch_alone():
    guide = trained(torch.randn(5, 12))
    folded = guide.fold()
    layers = {key for key in guide.state_dict() if key.startswith("conv")}
    assert folded.state_dict().keys() == layers | {"text_sum1", "text_sum2", "_extra_state"}
    assert not any(type(part).__module__.startswith("torch_geometric") for part in folded.modules())
    assert folded.n_texts == 5
    assert "n_texts=5" in repr(folded)


def test_a_folded_guide_travels_by_state_by_pickle_and_by_copy():
    folded, clips = trained(torch.randn(5, 12)).fold(), torch.randn(2, 4, 8)
    fresh = FoldedGuidance(8).eval()
    fresh.load_state_dict(folded.state_dict())
    for other in (fresh, pickle.loads(pickle.dumps(folded)), copy.deepcopy(folded)):
        assert torch.equal(other(clips), folded(clips))


def test_folding_leaves_the_guide_and_its_mode_as_they_were():
    guide = trained(torch.randn(5, 12)).train()
    before = copy.deepcopy(guide.state_dict())
    folded = guide.fold()
    assert guide.training
    assert guide.owned_texts.projection.training
    assert folded.training
    torch.testing.assert_close(guide.state_dict(), before, atol=0, rtol=0)
    clips = torch.randn(2, 4, 8)
    torch.testing.assert_close(folded.eval()(clips), guide.eval()(clips))


def test_a_folded_guide_can_be_trained_on_and_shares_no_weight():
    guide, clips = trained(torch.randn(5, 12)), torch.randn(2, 4, 8)
    folded, expected = guide.fold(), guide(clips)
    optimizer = torch.optim.SGD(folded.parameters(), lr=0.1)
    folded(clips).square().sum().backward()
    assert all(parameter.grad.any() for parameter in folded.parameters())
    optimizer.step()
    assert torch.equal(guide(clips), expected)
    assert not torch.allclose(folded(clips), expected)


def test_folding_a_model_folds_what_is_attached_and_what_it_owns():
    texts = torch.randn(5, 12)
    model = Pipeline(nn.Linear(3, 8), nn.Linear(8, 8), trained(texts)).eval()
    attach(model, trained(texts), at=("parts.0", "parts.1"))
    clips = torch.randn(2, 4, 3)
    expected = model(clips)
    assert fold(model) is model
    assert (model(clips) - expected).abs().max() < 1e-5
    assert not any(isinstance(part, ActionGraphGuidance) for part in model.modules())
    assert not any(key.endswith(".texts") for key in model.state_dict())
    first, second = attached(model)
    assert first.module is second.module


def test_detach_takes_a_folded_guide_out():
    base = Pipeline(nn.Linear(3, 8), nn.Linear(8, 2)).eval()
    clips = torch.randn(2, 4, 3)
    expected, keys = base(clips), list(base.state_dict())
    fold(attach(base, trained(torch.randn(5, 12)), at="parts.0"))
    assert not torch.allclose(base(clips), expected)
    detach(base)
    assert torch.equal(base(clips), expected)
    assert list(base.state_dict()) == keys


def test_the_guides_of_mlavl_fold_with_the_texts_that_it_projects():
    texts = TextFeatures.for_sport("rhythmic_gymnastics")
    model = MLAVL(texts, visual_dim=16, audio_dim=16, dim=16, n_heads=2).eval()
    output = model(torch.randn(2, 5, 16), torch.randn(2, 5, 16))
    clips = torch.randn(3, 7, 16)
    for guide, heard in ((model.guide_visual, "texts_visual"), (model.guide_audio, "texts_audio")):
        assert (guide.fold(output[heard])(clips) - guide(clips, output[heard])).abs().max() < 1e-5


def test_a_folded_mlavl_takes_the_sizes_of_its_model_and_no_others():
    texts = TextFeatures.for_sport("figure_skating")
    folded = MLAVL(texts, visual_dim=6, audio_dim=6, dim=8, n_heads=2).fold()
    assert FoldedMLAVL(**folded.sizes).state_dict().keys() == folded.state_dict().keys()
    with pytest.raises(
        TypeError, match="FoldedMLAVL takes no argument 'n_head'; there are visual_dim, audio_dim, dim,"
    ):
        FoldedMLAVL(**folded.sizes, n_head=2)
    with pytest.raises(TypeError, match="FoldedMLAVL lacks the argument 'fusion': "):
        FoldedMLAVL(**{name: size for name, size in folded.sizes.items() if name != "fusion"})
    FoldedMLAVL(**{name: size for name, size in folded.sizes.items() if name != "residual"})  # as version 0.1 has it


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ActionGraphGuidance(8).fold(), r"owns no texts: fold it with those \(M, d\)"),
        (lambda: ActionGraphGuidance(8).fold(torch.zeros(3, 5)), r"texts want shape \(M, 8\), got \(3, 5\)"),
        (lambda: ActionGraphGuidance(8, torch.zeros(3, 8)).fold(torch.zeros(3, 8)), "owns its texts already"),
        (lambda: ActionGraphGuidance(8, torch.zeros(3, 8), convolution="gcn").fold(), "only the complete graph"),
        (lambda: ActionGraphGuidance(8, torch.zeros(3, 8), convolution=SAGEConv).fold(), "only the complete graph"),
        (lambda: ActionGraphGuidance(8, torch.zeros(3, 8), control="no_edges").fold(), "only the complete graph"),
        (lambda: fold(nn.Linear(2, 2)), "Linear has no ActionGraphGuidance to fold"),
        (lambda: trained(torch.randn(5, 12)).fold()(torch.zeros(2, 4, 7)), r"clips want shape \(B, T, 8\)"),
        (
            lambda: trained(torch.randn(5, 12)).fold()(torch.zeros(2, 4, 8), torch.ones(2, 5, dtype=torch.bool)),
            r"clip_mask wants shape \(2, 4\), got \(2, 5\)",
        ),
    ],
)
def test_what_does_not_fold_says_so_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_model_of_which_one_guide_does_not_fold_stays_as_it_was():
    texts = torch.randn(5, 12)
    model = nn.Sequential(trained(texts), ActionGraphGuidance(8, texts, convolution="gcn"))
    with pytest.raises(ValueError, match="only the complete graph"):
        fold(model)
    assert [type(part) for part in model] == [ActionGraphGuidance] * 2


class Pipeline(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, clips):
        for part in self.parts:
            clips = part(clips)
        return clips


def trained(texts, dim=None):
    """A guide in evaluation whose projection has seen batches: its running statistics are not the initial ones."""
    guide = ActionGraphGuidance(dim or (8 if texts.shape[1] > 6 else 6), texts)
    if len(texts) > 1:
        for _ in range(3):
            guide(torch.randn(2, 4, guide.dim))
    return guide.eval()


@pytest.mark.parametrize("residual", [False, True])
def test_an_mlavl_folds_with_its_guides_added_or_in_place_of_the_clips(residual):
    texts = TextFeatures.for_sport("rhythmic_gymnastics")
    model = MLAVL(texts, visual_dim=12, audio_dim=10, dim=16, n_heads=2, residual=residual).eval()
    visual, audio = torch.randn(2, 5, 12), torch.randn(2, 5, 10)
    folded = model.fold()
    torch.testing.assert_close(folded(visual, audio)["score"], model(visual, audio)["score"])
    assert MLAVL.from_config(model.config).sizes["residual"] is residual


def test_residual_guides_are_added_to_the_clips():
    texts = TextFeatures.for_sport("rhythmic_gymnastics")
    torch.manual_seed(0)
    plain = MLAVL(texts, visual_dim=12, audio_dim=10, dim=16, n_heads=2).eval()
    added = MLAVL(texts, visual_dim=12, audio_dim=10, dim=16, n_heads=2, residual=True).eval()
    added.load_state_dict(plain.state_dict())
    seen = {}
    for name, model in (("plain", plain), ("added", added)):
        model.fusion.register_forward_pre_hook(lambda module, args, name=name: seen.update({name: args[0]}))
        model(torch.ones(2, 5, 12), torch.ones(2, 5, 10))
    clips = plain.context(plain.project_visual(torch.ones(2, 5, 12)))
    torch.testing.assert_close(seen["added"], clips + seen["plain"])
