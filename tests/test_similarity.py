"""Edge weights reach the guides in any model, and a similarity makes them: lent, weighed, trained and handed back."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mag2 import MLAVL, ActionGraphGuidance, TextFeatures, attach, attached, detach, disabled, load_plugin, save_plugin
from mag2.adapters import pamfn
from mag2.alignment import SimilarityWeighted, clip_text_similarity, edge_weights, name_actions
from mag2.baselines import PAMFN
from mag2.data import simulate
from mag2.guidance import FoldedGuidance
from mag2.plugin import edge_weights_of, fold
from mag2.training import Recipe, Run, fit, predict, train
from tests.test_adapters import OURS, texts
from tests.test_adapters import clips as inputs
from tests.test_plugin import (
    BATCH,
    CLIPS,
    DIM,
    Decoder,
    Marked,
    Scorer,
    assert_as_before,
    by_copy,
    by_pickle,
    by_torch_save,
    clips,
    fresh_compiler,  # noqa: F401
    guide,
    snapshot,
    trained,
)

M, SPACE = 4, 6


def replacing(model, module, at, **options):
    """Attached so that the features are what the guide makes of them."""
    return attach(model, module, at, start="replace", **options)


LAYOUTS = [("btd", (0, 1, 2)), ("bdt", (0, 2, 1)), ("tbd", (1, 0, 2))]


def weights(batch=BATCH, n_clips=CLIPS, n_texts=M, seed=2):
    return 3 * torch.rand(batch, n_clips, n_texts, generator=torch.Generator().manual_seed(seed))


def guided(**options):
    return replacing(Scorer(), guide(dropout=0.0, **options), at="encoder").eval()


def by_hand(model, weight, x=None):
    """What the model would say if its guide were called with the weights."""
    plug = attached(model)[0].module
    with disabled(model):
        features = model.encoder(clips() if x is None else x)
    return model.head(plug(features, edge_weight=weight).mean(dim=1)).squeeze(1)


# --- lent for a call ---


@pytest.mark.parametrize("side", ["output", "input"])
@pytest.mark.parametrize(("layout", "axes"), LAYOUTS)
def test_lent_weights_equal_a_call_of_the_guide_by_hand_in_any_layout(layout, axes, side):
    module = guide(dropout=0.0)
    model = attach(
        nn.Sequential(nn.Identity(), nn.Identity()), module, at="1", side=side, layout=layout, start="replace"
    ).eval()
    with edge_weights_of(model, weights()) as lent:
        assert lent is model
        found = model(clips().permute(axes)).permute([axes.index(i) for i in range(3)])
    torch.testing.assert_close(found, module(clips(), edge_weight=weights()))
    assert not torch.allclose(found, module(clips()))


def test_weights_of_ones_are_the_complete_graph_and_none_is_too():
    model = guided()
    complete = model(clips())
    with edge_weights_of(model, torch.ones(BATCH, CLIPS, M)):
        assert (model(clips()) - complete).abs().max() < 1e-5
        with edge_weights_of(model, None):
            assert torch.equal(model(clips()), complete)


def test_a_loan_ends_with_its_with_even_if_it_fails_and_an_inner_one_goes_before_an_outer_one():
    model = guided()
    complete, first, second = model(clips()), by_hand(model, weights()), by_hand(model, weights(seed=3))
    with edge_weights_of(model, weights()):
        torch.testing.assert_close(model(clips()), first)
        with edge_weights_of(model, weights(seed=3)):
            torch.testing.assert_close(model(clips()), second)
        torch.testing.assert_close(model(clips()), first)
    assert torch.equal(model(clips()), complete)
    with pytest.raises(RuntimeError), edge_weights_of(model, weights()):
        model(clips(BATCH, CLIPS, DIM + 1))
    assert torch.equal(model(clips()), complete)
    assert not torch.allclose(first, second)


def test_weights_of_the_call_go_before_lent_ones_and_are_found_by_name_or_position():
    class Encoder(nn.Linear):
        def forward(self, clips, heard=None):
            return super().forward(clips)

    module = guide(dropout=0.0)
    model = replacing(Encoder(DIM, DIM), module, at="", edge_weight="heard").eval()
    with disabled(model):
        features = model(clips())
    expected = module(features, edge_weight=weights())
    torch.testing.assert_close(model(clips(), weights()), expected)
    torch.testing.assert_close(model(clips(), heard=weights()), expected)
    assert torch.equal(model(clips()), module(features))
    with edge_weights_of(model, weights(seed=3)):
        torch.testing.assert_close(model(clips(), weights()), expected)
        torch.testing.assert_close(model(clips()), module(features, edge_weight=weights(seed=3)))


def test_weights_and_a_mask_of_one_call_go_together():
    module, real = guide(dropout=0.0), torch.arange(CLIPS).expand(BATCH, -1) < 3
    model = attach(
        Decoder(), module, at="", side="input", item=1, padding_mask="memory_key_padding_mask", start="replace"
    ).eval()
    with edge_weights_of(model, weights()):
        memory = model(1, clips(), memory_key_padding_mask=~real)[1]
    torch.testing.assert_close(memory, module(clips(), clip_mask=real, edge_weight=weights()))


def test_a_residual_guide_hands_the_weights_on():
    model = attach(Scorer(), module := guide(dropout=0.0), at="encoder", start="identity").eval()
    plain = model(clips())
    with edge_weights_of(model, weights()):
        torch.testing.assert_close(model(clips()), plain)  # it starts as the identity, whatever it hears
    trained(model)
    with disabled(model):
        features = model.encoder(clips())
    residual = attached(model)[0].module
    expected = features + residual.out(module(features, edge_weight=weights()))
    with edge_weights_of(model, weights()):
        torch.testing.assert_close(model(clips()), model.head(expected.mean(dim=1)).squeeze(1))


def test_several_guides_hear_the_same_unless_places_are_named():
    model = attach(
        Scorer(), [guide(dropout=0.0), guide(dropout=0.0)], at=("encoder.0", "encoder"), start="replace"
    ).eval()
    wrapped = nn.ModuleDict({"part": model})
    complete = model(clips())

    def said(given, of=model):
        with edge_weights_of(of, given):
            return model(clips())

    w, v = weights(), weights(seed=3)
    both = said(w)
    torch.testing.assert_close(said({"encoder.0": w, "encoder": w}), both)
    torch.testing.assert_close(said(w, of=wrapped), both)
    torch.testing.assert_close(
        said({"part.encoder.0": w, "part.encoder": v}, of=wrapped), said({"encoder.0": w, "encoder": v})
    )
    outputs = [complete, both, said({"encoder": w}), said({"encoder.0": w}), said({"encoder.0": w, "encoder": v})]
    for i, one in enumerate(outputs):
        assert not any(torch.allclose(one, other) for other in outputs[:i])
    with edge_weights_of(model, v):
        torch.testing.assert_close(said({"encoder.0": w}), outputs[4])  # the place that is not named keeps what it has


def test_controls_hear_their_own_texts_and_no_edges_hears_nobody():
    for control, same in (("zero_texts", False), ("random_texts", False), ("no_edges", True)):
        model = guided(control=control)
        complete = model(clips())
        with edge_weights_of(model, weights()):
            torch.testing.assert_close(model(clips()), by_hand(model, weights()))
            assert torch.allclose(model(clips()), complete) == same


def test_a_guide_that_takes_no_weights_is_left_alone_beside_one_that_does():
    model = replacing(replacing(Scorer(), guide(dropout=0.0), at="encoder"), Marked(), at="encoder.0").eval()
    complete = model(clips())
    with edge_weights_of(model, weights()):
        assert not torch.allclose(model(clips()), complete)


def test_a_disabled_guide_stays_disabled_and_a_detached_one_is_gone():
    model, base = guided(), Scorer().eval()
    base.load_state_dict({key: value for key, value in model.state_dict().items() if "mag2" not in key})
    with edge_weights_of(model, weights()), disabled(model):
        assert torch.equal(model(clips()), base(clips()))
    with edge_weights_of(model, weights()):
        detach(model)
        assert torch.equal(model(clips()), base(clips()))
    assert torch.equal(model(clips()), base(clips()))


@pytest.mark.parametrize("travel", [by_copy, by_pickle, by_torch_save])
def test_a_copy_that_is_made_meanwhile_is_not_lent_to(travel):
    model = guided()
    complete = model(clips())
    with edge_weights_of(model, weights()):
        other = travel(model)
        assert torch.equal(other(clips()), complete)
        assert not torch.allclose(model(clips()), complete)
    with edge_weights_of(other, weights()):
        torch.testing.assert_close(other(clips()), by_hand(other, weights()))
        assert torch.equal(model(clips()), complete)


def test_gradients_reach_the_weights_and_the_texts():
    model, weight = guided().train(), weights().requires_grad_()
    with edge_weights_of(model, weight):
        model(clips()).square().sum().backward()
    assert weight.grad.abs().min() > 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_recomputation_hears_the_weights_inside_the_with_and_refuses_outside():
    model = guided().train()
    other, late = copy.deepcopy(model), copy.deepcopy(model)
    with edge_weights_of(model, weights()):
        model(clips()).square().sum().backward()
    with edge_weights_of(other, weights()):
        checkpoint(other, clips(), use_reentrant=False).square().sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad)
    with edge_weights_of(late, weights()):
        loss = checkpoint(late, clips(), use_reentrant=False).square().sum()
    with pytest.raises(RuntimeError, match="runs again in the backward pass, after its edge weights went back"):
        loss.backward()


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_guide_that_is_checkpointed_inside_a_weighted_model_says_that_its_weights_are_gone(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, visual):
            return checkpoint(self.model, visual, use_reentrant=reentrant)

    around = Checkpointed(guided().train())
    weighted = SimilarityWeighted(around, torch.randn(M, 6))
    loss = weighted(clips().requires_grad_(), vision_language=torch.randn(3, 5, 6)).square().sum()
    with pytest.raises(RuntimeError, match="let nothing around it be checkpointed"):
        loss.backward()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_hears_what_is_lent_and_forgets_it(backend):
    model = guided()
    complete, first, second = model(clips()), by_hand(model, weights()), by_hand(model, weights(seed=3))
    other = torch.compile(model, backend=backend)
    for _ in range(2):
        torch.testing.assert_close(other(clips()), complete)
        with edge_weights_of(other, weights()):
            torch.testing.assert_close(other(clips()), first)
        with edge_weights_of(other, weights(seed=3)):
            torch.testing.assert_close(other(clips()), second)


def test_a_plugin_keeps_where_its_weights_come_from(tmp_path):
    model = replacing(Decoder(), guide(dropout=0.0), at="", item=0, edge_weight="pos").eval()
    save_plugin(model, tmp_path)
    other = load_plugin(Decoder(), tmp_path).eval()
    expected = model(clips(), 1, pos=weights())[0]
    assert torch.equal(other(clips(), 1, pos=weights())[0], expected)
    assert not torch.allclose(other(clips(), 1)[0], expected)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: lend(Scorer()), "no guide of this Scorer takes edge weights: nothing is attached to it"),
        (
            lambda: lend(attach(Scorer(), Marked(), at="encoder")),
            "it has Marked on the output of 'encoder' .*; attach an",
        ),
        (lambda: lend(fold(guided())), "FoldedGuidance on the output of 'encoder' cannot hear edge weights, of its"),
        (lambda: lend(guided(), {"head": weights()}), "no guide sits at 'head'; guides sit at 'encoder'"),
        (
            lambda: lend(guided(), weights(n_texts=3)),
            r"edge_weight wants shape \(B, T, M\), here \(3, 5, 4\), got \(3, 5",
        ),
        (lambda: lend(guided(), -weights()), "finite weights of 0 or more"),
        (lambda: lend(guided(convolution="gcn")), "edge_weight is for the complete graph with 'sage'"),
        (lambda: attach(Decoder(), Marked(), at="", edge_weight="pos"), "cannot hear edge weights, it takes no edge_w"),
        (lambda: attach(Decoder(), guide(), at="", edge_weight="heard"), "edge_weight='heard' is no argument of that"),
        (
            lambda: fold(attach(Decoder(), guide(), at="", item=0, edge_weight="pos"))(clips(), 1, pos=weights()),
            "cannot hear edge weights, of its texts it keeps the sum alone",
        ),
    ],
)
def test_what_cannot_be_lent_is_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


def lend(model, given=None):
    with edge_weights_of(model, weights() if given is None else given):
        return model(clips())


# --- weighed by a similarity ---


def seen(n_clips, width=SPACE, batch=BATCH, seed=4):
    return inputs(batch, n_clips, width, seed=seed)


def outside(rows=None, seed=5):
    """Texts of another encoder, one for each action."""
    return inputs(len(texts().visual) if rows is None else rows, SPACE, seed=seed)


def adapted(name):
    """A baseline with its guides, in evaluation, its inputs and what reads its score."""
    adapter, make, given, score = OURS[name]
    model = adapter.with_mag2(make(), texts(), dropout=0.0, start="replace").eval()
    if name == "our QTD":  # its score is clamped: untrained ones below 0 would all be equal
        nn.init.constant_(model.evaluator.layer3_mean.bias, 0.5)
    return model, given, score


@pytest.mark.parametrize("name", OURS)
def test_a_similarity_moves_the_score_of_every_adapted_baseline_and_all_of_it_learns(name):
    model, given, score = adapted(name)
    weighted = SimilarityWeighted(model, outside())
    there = seen(given[0].shape[1])
    found, complete = score(weighted(*given, vision_language=there)), score(model(*given))
    assert found.shape == complete.shape
    assert (found != complete).all()
    with edge_weights_of(model, edge_weights(clip_text_similarity(there, outside()))):
        assert torch.equal(score(model(*given)), found)
    weighted.train()
    output = weighted(*given, vision_language=there)
    weighted.loss(output, torch.rand(BATCH))["total"].backward()
    for place in attached(weighted):
        learned = dict(place.module.named_parameters())
        # PAMFN's RGB and flow branches are detached from the fused score, and learn in their own stage.
        if name != "our PAMFN" or "model_a" in place.at:
            assert all(parameter.grad is not None and parameter.grad.any() for parameter in learned.values())


@pytest.mark.parametrize("name", OURS)
def test_equal_similarities_are_the_complete_graph(name):
    model, given, score = adapted(name)
    nothing = torch.zeros(BATCH, given[0].shape[1], SPACE)
    with torch.no_grad():
        gap = score(SimilarityWeighted(model, outside())(*given, vision_language=nothing)) - score(model(*given))
    assert gap.abs().max() < 1e-5


@pytest.mark.parametrize("name", OURS)
def test_detach_gives_the_model_back(name):
    adapter, make, given, score = OURS[name]
    model = make().eval()
    before, expected = snapshot(model), score(model(*given))
    weighted = SimilarityWeighted(adapter.with_mag2(model, texts()), outside())
    score(weighted(*given, vision_language=seen(given[0].shape[1])))
    detach(weighted)
    assert weighted.model is model
    assert_as_before(model, before)
    assert torch.equal(score(model(*given)), expected)
    with pytest.raises(ValueError, match="nothing is attached to it"):
        weighted(*given, vision_language=seen(given[0].shape[1]))


def small_mlavl():
    torch.manual_seed(0)
    sizes = {"visual_dim": 12, "audio_dim": 10, "dim": 16, "n_heads": 2, "n_fusion": 1, "n_grading": 1}
    return MLAVL(texts(), **sizes, dropout=0.0).eval()


def test_an_mlavl_takes_the_weights_in_its_call():
    model, given, there = small_mlavl(), (clips(3, 6, 12), clips(3, 6, 10)), seen(6)
    weighted = SimilarityWeighted(model, outside()).eval()
    expected = model(*given, edge_weight=edge_weights(clip_text_similarity(there, outside())))["score"]
    assert torch.equal(weighted(*given, vision_language=there)["score"], expected)
    assert not torch.allclose(expected, model(*given)["score"])
    real = torch.arange(6).expand(3, -1) < 4
    masked = weighted(*given, clip_mask=real, vision_language=there)["score"]
    assert not torch.allclose(masked, expected)


def weighted_scorer(**options):
    torch.manual_seed(0)
    return SimilarityWeighted(guided(), outside(M), **options).eval()


def test_its_settings_are_those_of_the_weights():
    there = seen(CLIPS)
    for settings in ({}, {"temperature": 0.5}, {"top_k": 2}, {"scale": 9.0}, {"centre": False}):
        weighted = weighted_scorer(**settings)
        similarity = clip_text_similarity(there, outside(M), centre=settings.pop("centre", True))
        expected = edge_weights(similarity, **settings)
        assert torch.equal(weighted.weights(there), expected)
        assert torch.equal(weighted.similarity(there), similarity)
        torch.testing.assert_close(weighted(clips(), vision_language=there), by_hand(weighted.model, expected))
    assert "top_k=2" in repr(weighted_scorer(top_k=2))


def test_text_features_of_the_space_may_be_given_whole():
    features = TextFeatures(outside(), outside(seed=6), outside(2, seed=7), outside(4, seed=8))
    model = ActionGraphGuidance(DIM, texts().visual)
    weighted = SimilarityWeighted(replacing(Scorer(), model, at="encoder"), features)
    assert torch.equal(weighted.texts, features.visual)


def test_its_state_is_the_models_behind_a_prefix_and_the_texts():
    weighted = weighted_scorer()
    keys = [f"model.{key}" for key in weighted.model.state_dict()]
    assert sorted(weighted.state_dict()) == sorted(["texts", *keys])
    other = SimilarityWeighted(guided(), torch.zeros(M, SPACE)).eval()
    other.load_state_dict(weighted.state_dict())
    there = seen(CLIPS)
    assert torch.equal(other(clips(), vision_language=there), weighted(clips(), vision_language=there))


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_it_travels_and_arrives_apart(travel):
    weighted, there = weighted_scorer(), seen(CLIPS)
    expected = weighted(clips(), vision_language=there)
    other = travel(weighted)
    assert torch.equal(other(clips(), vision_language=there), expected)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(weighted(clips(), vision_language=there), expected)
    assert not other(clips(), vision_language=there).any()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("inside", [False, True])
def test_compiled_outside_or_inside_it_says_the_same(inside):
    weighted = weighted_scorer()
    if inside:
        other = SimilarityWeighted(torch.compile(weighted.model, backend="aot_eager"), outside(M)).eval()
    else:
        other = torch.compile(weighted, backend="aot_eager")
    for seed in (4, 5):
        there = seen(CLIPS, seed=seed)
        expected = weighted(clips(), vision_language=there)
        torch.testing.assert_close(other(clips(), vision_language=there), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_follows_the_type_of_its_features(dtype):
    weighted = weighted_scorer().to(dtype)
    found = weighted(clips().to(dtype), vision_language=seen(CLIPS).to(dtype))
    assert found.dtype is dtype
    expected = weighted_scorer()(clips(), vision_language=seen(CLIPS))
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0)


def test_autocast_leaves_the_similarity_in_full_precision():
    close = 4 + 0.2 * outside(M)  # texts within cosine 0.99 of one another
    there = close[None].expand(2, -1, -1)
    weighted = SimilarityWeighted(guided(), close)
    with torch.autocast("cpu", torch.bfloat16):
        inside = weighted.weights(there)
    torch.testing.assert_close(inside, weighted.weights(there))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: weighted_scorer()(clips()), r"Scorer with weighted edges wants vision_language=\(B, T, 6\)"),
        (lambda: weighted_scorer()(clips(), vision_language=seen(CLIPS, 5)), "want one width"),
        (lambda: weighted_scorer()(clips(), vision_language=seen(CLIPS + 1)), r"here \(3, 5, 4\), got \(3, 6, 4\)"),
        (lambda: SimilarityWeighted(guided(), outside(M + 1)), "has 4 texts, so weights want as many, got 5 texts"),
        (lambda: SimilarityWeighted(guided(), torch.zeros(M)), r"texts want a tensor \(M, D\) .*got shape \(4,\)"),
        (lambda: SimilarityWeighted(guided(), "texts"), "got a str"),
        (lambda: SimilarityWeighted(Scorer(), outside(M)), "no guide of this Scorer takes edge weights"),
        (lambda: SimilarityWeighted(fold(guided()), outside(M)), "cannot hear edge weights, of its texts it keeps"),
        (lambda: weighted_scorer(temperature=0.0), "numbers above 0"),
        (lambda: weighted_scorer(top_k=M + 1), "top_k wants 1 to 4"),
        (lambda: fold(weighted_scorer())(clips(), vision_language=seen(CLIPS)), "cannot hear edge weights"),
    ],
)
def test_what_cannot_be_weighed_is_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_folding_reaches_the_guides_inside():
    assert isinstance(attached(fold(weighted_scorer()))[0].module, FoldedGuidance)


# --- trained on a dataset ---


@pytest.fixture(scope="module")
def simulated():
    """Performances with features in the space of the shipped texts, which name 60 % of their actions."""
    widths = {"visual": 400, "audio": 16, "flow": 8}
    shipped = TextFeatures.for_sport("rhythmic_gymnastics")
    options = {"sport": "rhythmic_gymnastics", "train": 24, "test": 24, "length": (30, 40), "widths": widths}
    return simulate(shipped, **options, aligned=True, top1=0.6)


def small_pamfn():
    torch.manual_seed(0)
    sizes = {"visual_dim": 400, "flow_dim": 8, "audio_dim": 16, "dim": 16, "n_kinds": 2, "ms_heads": 2, "cm_heads": 2}
    return SimilarityWeighted(pamfn.with_mag2(PAMFN(**sizes), texts(), dropout=0.0), texts())


RECIPE = Recipe(lr=1e-3, batch=4)


def test_named_actions_are_right_as_often_as_was_planted(simulated):
    test = simulated.dataset("Ball").test
    planted = simulated.planted_actions("test", target="Ball")
    similarity = small_pamfn().similarity(test.batch(range(len(test))).vision_language)
    assert name_actions(similarity, texts().prompts, planted=planted).accuracy == pytest.approx(0.6, abs=0.12)
    everyone = simulated.planted_actions("test")
    rows = [simulated.features["vision_language"].crop([i], 68, [0]) for i in range(24, 48)]
    whole = name_actions(small_pamfn().similarity(torch.cat(rows)), texts().prompts, planted=everyone)
    assert whole.accuracy == pytest.approx(0.6, abs=0.01)


def test_pamfn_trains_in_stages_and_every_branch_hears_the_weights(simulated, tmp_path):
    model, heard = small_pamfn(), []

    def remember(module, args, kwargs):
        heard.append(kwargs.get("edge_weight"))

    for place in attached(model):
        place.module.register_forward_pre_hook(remember, with_kwargs=True)
    assert {place.at for place in attached(model)} == {f"model.model_{m}.embedding" for m in "rfa"}
    history = train(model, simulated.dataset("Ball", clips=16), RECIPE, Run(epochs=1, folder=tmp_path))
    assert history.last.loss > 0
    assert heard
    assert all(weight is not None and weight.shape[1:] == (16, len(texts().visual)) for weight in heard)
    assert model.model.fusing
    assert {path.parent.name for path in tmp_path.rglob("checkpoint.pt")} == {tmp_path.name, "visual", "flow", "audio"}
    frozen = [p for place in attached(model) for p in place.module.parameters() if not p.requires_grad]
    assert frozen


def test_branches_are_wrapped_where_they_are_guided():
    model = small_pamfn()
    assert all(isinstance(branch, SimilarityWeighted) for branch in model.branches.values())
    assert {id(branch.model) for branch in model.branches.values()} == {id(b) for b in model.model.branches.values()}
    detach(model.model.model_f)
    assert {name: isinstance(branch, SimilarityWeighted) for name, branch in model.branches.items()} == {
        "visual": True,
        "flow": False,
        "audio": True,
    }
    assert weighted_scorer().branches == {}


def test_training_and_prediction_hand_the_features_over(simulated):
    data = simulated.dataset("Ball", clips=16)
    model = SimilarityWeighted(small_mlavl_of(simulated), texts())
    history = fit(model, data, RECIPE, Run(epochs=2))
    batch = data.test.batch(range(len(data.test)))
    model.eval()
    with torch.no_grad():
        expected = model(batch.visual, batch.audio, batch.flow, vision_language=batch.vision_language)["score"]
    torch.testing.assert_close(predict(model, data.test), expected)
    assert history.last.epoch == 2
    # Whoever does not want them does not get them.
    assert predict(model.model, data.test).shape == expected.shape


class OfVisual(nn.Module):
    """A small model of the simulated visual features: the compiler traces it in a moment."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(400, DIM), nn.Linear(DIM, 1)

    def forward(self, visual, *_):
        return {"score": self.head(self.encoder(visual).mean(dim=1)).squeeze(1)}

    def loss(self, output, label):
        return {"total": (output["score"] - label).square().mean()}


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_training_hands_them_over_too(simulated, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, make=torch.compile: make(model, backend="eager"))
    data, run = simulated.dataset("Ball", clips=16), {"epochs": 1}
    losses = []
    for compile_model in (False, True):
        torch.manual_seed(0)
        model = attach(OfVisual(), ActionGraphGuidance(DIM, texts().visual, dropout=0.0), at="encoder")
        model = SimilarityWeighted(model, texts())
        losses.append(fit(model, data, RECIPE, Run(**run, compile=compile_model)).last.loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_dataset_without_these_features_is_one_sentence():
    widths = {"visual": 12, "audio": 8}
    bare = simulate(texts(), sport="rhythmic_gymnastics", train=8, test=8, length=(8, 9), widths=widths)
    model = SimilarityWeighted(replacing(Scorer(), ActionGraphGuidance(DIM, texts().visual), at="encoder"), outside())
    for call in (lambda data: fit(model, data, RECIPE, Run(epochs=1)), lambda data: predict(model, data.test)):
        with pytest.raises(ValueError, match=r"^SimilarityWeighted wants vision_language features and [^\n]*$"):
            call(bare.dataset("Ball", clips=8))


def small_mlavl_of(simulated):
    torch.manual_seed(0)
    widths = {"visual_dim": 400, "audio_dim": 16}
    return MLAVL(texts(), **widths, dim=16, n_heads=2, n_fusion=1, n_grading=1, dropout=0.0)


def test_three_lines_are_enough():
    """The use that docs/language.md shows, on tensors."""
    vision_language, model = seen(CLIPS), guided()
    similarity = clip_text_similarity(vision_language, outside(M))
    with warnings.catch_warnings(), edge_weights_of(model, edge_weights(similarity)):
        warnings.simplefilter("error")
        found = model(clips())
    torch.testing.assert_close(found, by_hand(model, edge_weights(similarity)))
