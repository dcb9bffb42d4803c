"""PAMFN: every intermediate tensor is the released one; evaluation is deterministic unless requested otherwise."""

import pytest
import torch
from torch.nn import functional as F

from mag2.baselines import PAMFN, ModalityBranch
from mag2.baselines.pamfn_mixed import MomentAttention
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


CASES = [name for name in names("pamfn_T*") if not name.endswith("_stages")]


def recorded(model: PAMFN, stage: str) -> dict[str, torch.Tensor]:
    """The intermediate tensors of one stage by the names of the golden files, filled at the next call."""
    part, seen = getattr(model, stage), {}

    def record(module, kept) -> None:
        module.register_forward_hook(lambda module, args, output: seen.update(kept(args, output)))

    record(part, lambda args, output: {"input": args[0], "output": output})
    record(part.conv, lambda args, output: {"conv": output})
    record(part.short_cut, lambda args, output: {"short_cut": output})
    record(part.s_fusion.proj, lambda args, output: {"specific_query": output})
    record(part.s_fusion, lambda args, output: {"specific": output})
    record(part.f_fusion, lambda args, output: {"crossed_c": args[0], "crossed_s": args[1], "crossed": output})
    record(part.f_fusion.proj2, lambda args, output: {"crossed_query_before_sign": output})
    # (B, K, d, T) in rows of (batch, moment)
    record(part.f_fusion.fusion_f, lambda args, output: {"experts": args[1].permute(0, 3, 1, 2).flatten(0, 1)})
    return seen


@pytest.mark.parametrize("case", CASES)
def test_the_fused_model_is_the_released_one(case):
    """Its score and loss, what the policy selects from, and its choices."""
    g = golden(case)
    model = released(g)
    drawn = model(g.input("V"), g.input("A"), g.input("F")), model(g.input("V"), g.input("A"), g.input("F"))
    equal = torch.equal(drawn[0]["score"], drawn[1]["score"])
    g.check("out/unpatched_runs_equal", torch.tensor(int(equal)))
    model.choose = arg_max
    output = model(g.input("V"), g.input("A"), g.input("F"))
    g.check("out/score", output["score"][:, None])
    g.check("out/loss", model.loss(output, g.input("label"))["total"])
    for i in range(3):
        logits = output[f"logits_{i}"]
        g.check(f"out/logits/{i}", logits)
        g.check(f"out/action/{i}", output[f"actions_{i}"])
        first, second = logits.topk(2, dim=1).values.unbind(dim=1)
        g.check(f"out/margin/{i}", (first - second).min())
    assert not g.uncompared()


@pytest.mark.parametrize("case", names("pamfn_T*_stages"))
def test_every_intermediate_tensor_of_the_mixed_branch_is_the_released_one(case):
    g = golden(case)
    source = golden(g.meta["model_file"].removesuffix(".npz"))
    model = released(source)
    model.choose = arg_max
    seen = {stage: recorded(model, stage) for stage in ("stage1", "stage2", "stage3")}
    model(source.input("V"), source.input("A"), source.input("F"))
    for stage, tensors in seen.items():
        for name, ours in tensors.items():
            g.check(f"out/{stage}/{name}", ours)
    assert not g.uncompared()


def test_the_default_model_has_the_released_score_in_evaluation():
    """Weights for weights: only the policy's noise is left out."""
    g = golden("pamfn_T20")
    sizes = {"visual_dim": 24, "flow_dim": 20, "audio_dim": 16, "dim": 16, "n_kinds": 3, "ms_heads": 2, "cm_heads": 2}
    model = PAMFN(**sizes).eval()
    model.load_state_dict(g.state_dict)
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
    """By default a factor with the values of -1e9 before the soft-max, and a gradient that one can train on."""
    queries, tokens = torch.randn(2, 8, 3), torch.randn(2, 4, 8, 3)
    keep = torch.zeros(2, 4, 3)
    keep[:, :2] = 1
    for as_released in (False, True):
        attention = MomentAttention(8, 2, released=as_released)
        torch.testing.assert_close(attention(queries, tokens, keep), attention(queries, tokens[:, :2]))
        mask = keep.clone().requires_grad_()
        attention(queries, tokens, mask).square().sum().backward()
        reach = mask.grad.abs().max().item()
        assert reach > 1e6 if as_released else 0 < reach < 1e3


