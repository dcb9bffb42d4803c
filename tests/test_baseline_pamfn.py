"""PAMFN: its branches and its policy are the released ones; evaluation is deterministic unless asked otherwise."""

import pytest
import torch
from torch.nn import functional as F

from mag2.baselines import PAMFN, ModalityBranch
from mag2.baselines.pamfn import MomentAttention
from tests.golden import golden, names


@pytest.mark.parametrize("case", names("pamfn_base_*"))
def test_a_branch_is_the_released_one(case):
    g = golden(case)
    branch = ModalityBranch.from_released(g.state_dict, **g.args)
    for name, prefix in (("x", ""), ("x4", "4d/")):
        if f"in/{name}" not in g.arrays:
            continue
        output = branch(**{branch.modality: g.input(name)})
        g.check(f"out/{prefix}score", output["score"][:, None])
        for i in range(4):
            g.check(f"out/{prefix}feats/{i}", output[f"features_{i}"])
        g.check(f"out/{prefix}loss", branch.loss(output, g.input("label"))["total"])
    assert not g.uncompared()


def arg_max(logits):
    """The golden files replace the Gumbel draw by this."""
    return F.one_hot(logits.argmax(dim=1), logits.shape[1]).transpose(1, 2).to(logits.dtype)


def released(g) -> PAMFN:
    return PAMFN.from_released(g.state_dict, **g.args)


@pytest.mark.parametrize("case", names("pamfn_T*"))
def test_the_policy_is_the_released_one(case):
    g = golden(case)
    model = released(g)
    drawn = model(g.input("V"), g.input("A"), g.input("F")), model(g.input("V"), g.input("A"), g.input("F"))
    equal = torch.equal(drawn[0]["score"], drawn[1]["score"])
    g.check("out/unpatched_runs_equal", torch.tensor(int(equal)))
    model.choose = arg_max
    output = model(g.input("V"), g.input("A"), g.input("F"))
    for i in range(3):
        logits = output[f"logits_{i}"]
        g.check(f"out/logits/{i}", logits)
        g.check(f"out/action/{i}", output[f"actions_{i}"])
        first, second = logits.topk(2, dim=1).values.unbind(dim=1)
        g.check(f"out/margin/{i}", (first - second).min())


@pytest.mark.parametrize("case", names("pamfn_T*"))
def test_the_loss_of_the_released_score_is_the_released_loss(case):
    g = golden(case)
    score = g.under("out")["score"].flatten()
    g.check("out/loss", released(g).loss({"score": score}, g.input("label"))["total"])


@pytest.mark.xfail(strict=True, reason="how the mixed branch joins its parts is our reading; see the class")
@pytest.mark.parametrize("case", names("pamfn_T*"))
def test_the_fused_score_is_the_released_one(case):
    """Known not to hold: it fails loudly on the day it does. Not by `check`, which would count it as compared."""
    g = golden(case)
    model = released(g)
    model.choose = arg_max
    score = model(g.input("V"), g.input("A"), g.input("F"))["score"]
    torch.testing.assert_close(score, g.under("out")["score"].flatten(), rtol=1e-4, atol=1e-5)


def test_parameters_are_as_many_as_released():
    model = PAMFN(released=True)
    assert sum(p.numel() for p in model.parameters()) == 17_959_757
    sizes = {name: sum(p.numel() for p in branch.parameters()) for name, branch in model.branches.items()}
    assert sizes == {"visual": 1_842_177, "flow": 1_842_177, "audio": 1_711_105}


def small(**options) -> PAMFN:
    torch.manual_seed(0)
    return PAMFN(visual_dim=6, flow_dim=5, audio_dim=4, dim=8, n_kinds=3, **options)


def clips(batch: int = 5, length: int = 9, **kwargs):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, length, width, generator=generator, **kwargs) for width in (6, 4, 5)]


def test_a_score_does_not_depend_on_its_batch():
    model = small().eval()
    together = model(*clips())["score"]
    alone = torch.cat([model(*(x[i : i + 1] for x in clips()))["score"] for i in range(5)])
    torch.testing.assert_close(together, alone)
    assert ((together >= 0) & (together <= 1)).all()


def test_evaluation_is_deterministic_unless_released():
    ours, theirs = small().eval(), small(released=True).eval()
    assert torch.equal(ours(*clips())["score"], ours(*clips())["score"])
    draws = torch.stack([theirs(*clips())["actions_0"] for _ in range(4)])
    assert draws.std(dim=0).max() > 0


