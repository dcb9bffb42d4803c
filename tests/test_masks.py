"""A mask means one thing everywhere: what stands in padding changes nothing, and what is no mask is refused."""

import pytest
import torch

from mag2 import MLAVL, ActionGraphGuidance, AudioVisualFusion, PromptGuidedGrading, TextFeatures
from mag2.baselines import SGN, MBertLate, SkatingMixer
from mag2.context import SharedSpecificContextEncoder
from mag2.fusion import FUSIONS, make_fusion
from mag2.guidance import FoldedGuidance, MLPGuidance, TransformerGuidance

B, T, D = 3, 6, 8
TEXTS = TextFeatures.for_sport("rhythmic_gymnastics", n_grades=4)
ROWS = torch.randn(5, D, generator=torch.Generator().manual_seed(5))


def clips(seed=1):
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))


def mask():
    return torch.arange(T).expand(B, -1) < torch.tensor([[6], [3], [1]])


def mlavl():
    return MLAVL(TEXTS, visual_dim=D, audio_dim=D, dim=D, n_heads=2, n_fusion=1, n_grading=1, dropout=0.0)


class TwoClips:
    """A case: a module, and how it is called with visual, audio and a mask."""

    def __init__(self, make, call):
        self.make, self.call = make, call


CASES = {
    "guide": (lambda: ActionGraphGuidance(D, ROWS, dropout=0.0), lambda m, v, a, mask: m(v, clip_mask=mask)),
    "gat": (lambda: ActionGraphGuidance(D, ROWS, convolution="gat"), lambda m, v, a, mask: m(v, clip_mask=mask)),
    "folded guide": (lambda: FoldedGuidance(D), lambda m, v, a, mask: m(v, mask)),
    "mlp": (lambda: MLPGuidance(D), lambda m, v, a, mask: m(v, ROWS, clip_mask=mask)),
    "transformer": (lambda: TransformerGuidance(D, n_heads=2), lambda m, v, a, mask: m(v, ROWS, clip_mask=mask)),
    "context": (lambda: SharedSpecificContextEncoder(D, n_heads=2), lambda m, v, a, mask: m(v, mask)),
    **{
        name: (lambda name=name: make_fusion(name, D, n_heads=2), lambda m, v, a, mask: m(v, a, mask))
        for name in FUSIONS
    },
    "grading": (lambda: PromptGuidedGrading(D, TEXTS, n_heads=2), lambda m, v, a, mask: m(v, a, clip_mask=mask)),
    "mlavl": (mlavl, lambda m, v, a, mask: m(v, a, clip_mask=mask)),
    "folded mlavl": (lambda: mlavl().eval().fold(), lambda m, v, a, mask: m(v, a, clip_mask=mask)),
    "sgn": (lambda: SGN(ROWS, visual_dim=D, audio_dim=D, dim=D, n_heads=2), lambda m, v, a, k: m(v, a, clip_mask=k)),
    "mbert": (
        lambda: MBertLate(visual_dim=D, audio_dim=D, dim=D, n_heads=2, n_layers=1),
        lambda m, v, a, mask: m(v, a, clip_mask=mask),
    ),
    "mixer": (lambda: SkatingMixer(visual_dim=D, audio_dim=D, dim=D), lambda m, v, a, mask: m(v, a, clip_mask=mask)),
}
each = pytest.mark.parametrize("name", CASES)
# Modules that return clips; of others the score is compared.
ATTENTION = [name for name in CASES if name not in ("guide", "gat", "folded guide", "mlp")]


def built(name):
    torch.manual_seed(0)
    make, call = CASES[name]
    return make().eval(), call


def real(output):
    return output["score"] if isinstance(output, dict) else output[mask()]


@each
@pytest.mark.parametrize("padding", [float("nan"), float("inf"), 1e30])
def test_what_stands_in_padding_changes_nothing(name, padding):
    model, call = built(name)
    spoilt = [each.masked_fill(~mask()[..., None], padding) for each in (clips(1), clips(2))]
    torch.testing.assert_close(real(call(model, *spoilt, mask())), real(call(model, clips(1), clips(2), mask())))


@each
def test_padding_that_is_no_number_leaves_every_gradient_a_number(name):
    model, call = built(name)
    visual, audio = (each.masked_fill(~mask()[..., None], float("nan")) for each in (clips(1), clips(2)))
    real(call(model.eval(), visual, audio, mask())).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@each
@pytest.mark.parametrize(
    "wrong",
    [
        torch.ones(B, T),
        torch.zeros(B, T).masked_fill(torch.arange(T) > 3, float("-inf")),
        torch.ones(B, T, dtype=torch.long),
        torch.ones(B, T + 1, dtype=torch.bool),
        torch.ones(B, dtype=torch.bool),
    ],
    ids=["float", "additive", "long", "longer", "one a video"],
)
def test_what_is_no_mask_is_refused_in_one_sentence(name, wrong):
    model, call = built(name)
    with pytest.raises(ValueError, match="mask") as caught:
        call(model, clips(1), clips(2), wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ATTENTION)
def test_a_video_without_a_real_clip_is_named(name):
    if name == "transformer":
        pytest.skip("its clips attend to texts too, so that none is without anything to attend to")
    model, call = built(name)
    empty = mask()
    empty[1] = False
    with pytest.raises(ValueError, match="1"):
        call(model, clips(1), clips(2), empty)


def test_features_of_another_width_say_which_and_what_was_built():
    for model in (mlavl(), mlavl().eval().fold()):
        with pytest.raises(ValueError, match=r"audio is \(3, 6, 9\), and this model was built for features 8 wide"):
            model(clips(), torch.randn(B, T, 9))
        with pytest.raises(ValueError, match=r"audio is .*; its axes look exchanged, give audio.transpose\(1, 2\)"):
            model(clips(), clips().transpose(1, 2))
        with pytest.raises(ValueError, match="visual is a list; give a tensor"):
            model([1.0], clips())


@pytest.mark.parametrize(
    "call",
    [
        lambda: ActionGraphGuidance(D, torch.randn(1, 5))(clips()),
        lambda: mlavl()(torch.randn(1, 1, D), torch.randn(1, 1, D)),
        lambda: AudioVisualFusion(D, n_heads=2)(torch.randn(1, 1, D), torch.randn(1, 1, D)),
    ],
)
def test_training_on_one_row_is_refused_in_a_sentence_of_ours(call):
    with pytest.raises(ValueError, match="BatchNorm cannot train on one row: give two or more clips"):
        call()
