"""MLAVL and its parts: equal to the released model, and free of what leaks in it."""

import json

import pytest
import torch

from mag2 import MLAVL, AudioVisualFusion, PromptGuidedGrading, TextFeatures
from mag2.context import SharedSpecificContextEncoder
from mag2.fusion import FUSIONS, make_fusion
from mag2.grading import GradeHead
from mag2.losses import agreement, mlavl_loss, rank_cross_entropy
from mag2.mlavl import released_name
from mag2.projection import TokenProjection
from mag2.vocabulary import make_prompts
from tests.golden import golden, names


def released(g) -> MLAVL:
    config = g.meta["config"]
    model = MLAVL.from_released(
        g.state_dict,
        text_features=g.input("text_feature"),
        n_text=config["n_text"],
        use_pe=config["use_pe"],
        **g.args,
    )
    return model.train() if g.meta["mode"].startswith("train") else model


def nine(output: dict) -> dict:
    """Our output under the names of the nine tensors that the released model returns."""
    batch = len(output["score"])
    repeated = {"embed3": "visual", "embed4": "audio", "embed5": "audio_visual_grades", "embed6": "grades"}
    return {
        "output": output["score"],
        "embed": output["grades_audio_visual"],
        "embed2": output["grades_visual"],
        **{theirs: output[f"texts_{ours}"].expand(batch, -1, -1) for theirs, ours in repeated.items()},
        "logits1": agreement(output["grades_audio_visual"], output["queries_audio_visual"]),
        "logits2": agreement(output["grades_visual"], output["queries_visual"]),
    }


@pytest.mark.parametrize("case", [*names("mlavl_eval_*"), *names("mlavl_train_*")])
def test_mlavl_is_the_released_model(case):
    g = golden(case)
    model = released(g)
    for name, ours in nine(model(g.input("visual"), g.input("audio"))).items():
        g.check(f"out/{name}", ours)
    buffers = {released_name(name): buffer for name, buffer in model.named_buffers() if buffer_of_theirs(name)}
    for name in g.under("after"):
        # Position table and text features are constants that we do not keep among the buffers.
        g.check(f"after/{name}", buffers[name] if name in buffers else g.buffers[name])
    assert not g.uncompared()


def buffer_of_theirs(name: str) -> bool:
    return "norm.running" in name or "norm.num_batches" in name


@pytest.mark.parametrize("case", names("mlavl_loss_*"))
def test_the_objective_is_the_released_one(case):
    """Every term, and its partial derivatives with the nine tensors as leaves."""
    g = golden(case)
    leaves = {name: g.input(name).requires_grad_() for name in ("output", "embed", "embed2")}
    texts = {f"embed{i}": g.input(f"embed{i}")[0] for i in (3, 4, 5, 6)}
    output = {
        "score": leaves["output"],
        "grades_audio_visual": leaves["embed"],
        "grades_visual": leaves["embed2"],
        "queries_audio_visual": texts["embed5"],
        "queries_visual": texts["embed6"],
        "texts_visual": texts["embed3"],
        "texts_audio": texts["embed4"],
        "texts_audio_visual_grades": texts["embed5"],
        "texts_grades": texts["embed6"],
    }
    terms = mlavl_loss(output, g.input("label"))
    check_terms(g, terms)
    (terms["mse"] + terms["triplet/grades_audio_visual"] + terms["triplet/grades_visual"]).backward()
    for name, leaf in leaves.items():
        g.check(f"grad/{name}", leaf.grad)
    for name in ("logits1", "logits2"):
        logits = g.input(name).requires_grad_()
        crossed = rank_cross_entropy(logits)
        g.check(f"out/ce/{name}", crossed)
        (0.01 * crossed).backward()
        g.check(f"grad/{name}", logits.grad)


def check_terms(g, terms) -> None:
    sets = {
        "embed": "grades_audio_visual",
        "embed2": "grades_visual",
        "embed3": "texts_visual",
        "embed4": "texts_audio",
        "embed5": "texts_audio_visual_grades",
        "embed6": "texts_grades",
    }
    for theirs, ours in sets.items():
        g.check(f"out/triplet/{theirs}", terms[f"triplet/{ours}"])
    g.check("out/triplet_sum", sum(terms[f"triplet/{ours}"] for ours in sets.values()))
    g.check("out/mse10", terms["mse"])
    cross = {"logits1": terms["agreement/audio_visual"], "logits2": terms["agreement/visual"]}
    for name, term in cross.items():
        g.check(f"out/ce/{name}", term / 0.01)
    g.check("out/ce_sum", sum(cross.values()) / 0.01)
    g.check("out/total", terms["total"])