def test_the_released_mask_is_one_in_half_precision_too():
    queries, tokens = torch.randn(2, 8, 3).half(), torch.randn(2, 4, 8, 3).half()
    keep = torch.zeros(2, 4, 3).half()
    keep[:, :2] = 1
    attention = MomentAttention(8, 2, released=True).half()
    torch.testing.assert_close(attention(queries, tokens, keep), attention(queries, tokens[:, :2]))


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


def statistics(model: PAMFN) -> dict[str, torch.Tensor]:
    """The running means of the frozen branches."""
    return {
        key: value.clone()
        for key, value in model.state_dict().items()
        if key.startswith(("model_r.", "model_f.")) and key.endswith("running_mean")
    }


@pytest.mark.parametrize(
    ("options", "moves"),
    [({}, False), ({"released": True}, True), ({"frozen_branches": "train"}, True)],
)
def test_frozen_branches_stay_as_they_were_or_as_released_keep_their_statistics_moving(options, moves):
    model = small(**options)
    before = {n: p.requires_grad for n, p in model.named_parameters()}
    means = statistics(model)
    model.start_fusion()
    model.start_fusion()
    model.train()
    assert model.model_r.training is moves
    assert model.model_a.training
    model(*clips())
    assert all(torch.equal(value, means[key]) is not moves for key, value in statistics(model).items())
    model.eval()
    assert not model.model_r.training
    model.stop_fusion()
    assert {n: p.requires_grad for n, p in model.named_parameters()} == before
    assert model.train().model_r.training


def test_the_audio_branch_learns_through_all_its_stages_in_fusion():
    model = small().train()
    model.start_fusion()
    model.loss(model(*clips()), torch.rand(5))["total"].backward()
    learning = {n.split(".")[1] for n, p in model.named_parameters() if n.startswith("model_a.") and p.grad is not None}
    assert learning == {"embedding", "stage1", "stage2", "stage3"}
    assert not any(p.requires_grad for p in model.model_a.fc.parameters())


@pytest.mark.parametrize(
    "rate",
    ["embedding_dropout", "feature_dropout", "attention_dropout", "fc_dropout", "head_dropout", "branch_dropout"],
)
def test_each_dropout_is_where_its_name_says_and_in_training_alone(rate):
    rates = ("embedding_dropout", "feature_dropout", "attention_dropout", "fc_dropout", "head_dropout")
    off = dict.fromkeys([*rates, "branch_dropout"], 0.0)
    model = small(**{**off, rate: 0.5}).train()
    model.choose = arg_max
    scored = model.model_r if rate == "branch_dropout" else model
    inputs = dict(zip(("visual", "audio", "flow"), clips(), strict=True))
    assert not torch.equal(scored(**inputs)["score"], scored(**inputs)["score"])
    model.eval()
    assert torch.equal(scored(**inputs)["score"], scored(**inputs)["score"])


def test_defaults_are_the_released_rates():
    model = PAMFN(visual_dim=6, flow_dim=5, audio_dim=4, dim=8)
    rates = {name: part.p for name, part in model.named_modules() if isinstance(part, torch.nn.Dropout)}
    assert {rates[f"{branch}.embedding.6"] for branch in ("model_r", "model_f", "model_a")} == {0.3}
    assert {rates[f"{branch}.fc.0"] for branch in ("model_r", "model_f", "model_a")} == {0.5}
    assert {rate for name, rate in rates.items() if "fusion_" in name} == {0.1}
    assert (rates["feature_dropout"], rates["fc.0"], rates["fc.4"]) == (0.5, 0.0, 0.5)
    assert model.tau == 10
    assert model.stage1.s_fusion.fusion_s.n_heads == model.stage1.f_fusion.fusion_f.n_heads == 1


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: m(clips()[0]), "audio and flow not given"),
        (lambda m: m.loss({"score": torch.zeros(5)}, torch.zeros(5, 1)), "give one number per video"),
        (lambda m: m.model_a.loss({"score": torch.zeros(5)}, torch.zeros(5, 1)), "give one number per video"),
        (lambda m: small(frozen_branches="off"), "give one of eval, train"),
        (lambda m: m(*clips(length=3)), "at least 4 clips"),
        (lambda m: m(clips()[1], clips()[1], clips()[2]), r"the visual branch wants features \(B, T, 6\)"),
        (lambda m: m(clips()[0], clips(length=10)[1], clips()[2]), "as many clips of each modality"),
        (lambda m: ModalityBranch(modality="V"), "unknown modality 'V'; there are visual, flow, audio"),
        (lambda m: PAMFN(dim=10, ms_heads=4), "4 heads cannot share a width of 10"),
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
