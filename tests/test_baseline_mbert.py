"""M-BERT (Late): the released trunk, two streams of one shared layer; the head is ours."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2.baselines.mbert import _LAYER, _MAPS, MBertLate
from mag2.baselines.mbert_layer import FactorisedMap, Rotation, SharedLayer
from tests.golden import golden, names

LABEL = torch.tensor([0.2, 0.5, 0.9])
SMALL = {"visual_dim": 12, "audio_dim": 10, "dim": 16, "n_heads": 2, "n_layers": 2, "n_joint": 2, "rank": 6}
FUSIONS = ("late", "mid")


def small(**options) -> MBertLate:
    """All weights random, those that start at 0 or 1 too."""
    torch.manual_seed(0)
    model = MBertLate(**{**SMALL, "dropout": 0.0, "attention_dropout": 0.0, **options})
    for name, parameter in model.named_parameters():
        if name.endswith("original"):
            nn.init.normal_(parameter, std=0.5)
        elif "norm" in name or "bias" in name:
            nn.init.normal_(parameter, mean=0.5, std=0.2)
    return model


def performances(length: int = 7, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, 12, generator=generator), torch.randn(batch, length, 10, generator=generator)


# --- the released code -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", names("mbert_late_*"))
def test_the_trunk_is_the_released_one(case):
    g = golden(case)
    model = MBertLate.from_released(g.state_dict, **g.args)
    visual, audio = g.input("visual"), g.input("audio")
    output = model(visual, audio)
    g.check("out/embedded/visual", model.embed_visual(visual))
    g.check("out/embedded/audio", model.embed_audio(audio))
    g.check("out/encoded/visual", output["visual_tokens"])
    g.check("out/encoded/audio", output["audio_tokens"])
    for name, theirs in _MAPS.items():
        # Ours is applied as Q x, theirs as x @ Q.
        for m, ours in enumerate(model.layer.maps[name].rotation.weight):
            g.check(f"out/orthogonal/{_LAYER}{theirs}.orthogonal_ms{m}_linear", ours.T)
    assert not g.uncompared()


def released_weights() -> dict[str, Tensor]:
    return golden("mbert_late_T7").state_dict


def released_args() -> dict:
    return golden("mbert_late_T7").args


def test_from_released_shows_sizes_strips_wrappers_and_starts_a_fresh_head():
    wrapped = {f"module.{key}": value for key, value in released_weights().items()}
    torch.manual_seed(3)
    model = MBertLate.from_released(wrapped, n_heads=4, n_layers=3, rank=99)
    assert not model.training
    assert (model.visual_dim, model.audio_dim, model.max_len) == (10, 12, 9)
    assert model.layer.maps["query"].own.shape == (2, 6, 16)
    assert model.layer.maps["up"].shared.out_features == 32
    assert model.regressor.weight.std() > 0


def test_from_released_leaves_out_what_is_not_the_trunk_and_says_so():
    weights = released_weights() | {"visual_conv.weight": torch.zeros(2), "transformer.pooler.weight": torch.zeros(2)}
    with pytest.warns(
        UserWarning, match=r"left out 2 weights .* the released trunk, such as transformer.pooler.weight"
    ):
        MBertLate.from_released(weights, **released_args())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop("visual_fc.bias"), "no visual_fc.bias"),
        (lambda w: w.pop(f"{_LAYER}factor_ffn.ms1_linear.weight"), "no transformer.*factor_ffn.ms1_linear.weight"),
        (lambda w: w.update({"audio_norm.bias": torch.zeros(3)}), "of another shape: embed_audio.project_norm.bias"),
        (
            lambda w: w.update({f"{_LAYER}{_MAPS['query']}.ms2_linear.weight": torch.zeros(6, 16)}),
            "factors of a joint stream; only checkpoints of late fusion load",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_key(change, says):
    weights = released_weights()
    change(weights)
    with pytest.raises(ValueError, match=says):
        MBertLate.from_released(weights, **released_args())


# --- the shared layer --------------------------------------------------------------------------------------


def test_a_map_is_its_formula_vector_by_vector():
    torch.manual_seed(0)
    each = FactorisedMap(3, 5, 7, rank=4)
    nn.init.normal_(each.rotation.parametrizations.weight.original)
    nn.init.normal_(each.shared.bias)
    x = torch.randn(2, 1, 2, 5)
    mapped = each(x, each.turned(), slice(1, 3))
    for m in range(2):
        for s in range(2):
            inner = each.own[m + 1] @ x[m, 0, s]
            turned = each.rotation.weight[m + 1] @ (inner / inner.norm())
            torch.testing.assert_close(mapped[m, 0, s], each.shared.weight @ turned + each.shared.bias)


def test_rotations_are_orthogonal_and_start_as_the_identity():
    rotation = Rotation(2, 5)
    assert torch.equal(rotation.weight, torch.eye(5).expand(2, -1, -1))
    nn.init.normal_(rotation.parametrizations.weight.original)
    weight = rotation.weight
    torch.testing.assert_close(weight @ weight.mT, torch.eye(5).expand(2, -1, -1), rtol=0, atol=1e-5)
    lower = rotation.parametrizations.weight.original.tril(-1)
    torch.testing.assert_close(weight, torch.matrix_exp(lower - lower.mT))


@pytest.mark.parametrize("n_layers", [1, 3])
def test_a_layer_is_a_post_norm_layer_with_these_maps_restated_token_by_token(n_layers):
    torch.manual_seed(0)
    sizes = {"n_streams": 2, "dim": 8, "n_heads": 2, "feed_forward": 12, "rank": 3}
    layer = SharedLayer(**sizes, dropout=0.0, attention_dropout=0.0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, mean=0.3, std=0.4)
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    given = torch.randn(2, 2, 5, 8)
    for mask in (None, real):
        output = layer(given, n_layers, slice(0, 2), mask)
        for m in range(2):
            for b in range(2):
                tokens = given[m, b]
                for _ in range(n_layers):
                    tokens = slow_layer(layer, m, tokens, None if mask is None else mask[b])
                torch.testing.assert_close(output[m, b], tokens, rtol=1e-4, atol=1e-5)


def slow_layer(layer: SharedLayer, stream: int, tokens: Tensor, real: Tensor | None) -> Tensor:
    def mapped(name: str, x: Tensor) -> Tensor:
        each = layer.maps[name]
        inner = F.normalize(x @ each.own[stream].T, dim=-1)
        return inner @ each.rotation.weight[stream].T @ each.shared.weight.T + each.shared.bias

    query, key, value = (mapped(name, tokens).split(4, dim=-1) for name in ("query", "key", "value"))
    heads = []
    for q, k, v in zip(query, key, value, strict=True):
        scores = q @ k.T / 4**0.5
        if real is not None:
            scores = scores.masked_fill(~real, -torch.inf)
        heads.append(scores.softmax(dim=-1) @ v)
    tokens = layer.attention_norm(tokens + mapped("out", torch.cat(heads, dim=-1)))
    return layer.feed_forward_norm(tokens + mapped("down", F.gelu(mapped("up", tokens))))


def test_depth_and_modalities_share_one_layer_up_to_the_factors():
    total = {n: sum(p.numel() for p in small(n_layers=n).parameters()) for n in (1, 6)}
    assert total[1] == total[6]
    model = small()
    visual, audio = performances()
    model(visual, audio)["visual_tokens"].square().sum().backward()
    for each in model.layer.maps.values():
        assert each.shared.weight.grad.any()
        assert each.own.grad[0].any()
        assert not each.own.grad[1].any()


def test_the_trunk_has_the_size_of_the_paper():
    """Some 4 million in the encoders of its mid fusion, of 128 million without sharing."""
    torch_layer = nn.TransformerEncoderLayer(768, 12, 3072)
    assert round(3 * 6 * sum(p.numel() for p in torch_layer.parameters()) / 1e6) == 128
    assert round(sum(p.numel() for p in MBertLate(fusion="mid").layer.parameters()) / 1e6) == 4
    assert sum(p.numel() for p in MBertLate().parameters()) == 4_839_169


# --- the model ---------------------------------------------------------------------------------------------


def test_modalities_meet_at_the_score_alone_and_in_mid_fusion_before_it():
    visual, audio = performances()
    other = audio.flip(0)
    late, mid = small().eval(), small(fusion="mid").eval()
    assert torch.equal(late(visual, audio)["visual_tokens"], late(visual, other)["visual_tokens"])
    assert (mid(visual, audio)["visual_tokens"] - mid(visual, other)["visual_tokens"]).abs().max() > 1e-4
    for model in (late, mid):
        first, second = model(visual, audio)["score"], model(visual, other)["score"]
        assert (first - second)[[0, 2]].abs().min() > 1e-6  # the middle one has the same audio


def test_the_order_of_clips_matters_by_the_positions_alone():
    visual, audio = performances()
    model = small().eval()
    turned = visual.flip(1), audio.flip(1)
    assert (model(visual, audio)["score"] - model(*turned)["score"]).abs().max() > 1e-5
    for embed in (model.embed_visual, model.embed_audio):
        nn.init.zeros_(embed.positions)
    torch.testing.assert_close(model(visual, audio)["score"], model(*turned)["score"])


@pytest.mark.parametrize("rate", ["dropout", "attention_dropout"])
def test_evaluation_is_deterministic_and_training_drops_out(rate):
    model = small(**{rate: 0.5}).eval()
    given = performances()
    assert torch.equal(model(*given)["score"], model(*given)["score"])
    model.train()
    assert not torch.equal(model(*given)["score"], model(*given)["score"])


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("length", [1, 7])
def test_the_loss_is_the_squared_error_and_reaches_every_parameter(fusion, length):
    model = small(fusion=fusion)
    output = model(*performances(length))
    terms = model.loss(output, LABEL)
    torch.testing.assert_close(terms["mse"], ((output["score"] - LABEL) ** 2).mean())
    assert terms["total"] is terms["mse"]
    terms["total"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_few_steps_lower_the_loss(fusion):
    model = MBertLate(**SMALL, fusion=fusion, dropout=0.0, attention_dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = model.loss(model(*performances()), LABEL)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_the_score_is_read_from_the_two_summary_tokens():
    model = small().eval()
    output = model(*performances())
    read = torch.cat([output["visual_tokens"][:, 0], output["audio_tokens"][:, 0]], dim=-1)
    expected = torch.sigmoid(F.linear(read, model.regressor.weight, model.regressor.bias))
    torch.testing.assert_close(output["score"][:, None], expected)


# --- parametrised modules survive what users do to a model ---------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(
    "again",
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: pickle.loads(pickle.dumps(copy.deepcopy(model))),
    ],
)
def test_a_copy_computes_the_same_and_learns_by_itself(fusion, again):
    model = small(fusion=fusion).eval()
    other = again(model)
    given = performances()
    assert torch.equal(model(*given)["score"], other(*given)["score"])
    assert not other.training
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in other.state_dict().items()} == {k: v.shape for k, v in before.items()}
    optimizer = torch.optim.SGD(other.train().parameters(), 1.0)
    other.loss(other(*given), LABEL)["total"].backward()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    rotation = "layer.maps.value.rotation.parametrizations.weight.original"
    assert not torch.equal(other.state_dict()[rotation], before[rotation])


def test_a_whole_model_saves_and_loads_with_torch(tmp_path):
    model = small().eval()
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(model(*performances())["score"], loaded(*performances())["score"])


@pytest.mark.parametrize("fusion", ["mid"])  # which runs all that "late" does
def test_compiled_it_computes_and_learns_the_same(fusion):
    model, given = small(fusion=fusion, n_layers=1, n_joint=1), performances()
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    for one in (model, compiled):
        output = one(*given)
        model.loss(output, LABEL)["total"].backward()
    torch.testing.assert_close(compiled(*given)["score"], model(*given)["score"])
    for (name, ours), theirs in zip(model.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad, msg=lambda m, name=name: f"{name}: {m}")


# --- wrong input -------------------------------------------------------------------------------------------


def test_wrong_input_is_answered_with_what_to_give():
    model = small(max_len=7).eval()
    visual, audio = performances()
    with pytest.raises(ValueError, match="MBertLate wants visual and audio features; audio is not given"):
        model(visual)
    with pytest.raises(ValueError, match=r"audio is .*give MBertLate \(videos, clips, 10\)"):
        model(visual, audio[..., :5])
    with pytest.raises(ValueError, match="as many clips of each modality"):
        model(visual, audio[:, :5])
    with pytest.raises(ValueError, match="got 8 clips and knows 7 places; give max_len"):
        model(*performances(8))
    with pytest.raises(ValueError, match="one number per video"):
        model.loss(model(visual, audio), LABEL[:, None])
    with pytest.raises(ValueError, match="does not divide into 3 heads"):
        small(n_heads=3)
    with pytest.raises(ValueError, match="fusion is 'early'; give one of late, mid"):
        small(fusion="early")
    with pytest.raises(ValueError, match="rank is 0; give 1 or more"):
        small(rank=0)