@pytest.mark.parametrize("case", names("mlavl_loss_*"))
def test_the_objective_trains_the_whole_model_as_released(case):
    g = golden(case)
    source = golden(g.meta["model_file"].removesuffix(".npz"))
    model = released(source)
    output = model(source.input("visual"), source.input("audio"))
    for name in ("score", "grades_audio_visual"):
        output[name].retain_grad()
    terms = model.loss(output, g.input("label"))
    check_terms(g, terms)
    terms["total"].backward()
    g.check("gradfull/output", output["score"].grad)
    g.check("gradfull/embed", output["grades_audio_visual"].grad)
    theirs = {key: value.shape for key, value in source.parameters.items()}
    gradients = {released_name(name): p.grad for name, p in model.named_parameters()}
    aliases = source.meta["aliases"]
    for name, shape in theirs.items():
        gradient = gradients[aliased(name, gradients, aliases)]
        gradients[name] = None if gradient is None else gradient.reshape(shape)
    g.check_parameter_gradients(gradients)
    theirs_without = json.loads(str(g.arrays["out/params_without_grad"]))
    assert sorted(name for name, gradient in gradients.items() if gradient is None) == sorted(theirs_without)
    g.skip("out/params_without_grad")


def aliased(name: str, known: dict, aliases: dict) -> str:
    """The released model registers two parts twice; ours has each once."""
    if name in known:
        return name
    return next(other for other, same in aliases.items() if same == name)


def test_paper_size_is_the_released_size():
    texts = TextFeatures.from_rows(torch.randn(102, 512), make_prompts("figure_skating"))
    assert sum(p.numel() for p in MLAVL(texts).parameters()) == 6_724_627


@pytest.fixture
def texts():
    return TextFeatures.for_sport("figure_skating")


@pytest.fixture
def small(texts):
    torch.manual_seed(0)
    return MLAVL(texts, visual_dim=12, audio_dim=10, dim=16, n_heads=4)


def features(batch: int = 5, clips: int = 7, **kwargs):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, clips, 12, generator=generator, **kwargs),
        torch.randn(batch, clips, 10, generator=generator, **kwargs),
    )


