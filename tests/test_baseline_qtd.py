"""QTD: the released numbers, and what ours does differently by default."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from mag2.baselines.qtd import QTD, Evaluator, attention_consistency, query_relations
from tests.golden import Golden, golden, names

POSITIONAL = ("query", "query_memory", "memory", "none")
RELEASED_EVALUATOR, RELEASED_TQN = 1_312_770, 21_075_968


def small(**changes) -> QTD:
    """A QTD of width 16 with random weights everywhere, the same for every call."""
    torch.manual_seed(0)
    sizes = {"in_dim": 16, "dim": 16, "n_queries": 5, "feed_forward": 24, "max_len": 20}
    return QTD(**{**sizes, **changes})


def clips(batch: int = 3, width: int = 16, seed: int = 1) -> Tensor:
    return torch.randn(batch, 7, width, generator=torch.Generator().manual_seed(seed))


def labels(batch: int = 3) -> Tensor:
    return torch.linspace(0.1, 0.9, batch)


def released(g: Golden) -> QTD:
    """Our class on a released case, its random draw replaced as the case replaced it."""
    model = QTD.from_released(g.state_dict, **g.args)
    if "in/query_draw" in g.arrays:
        model.draw_queries = lambda queries: g.input("query_draw")
    return model


def position_codes(model: QTD, visual: Tensor) -> dict[str, Tensor | None]:
    """What the decoder was given as `pos` and `query_pos`."""
    seen: dict[str, Tensor | None] = {}
    handle = model.decoder.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    model(visual)
    handle.remove()
    return seen


# --- the released code -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", names("qtd_tqn_*"))
def test_released_decoder_gives_the_released_numbers(case):
    g = golden(case)
    model = released(g)
    keys = []  # what cross-attention takes as its keys: the released "memory" map
    for layer in model.decoder.layers:
        layer.multihead_attn.register_forward_pre_hook(lambda module, args: keys.append(args[1]))
    output = model(g.input("x"))
    consistency = model.loss(output, torch.zeros(g.meta["batch"]))["consistency"]

    g.check("out/features", output["features"])
    for i in range(g.args["N"]):
        g.check(f"out/maps/self/{i}", output[f"self_map_{i}"].transpose(0, 1))
        g.check(f"out/maps/cross/{i}", output[f"cross_map_{i}"].transpose(0, 1))
        g.check(f"out/maps/memory/{i}", keys[i])
    g.check("out/attention_loss", consistency)
    # The released soft-max runs down the columns of a symmetric matrix, ours along its rows.
    last = g.args["N"] - 1
    for kind in ("self", "cross"):
        relations = query_relations(output[f"{kind}_map_{last}"]).exp()
        g.check(f"out/attention_softmax_{kind}_lastlayer", relations.transpose(1, 2))

    (output["features"].square().mean() + consistency).backward()
    g.check_parameter_gradients({name: p.grad for name, p in model.named_parameters()})

    if "out/unpatched_two_runs_equal" in g.arrays:
        fresh = QTD.from_released(g.state_dict, **g.args)
        first, second = fresh(g.input("x")), fresh(g.input("x"))
        equal = torch.equal(first["features"], second["features"])
        g.check("out/unpatched_two_runs_equal", torch.tensor(equal))
    assert g.uncompared() == []


def test_released_evaluator_gives_the_released_numbers():
    g = golden("qtd_evaluator")
    evaluator = Evaluator.from_released(g.state_dict)
    score, scores, weights = evaluator(g.input("x"))
    g.check("out/score", score)
    g.check("out/mean", scores[..., None])
    g.check("out/weight", weights[..., None])
    score.sum().backward()
    g.check_parameter_gradients({name: p.grad for name, p in evaluator.named_parameters()})
    assert g.uncompared() == []


def test_our_sinusoidal_code_is_the_released_one():
    g = golden("qtd_tqn_query_pe")
    ours = QTD(dim=g.args["d_model"], n_queries=2, max_len=g.args["max_len"], in_dim=4)
    torch.testing.assert_close(ours.pos_encoder.pe, g.buffers["pos_encoder.pe"], rtol=1e-4, atol=1e-5)


def test_query_var_is_a_standard_deviation():
    g = golden("qtd_tqn_query_pe_qvar2")
    assert g.args["query_var"] == 2
    assert 1.8 < g.input("query_draw").std() < 2.2  # 576 numbers: the error is about 0.06, sqrt(2) is far


@pytest.mark.parametrize("as_released", [False, True])
def test_totals_at_paper_size_are_the_released_ones(as_released):
    with torch.device("meta"):
        model = QTD(released=as_released)
    evaluator = sum(p.numel() for p in model.evaluator.parameters())
    total = sum(p.numel() for p in model.parameters())
    assert (evaluator, total - evaluator) == (RELEASED_EVALUATOR, RELEASED_TQN)


@pytest.mark.parametrize(("positional", "leaks"), [("memory", True), ("query_memory", True), ("none", False)])
def test_released_memory_codes_leak_sample_0_into_the_others(positional, leaks):
    model = small(positional=positional, released=True).eval()
    visual, other = clips(), clips()
    other[0] = clips(seed=2)[0]
    before, after = model(visual)["features"], model(other)["features"]
    assert torch.allclose(before[1:], after[1:], atol=1e-6) is not leaks
    # It runs one way: sample 0 hears nothing of the others.
    torch.testing.assert_close(model(visual[:1])["features"][0], before[0])


def test_released_query_codes_leak_sample_0s_draw_into_the_others():
    model = small(query_var=2.0, released=True).eval()
    draw = torch.randn(5, 3, 16)
    model.draw_queries = lambda queries: draw
    before = model(clips())["features"]
    draw[:, 0] += 1.0 + torch.rand(5, 16)
    assert not torch.allclose(model(clips())["features"][1:], before[1:], atol=1e-3)


def test_released_draws_new_queries_for_every_sample_and_forward_and_only_if_query_var_is_not_1():
    redrawn = small(query_var=2.0, released=True, n_queries=400, max_len=400).eval()
    draw = redrawn.draw_queries(redrawn.query_embed.weight[:, None].expand(-1, 3, -1))
    assert 1.9 < draw.std() < 2.1
    assert not torch.equal(draw[:, 0], draw[:, 1])
    assert not torch.equal(redrawn(clips())["score"], redrawn(clips())["score"])
    kept = small(query_var=1.0, released=True).eval()
    assert torch.equal(kept(clips())["score"], kept(clips())["score"])


def test_released_scores_are_not_clamped():
    model = small(released=True).eval()
    nn.init.constant_(model.evaluator.layer3_mean.bias, 5.0)
    assert (model(clips())["score"] > 1).all()


# --- from_released -----------------------------------------------------------------------------------------

HOW = {"H": 4, "pe": "query_pe", "query_var": 1}


def weights() -> dict[str, Tensor]:
    return small(released=True).state_dict()


def split(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    tqn = {key: value for key, value in state.items() if not key.startswith("evaluator.")}
    bare = {k.removeprefix("evaluator."): v for k, v in state.items() if k.startswith("evaluator.")}
    return tqn, bare


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("below", ["", "evaluator."])
def test_from_released_takes_the_evaluator_bare_or_below_its_name(prefix, below):
    tqn, bare = split(weights())
    state = {prefix + key: value for key, value in {**tqn, **{below + k: v for k, v in bare.items()}}.items()}
    torch.manual_seed(9)
    loaded = QTD.from_released(state, **HOW)
    assert loaded.released
    assert not loaded.training
    assert torch.equal(loaded(clips())["score"], small(released=True).eval()(clips())["score"])
    alone = Evaluator.from_released({prefix + below + key: value for key, value in bare.items()})
    assert all(torch.equal(value, bare[key]) for key, value in alone.state_dict().items())


def test_from_released_without_an_evaluator_starts_a_fresh_one():
    tqn, _ = split(weights())
    torch.manual_seed(9)
    loaded = QTD.from_released(tqn, **HOW)
    assert torch.equal(loaded(clips())["features"], small(released=True).eval()(clips())["features"])
    assert loaded.evaluator.layer1_mean.weight.std() > 0


def test_from_released_reads_sizes_off_the_weights():
    loaded = QTD.from_released(weights(), d_model=99, N=7, num_queries=3, max_len=1, **HOW)
    assert loaded(clips())["features"].shape == (3, 5, 16)
    assert len(loaded.decoder.layers) == 2


def test_from_released_takes_dropout_and_noise_for_further_training():
    loaded = QTD.from_released(weights(), dropout=0.2, noise=0.05, **HOW)
    layer = loaded.decoder.layers[0]
    assert (layer.dropout.p, layer.self_attn.dropout, layer.multihead_attn.dropout, loaded.noise) == (0.2,) * 3 + (
        0.05,
    )
    assert QTD.from_released(weights(), **HOW).decoder.layers[1].dropout.p == 0.7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("decoder.norm.bias"), "missing: decoder.norm.bias\\)$"),
        (lambda s: s.update({"head.weight": torch.zeros(1)}), "unexpected: head.weight\\)$"),
        (lambda s: s.update({"decoder.norm.bias": torch.zeros(3)}), "of another shape: decoder.norm.bias\\)$"),
        (lambda s: s.pop("evaluator.layer2_mean.bias"), "missing: evaluator.layer2_mean.bias\\)$"),
        (lambda s: s.pop("query_embed.weight"), "has no query_embed.weight"),
        (lambda s: s.pop("pos_encoder.pe"), "has no pos_encoder.pe"),
    ],
)
def test_from_released_names_what_does_not_fit(change, says):
    state = weights()
    change(state)
    with pytest.raises(ValueError, match=says):
        QTD.from_released(state, **HOW)


def test_from_released_names_the_codes_there_are():
    with pytest.raises(ValueError, match=r"'query'.*query_memory_pe, query_pe, memory_pe, no"):
        QTD.from_released(weights(), H=4, pe="query", query_var=1)


def test_an_evaluator_with_a_key_missing_is_refused():
    _, bare = split(weights())
    del bare["layer3_weight.bias"]
    with pytest.raises(ValueError, match=r"fit Evaluator \(missing: layer3_weight.bias\)$"):
        Evaluator.from_released(bare)


# --- ours --------------------------------------------------------------------------------------------------


def test_evaluation_is_the_same_twice_and_between_0_and_1():
    model = small(query_var=2.0).eval()
    nn.init.normal_(model.evaluator.layer3_mean.weight, std=20.0)
    visual = clips(batch=64)
    first, second = model(visual)["score"], model(visual)["score"]
    assert torch.equal(first, second)
    assert first.min() >= 0
    assert first.max() <= 1
    unclamped = model.evaluator(model(visual)["features"])[0]
    assert unclamped.min() < 0 or unclamped.max() > 1  # so the clamp had something to do


def test_training_scores_are_not_clamped_so_that_they_keep_a_gradient():
    model = small(dropout=0.0).train()
    nn.init.constant_(model.evaluator.layer3_mean.bias, 5.0)
    output = model(clips())
    assert (output["score"] > 1).all()
    model.loss(output, labels())["mse"].backward()
    assert model.evaluator.layer3_mean.bias.grad.abs() > 1


def test_the_score_is_the_weighted_sum_of_the_queries_scores():
    output = small().train()(clips())
    assert output["query_scores"].shape == output["query_weights"].shape == (3, 5)
    torch.testing.assert_close(output["query_weights"].sum(dim=1), torch.ones(3))
    by_hand = [
        sum(w * s for w, s in zip(*rows, strict=True))
        for rows in zip(output["query_weights"], output["query_scores"], strict=True)
    ]
    torch.testing.assert_close(output["score"], torch.stack(by_hand))


def test_without_codes_the_decoder_is_torchs_own_pre_norm_decoder():
    model = small(positional="none").eval()
    layer = nn.TransformerDecoderLayer(16, 4, 24, norm_first=True, batch_first=True)
    theirs = nn.TransformerDecoder(layer, 2, nn.LayerNorm(16)).eval()
    theirs.load_state_dict(model.decoder.state_dict())
    queries = model.query_embed.weight.expand(3, -1, -1)
    torch.testing.assert_close(model(clips())["features"], theirs(queries, clips()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positional", POSITIONAL)
def test_the_code_is_positional_only(positional):
    model = small(positional=positional).eval()
    seen = position_codes(model, clips())
    for name, length, coded in [
        ("query_pos", 5, "query" in positional),
        ("pos", 7, "memory" in positional),
    ]:
        if not coded:
            assert seen[name] is None
            continue
        by_hand = torch.tensor(
            [
                [
                    [
                        math.sin(t / 10000 ** (j / 16)) if j % 2 == 0 else math.cos(t / 10000 ** ((j - 1) / 16))
                        for j in range(16)
                    ]
                ]
                for t in range(length)
            ]
        )
        torch.testing.assert_close(seen[name], by_hand, rtol=1e-4, atol=1e-5)


def test_every_layer_reads_the_clips_as_they_are_and_their_code_once():
    model, seen = small(positional="query_memory").eval(), []
    for layer in model.decoder.layers:
        layer.multihead_attn.register_forward_pre_hook(lambda module, args: seen.append(args[1:3]))
    model(clips())
    memory = clips().transpose(0, 1)
    assert len(seen) == 2
    for keys, values in seen:
        assert torch.equal(keys, memory + model.pos_encoder(7))
        assert torch.equal(values, memory)


def test_queries_start_with_the_given_standard_deviation():
    assert 2.8 < small(n_queries=300, query_var=3.0).query_embed.weight.std() < 3.2


def test_features_of_another_width_are_projected_and_of_the_models_width_not():
    assert small().in_proj is None
    assert not any("in_proj." in key for key in small().state_dict())
    projected = small(in_dim=12).eval()
    visual = clips(width=12)
    straight = copy.deepcopy(projected)
    straight.in_proj, straight.in_dim = None, 16
    assert torch.equal(projected(visual)["score"], straight(projected.in_proj(visual))["score"])


class TextRows(nn.Module):
    """Stands where `query_embed` stood; counts how often its rows are read."""

    def __init__(self, rows: Tensor):
        super().__init__()
        self.rows = nn.Parameter(rows)
        self.reads = 0

    @property
    def weight(self) -> Tensor:
        self.reads += 1
        return self.rows


@pytest.mark.parametrize("as_released", [False, True])
@pytest.mark.parametrize("positional", POSITIONAL)
def test_other_rows_can_take_the_place_of_the_queries_without_a_code(positional, as_released):
    model = small(positional=positional, released=as_released).eval()
    texts = TextRows(torch.randn(3, 16))
    model.query_embed = texts
    model.query_positions = False
    assert position_codes(model, clips())["query_pos"] is None
    assert texts.reads == 1
    output = model(clips())
    assert output["features"].shape == (3, 3, 16)
    output["features"].square().sum().backward()
    assert (texts.rows.grad.abs().sum(dim=1) > 0).all()


def test_the_decoder_is_given_the_clips_sequence_first_as_its_second_argument():
    model, seen = small().eval(), []
    model.decoder.register_forward_pre_hook(lambda module, args: seen.extend(args))
    model(clips())
    assert torch.equal(seen[1], clips().transpose(0, 1))


# --- the objective -----------------------------------------------------------------------------------------


def slow_divergence(self_map: Tensor, cross_map: Tensor) -> Tensor:
    """KL(cross || self) of one video's relations (Q, d), one query at a time."""
    n_queries, dim = self_map.shape
    rows = []
    for i in range(n_queries):
        seen = torch.stack([self_map[i] @ self_map[j] / dim for j in range(n_queries)]).exp()
        heard = torch.stack([cross_map[i] @ cross_map[j] / dim for j in range(n_queries)]).exp()
        seen, heard = seen / seen.sum(), heard / heard.sum()
        rows.append(sum(p * (p / q).log() for p, q in zip(heard, seen, strict=True)))
    return torch.stack(rows)