@pytest.mark.parametrize("length", [4, 5, 8, 9, 12, 21])
def test_any_length_from_four_clips_on(length):
    output = small().eval()(*clips(length=length))
    assert output["tokens"].shape == (5, length // 2, 24)
    assert [output[f"actions_{i}"].shape[-1] for i in range(3)] == [length // 2, length // 4, 1]


def test_attention_over_kept_tokens_is_attention_over_those_alone():
    """The multiplicative mask has the values of -1e9 before the soft-max, and a gradient that one can train on."""
    torch.manual_seed(0)
    attention = MomentAttention(8, 2)
    queries, tokens = torch.randn(2, 8, 3), torch.randn(2, 4, 8, 3)
    keep = torch.zeros(2, 4, 3)
    keep[:, :2] = 1
    torch.testing.assert_close(attention(queries, tokens, keep), attention(queries, tokens[:, :2]))
    keep.requires_grad_()
    attention(queries, tokens, keep).square().sum().backward()
    assert 0 < keep.grad.abs().max() < 1e3


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 100.0), (torch.float16, 8.0)])
def test_a_dropped_token_cannot_silence_the_kept_ones(dtype, scale):
    """However much higher its score is: measured from it, the kept ones would underflow to nothing."""
    torch.manual_seed(0)
    attention = MomentAttention(8, 2).to(dtype)
    queries, tokens = (scale * torch.randn(2, 8, 3)).to(dtype), (scale * torch.randn(2, 4, 8, 3)).to(dtype)
    keep = torch.zeros(2, 4, 3, dtype=dtype)
    keep[:, :1] = 1
    torch.testing.assert_close(attention(queries, tokens, keep), attention(queries, tokens[:, :1]))


def test_attention_prefers_what_differs():
    """Scores are negated (released): of two tokens the one that is less like the query weighs more."""
    attention = MomentAttention(4, 1)
    with torch.no_grad():
        for linear in attention.linear_layers:
            linear.weight.copy_(torch.eye(4))
            linear.bias.zero_()
    query = torch.tensor([1.0, 0, 0, 0])[None, :, None]
    tokens = torch.stack([query, -query], dim=1)
    assert attention(query, tokens)[0, 0, 0] < 0


def test_every_trainable_parameter_learns_in_each_stage():
    model = small().train()
    inputs = dict(zip(("visual", "audio", "flow"), clips(), strict=True))
    for branch in model.branches.values():
        branch.loss(branch(**inputs), torch.rand(5))["total"].backward()
        assert [n for n, p in branch.named_parameters() if p.grad is None] == []
    model.zero_grad()
    model.start_fusion()
    model.loss(model(**inputs), torch.rand(5))["total"].backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    trained = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert trained == {"tau", "model_a", "stage1", "stage2", "stage3", "fc"}


def test_fusion_leaves_the_frozen_branches_as_they_were_and_can_be_undone():
    model = small()
    before = {n: p.requires_grad for n, p in model.named_parameters()}
    statistics = model.model_r.embedding[1].running_mean.clone()
    model.start_fusion()
    model.start_fusion()
    model.train()
    model(*clips())
    assert torch.equal(model.model_r.embedding[1].running_mean, statistics)
    assert not model.model_r.training
    assert model.model_a.training
    model.stop_fusion()
    assert {n: p.requires_grad for n, p in model.named_parameters()} == before
    assert model.model_r.training


def test_double_follows_the_input():
    assert small().double().eval()(*clips(dtype=torch.float64))["score"].dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: m(clips()[0]), "audio and flow not given"),
        (lambda m: m.loss({"score": torch.zeros(5)}, torch.zeros(5, 1)), "give one number per video"),
        (lambda m: m.model_a.loss({"score": torch.zeros(5)}, torch.zeros(5, 1)), "give one number per video"),
        (lambda m: m(*clips(length=3)), "at least 4 clips"),
        (lambda m: m(clips()[1], clips()[1], clips()[2]), r"the visual branch wants features \(B, T, 6\)"),
        (lambda m: m(clips()[0], clips(length=10)[1], clips()[2]), "as many clips of each modality"),
        (lambda m: ModalityBranch(modality="V"), "unknown modality 'V'; there are visual, flow, audio"),
        (lambda m: PAMFN(dim=10), "4 heads cannot share a width of 10"),
        (lambda m: PAMFN.from_released({}), "no model_r.embedding.3.weight"),
        (lambda m: PAMFN.from_released(m.state_dict() | {"x": torch.zeros(1)}), "unexpected: x"),
    ],
)
def test_bad_input_gets_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call(small())
    assert "\n" not in str(caught.value)


def test_from_released_strips_wrappers():
    model = small()
    wrapped = {f"module.{key}": value for key, value in model.state_dict().items()}
    loaded = PAMFN.from_released(wrapped)
    assert loaded.released
    assert not loaded.training
    model.eval().choose = loaded.choose = arg_max
    torch.testing.assert_close(loaded(*clips())["score"], model(*clips())["score"])