@pytest.mark.parametrize(
    "options", [{}, {"queries": "learnable"}, {"queries": "learnable", "use_pe": True}, {"use_pe": True}]
)
@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_a_score_does_not_depend_on_its_batch(texts, options, fusion):
    torch.manual_seed(0)
    model = MLAVL(texts, visual_dim=12, audio_dim=10, dim=16, n_heads=4, fusion=fusion, **options).eval()
    visual, audio = features()
    together = model(visual, audio)["score"]
    alone = torch.cat([model(v[None], a[None])["score"] for v, a in zip(visual, audio, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
    assert torch.equal(together, model(visual, audio)["score"]), "evaluation twice gives equal scores"
    assert ((together >= 0) & (together <= 1)).all()


def test_released_positions_do_depend_on_the_batch(texts):
    """The slip that `released=True` keeps is real: a video's score moves with its place in the batch."""
    torch.manual_seed(0)
    model = MLAVL(texts, visual_dim=12, audio_dim=10, dim=16, n_heads=4, use_pe=True, released=True).eval()
    visual, audio = features()
    assert not torch.allclose(model(visual, audio)["score"][1:], model(visual[1:], audio[1:])["score"], atol=1e-6)


@pytest.mark.parametrize("queries", ["texts", "learnable"])
@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_the_objective_reaches_every_parameter(texts, queries, fusion):
    model = MLAVL(texts, visual_dim=12, audio_dim=10, dim=16, n_heads=4, fusion=fusion, queries=queries)
    model.loss(model(*features()), torch.rand(5))["total"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("w", [-9.0, 9.0])
def test_a_weight_that_ran_away_leaves_scores_in_range(small, w):
    """w is free in training; in evaluation the score stays where labels lie."""
    with torch.no_grad():
        small.grading.w.fill_(w)
    visual, audio = features(batch=64)
    score = small.eval()(visual, audio)["score"]
    assert ((score >= 0) & (score <= 1)).all()


def test_projection_is_the_convolutions_of_the_paper():
    torch.manual_seed(0)
    ours = TokenProjection(10, 6)
    theirs = torch.nn.Sequential(
        torch.nn.Conv1d(10, 5, 1),
        torch.nn.BatchNorm1d(5),
        torch.nn.ReLU(),
        torch.nn.Conv1d(5, 6, 1),
        torch.nn.BatchNorm1d(6),
    )
    for mine, part in ((ours.reduce, theirs[0]), (ours.expand, theirs[3])):
        part.load_state_dict({"weight": mine.weight[..., None], "bias": mine.bias})
    tokens = torch.randn(3, 4, 10)
    torch.testing.assert_close(ours(tokens), theirs(tokens.transpose(1, 2)).transpose(1, 2))


def test_context_adds_the_encoder_to_its_input():
    context = SharedSpecificContextEncoder(8, n_heads=2).eval()
    clips = torch.randn(2, 5, 8)
    torch.testing.assert_close(context(clips) - clips, context.encoder(clips))


def test_avcf_is_global_plus_clip_wise():
    fusion = AudioVisualFusion(8, n_heads=2).eval()
    visual, audio = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    torch.testing.assert_close(fusion(visual, audio), fusion.decoder(visual, audio) + fusion.clip_wise(visual, audio))


def test_grading_owns_texts_or_takes_them(texts):
    torch.manual_seed(0)
    owning = PromptGuidedGrading(8, texts, n_heads=2).eval()
    taking = PromptGuidedGrading(8, n_heads=2).eval()
    taking.load_state_dict({k: v for k, v in owning.state_dict().items() if not k.startswith("owned_texts.")})
    fused, visual = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    projected = owning.owned_texts().split([12, 6])
    torch.testing.assert_close(owning(fused, visual)["score"], taking(fused, visual, *projected)["score"])


def test_grades_that_are_all_hardly_there_still_make_a_score():
    head = GradeHead(6, 8).half()
    torch.nn.init.constant_(head.regressor.bias, -18)  # a sigmoid of half precision is 0 there
    score, weights = head(torch.zeros(2, 6, 8).half())
    torch.testing.assert_close(score, torch.full((2,), 0.5).half())
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2).half(), atol=2e-3, rtol=0)


def test_a_score_is_the_mean_of_what_grades_are_worth_by_their_sigmoids():
    head, grades = GradeHead(6, 8).double(), torch.randn(3, 6, 8).double()
    present = torch.stack([torch.sigmoid(head.regressor(grades[:, n])[:, n]) for n in range(6)], dim=1)
    expected = present / present.sum(dim=1, keepdim=True)
    score, weights = head(grades)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(score, (expected * torch.arange(6) / 5).sum(dim=1))


@pytest.mark.parametrize("n_grades", range(3, 9))
def test_any_number_of_grades_that_has_words(n_grades):
    texts = TextFeatures.for_sport("rhythmic_gymnastics", n_grades=n_grades)
    model = MLAVL(texts, visual_dim=12, audio_dim=10, dim=16, n_heads=4).eval()
    output = model(*features())
    assert output["weights_visual"].shape == (5, n_grades)
    torch.testing.assert_close(output["weights_audio_visual"].sum(dim=1), torch.ones(5))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: m(features()[0]), "wants audio features"),
        (lambda m: m(features()[0], features()[1][:, :5]), "as many videos and clips"),
        (lambda m: m(features()[1], features()[1]), "12 wide"),
        (lambda m: make_fusion("late", 8), "unknown fusion 'late'; there are avcf"),
        (lambda m: PromptGuidedGrading(8, queries="none"), "unknown queries 'none'"),
        (
            lambda m: PromptGuidedGrading(8, n_grades=1, queries="learnable"),
            "between two grades or more, got n_grades 1",
        ),
        (
            lambda m: PromptGuidedGrading(8, n_grades=0, queries="learnable"),
            "between two grades or more, got n_grades 0",
        ),
        (lambda m: PromptGuidedGrading(8)(torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)), "owns no texts"),
        (lambda m: PromptGuidedGrading(8, n_heads=2)(torch.zeros(1, 2, 9), torch.zeros(1, 2, 9)), r"fused wants shape"),
        (lambda m: PromptGuidedGrading(8, TextFeatures.for_sport("figure_skating"), n_grades=4), "6 grades, n_grades"),
        (lambda m: AudioVisualFusion(8)(torch.zeros(1, 2, 8), torch.zeros(1, 3, 8)), "one shape"),
        (
            lambda m: MLAVL.from_released({"w1": torch.zeros(1)}, text_features=torch.zeros(102, 512)),
            "not among the keys",
        ),
    ],
)
def test_bad_input_gets_one_sentence(small, call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call(small)
    assert "\n" not in str(caught.value)