def test_consistency_is_the_divergence_restated_as_a_slow_loop():
    generator = torch.Generator().manual_seed(3)
    first, second = torch.randn(2, 3, 5, 16, generator=generator, dtype=torch.float64) * 2
    by_hand = torch.stack([slow_divergence(a, b) for a, b in zip(first, second, strict=True)])
    torch.testing.assert_close(attention_consistency(first, second), by_hand)
    assert attention_consistency(first, first).abs().max() < 1e-12


def test_a_divergence_stays_one_in_half_precision():
    generator = torch.Generator().manual_seed(3)
    first, second = torch.randn(2, 8, 5, 16, generator=generator)
    half = attention_consistency(first.bfloat16(), second.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attention_consistency(first, second)
    for ours in (half, mixed):
        assert ours.dtype == torch.float32
        assert ours.min() > -1e-6
        torch.testing.assert_close(ours, attention_consistency(first, second), rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("as_released", [False, True])
def test_the_loss_is_mse_plus_the_divergence_averaged_or_as_released_summed(as_released):
    model = small(released=as_released, attention_weight=0.5).eval()
    output = model(clips())
    terms = model.loss(output, labels())
    every = torch.stack(
        [slow_divergence(output[f"self_map_{i}"][b], output[f"cross_map_{i}"][b]) for i in range(2) for b in range(3)]
    )
    expected = 0.5 * (every.sum() if as_released else every.mean())
    torch.testing.assert_close(terms["consistency"], expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(terms["mse"], ((output["score"] - labels()) ** 2).mean())
    assert terms.keys() == {"mse", "consistency", "total"}
    assert torch.equal(terms["total"], terms["mse"] + terms["consistency"])


@pytest.mark.parametrize(
    ("training", "as_released", "noisy"),
    [(True, False, True), (False, False, False), (True, True, True), (False, True, True)],
)
def test_noise_is_in_the_training_loss_and_as_released_in_the_test_loss_too(training, as_released, noisy):
    model = small(noise=0.3, released=as_released, dropout=0.0).train(training)
    output = model(clips())
    losses = [model.loss(output, labels())["mse"].item() for _ in range(2)]
    assert (losses[0] != losses[1]) is noisy


def test_the_noise_of_the_loss_has_its_standard_deviation_and_can_be_fixed():
    model = small(noise=0.3).train()
    assert 0.28 < model.draw_noise(torch.zeros(4000)).std() < 0.32
    output = model(clips())
    model.draw_noise = lambda score: torch.tensor([0.1, 0.2, 0.3])
    expected = ((output["score"] + torch.tensor([0.1, 0.2, 0.3]) - labels()) ** 2).mean()
    torch.testing.assert_close(model.loss(output, labels())["mse"], expected)


# --- wrong input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"n_heads": 3}, "3 heads cannot share a width of 16"),
        ({"dim": 15, "n_heads": 5}, "the width is 15, give an even one"),
        ({"n_layers": 0}, "n_layers is 0: give 1 or more"),
        ({"positional": "query_pe"}, "'query_pe': give one of query_memory, query, memory, none"),
        ({"query_var": -1.0}, "give standard deviations, 0 or more"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(sizes, says):
    with pytest.raises(ValueError, match=says):
        small(**sizes)


@pytest.mark.parametrize("shape", [(3, 7, 15), (3, 16), (3, 0, 16)])
def test_features_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"wants features \(B, T, 16\), got \("):
        small()(torch.zeros(shape))


def test_more_clips_than_the_code_has_places_are_refused_only_where_clips_are_coded():
    visual = torch.zeros(1, 21, 16)
    with pytest.raises(ValueError, match="21 tokens are to get a positional code of 20: raise max_len"):
        small(positional="memory")(visual)
    assert small(positional="query")(visual)["score"].shape == (1,)
