"""The fast ways are the slow ways: dropout and transformer layers, in value and gradient."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from mag2 import MLAVL, ActionGraphGuidance, TextFeatures
from mag2.fusion import make_decoder
from mag2.nn import transformer
from mag2.nn.dropout import dropout, kept
from mag2.nn.transformer import DecoderLayer, EncoderLayer

DIM, HEADS = 16, 4


# Dropout


@settings(deadline=None, max_examples=40)
@given(st.floats(0.0, 0.99), st.lists(st.integers(0, 6), max_size=3), st.integers(0, 2**31 - 1))
def test_dropout_is_a_product_with_its_mask_in_value_and_gradient(p, shape, seed):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(seed)
    dropped = dropout(x, p)
    torch.manual_seed(seed)
    mask, scale = kept(x.shape, p)
    expected = x * mask.double() * scale
    torch.testing.assert_close(dropped, expected)
    weight = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((y * weight).sum(), x)[0] for y in (dropped, expected))
    torch.testing.assert_close(ours, theirs)


def test_without_probability_or_training_it_is_the_same_tensor():
    x = torch.randn(3, 4)
    assert dropout(x, 0.0) is x
    assert dropout(x, 0.7, training=False) is x


def test_with_probability_one_nothing_is_left():
    x = torch.randn(3, 4, requires_grad=True)
    dropped = dropout(x, 1.0)
    assert not dropped.any()
    assert not torch.autograd.grad(dropped.sum(), x)[0].any()
    layer, _ = drawn_layer(EncoderLayer, rate=1.0)
    (rows,) = inputs(EncoderLayer)
    torch.testing.assert_close(layer(rows), layer.norm2(layer.norm1(rows)))


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="a probability from 0 to 1, got"):
        dropout(torch.zeros(2), p)


@pytest.mark.parametrize(
    ("p", "levels"),
    [(1e-6, 65536), (0.1, 65536), (0.2, 256), (0.3, 256), (0.5, 256), (0.9, 65536), (0.01, 65536), (1 - 1e-6, 65536)],
)
def test_the_expectation_is_the_input_exactly(p, levels):
    """The chance that the bits keep an element, times its factor: counted over all their values, and measured."""
    _, scale = kept((1,), p)
    dropped = min(max(round(levels * p), 1), levels - 1)
    assert scale * (levels - dropped) == pytest.approx(levels, rel=1e-15)
    assert abs(dropped / levels - p) <= max(0.005 * p, 2**-16)
    n = 1_000_000
    rate = (kept((n,), p)[0] == 0).double().mean().item()
    deviation = (p * (1 - p) / n) ** 0.5
    assert abs(rate - dropped / levels) < 5 * deviation + 1e-5


@pytest.mark.parametrize(("p", "numbers"), [(0.3, 8), (0.1, 4)])
def test_neighbours_are_dropped_independently(p, numbers):
    """Elements share a draw of the generator: their bits must not."""
    alive = kept((400_000,), p)[0].double().view(-1, numbers) - (1 - p)
    covariance = alive.T @ alive / len(alive)
    torch.testing.assert_close(covariance, p * (1 - p) * torch.eye(numbers, dtype=torch.float64), atol=6e-3, rtol=0)
    lagged = (alive[1:, 0] * alive[:-1, -1]).mean()
    assert abs(lagged) < 6e-3


def test_a_seed_repeats_it_and_another_does_not():
    x = torch.randn(1000)
    first, second, third = (torch.manual_seed(seed) and dropout(x, 0.5) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_dtype_stays(dtype):
    x = torch.ones(64, dtype=dtype)
    dropped = dropout(x, 0.5)
    assert dropped.dtype == dtype
    assert set(dropped.tolist()) == {0.0, 2.0}


def test_checkpointing_replays_it():
    x = torch.randn(5, 8, requires_grad=True)

    def step(x):
        return dropout(x.exp(), 0.4).square()

    torch.manual_seed(3)
    (expected,) = torch.autograd.grad(step(x).sum(), x)
    torch.manual_seed(3)
    (replayed,) = torch.autograd.grad(checkpoint(step, x, use_reentrant=False).sum(), x)
    torch.testing.assert_close(replayed, expected)


def test_vmap_drops_each_its_own_or_all_the_same():
    x = torch.ones(3, 200)
    own = torch.vmap(lambda row: dropout(row, 0.5), randomness="different")(x)
    same = torch.vmap(lambda row: dropout(row, 0.5), randomness="same")(x)
    assert not torch.equal(own[0], own[1])
    assert torch.equal(same[0], same[1])
    gradient = torch.vmap(torch.func.grad(lambda row: dropout(row, 0.5).sum()), randomness="different")(x)
    assert gradient.unique().tolist() == [0.0, 2.0]


def test_the_device_is_the_inputs_and_not_the_default():
    layer, _ = drawn_layer(EncoderLayer, rate=0.3)
    (rows,) = inputs(EncoderLayer)
    with torch.device("meta"):
        assert dropout(torch.ones(4, device="cpu"), 0.5).device.type == "cpu"
        assert layer(rows).device.type == "cpu"


def test_compiled_it_drops_as_much():
    torch.manual_seed(0)
    dropped = torch.compile(lambda x: dropout(x, 0.3), backend="aot_eager")(torch.ones(20_000))
    assert (dropped == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(dropped.max(), torch.tensor(256 / 179))


# Transformer layers


def drawn_layer(kind, rate=0.0):
    layer = kind(DIM, HEADS, 3 * DIM, rate).double()
    with torch.no_grad():
        for parameter in layer.parameters():  # biases and norms too, which start at 0 and 1
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs = nn.TransformerEncoderLayer if kind is EncoderLayer else nn.TransformerDecoderLayer
    slow = theirs(DIM, HEADS, 3 * DIM, rate, batch_first=True).double()
    slow.load_state_dict(layer.state_dict())
    return layer, slow


def inputs(kind, queries=5):
    x, memory = torch.randn(3, queries, DIM).double(), torch.randn(3, 7, DIM).double()
    return [x.requires_grad_()] if kind is EncoderLayer else [x.requires_grad_(), memory.requires_grad_()]


def assert_equal_in_value_and_gradient(fast, slow, given, parameters):
    torch.testing.assert_close(fast, slow)
    weight = torch.randn_like(slow)
    ours = torch.autograd.grad((fast * weight).sum(), [*given, *parameters[0]])
    theirs = torch.autograd.grad((slow * weight).sum(), [*given, *parameters[1]])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "queries"), [(EncoderLayer, 5), (DecoderLayer, 3), (DecoderLayer, 5)])
def test_a_layer_is_torchs_in_value_and_gradient(kind, queries, training, monkeypatch):
    """3 queries of 4 heads are fewer than 16 channels: the memory is not mapped; 5 are not."""
    layer, slow = drawn_layer(kind)
    given = inputs(kind, queries)
    expected = slow.train(training)(*given)
    monkeypatch.delattr(kind.__base__, "forward")
    fast = layer.train(training)(*given)
    parameters = list(layer.parameters()), list(slow.parameters())
    assert_equal_in_value_and_gradient(fast, expected, given, parameters)


@pytest.mark.parametrize(("kind", "queries"), [(EncoderLayer, 5), (DecoderLayer, 3), (DecoderLayer, 5)])
def test_with_dropout_a_layer_is_the_plain_formula_with_the_same_masks(kind, queries, monkeypatch):
    layer, _ = drawn_layer(kind, rate=0.4)
    given = inputs(kind, queries)
    masks = record_masks(monkeypatch)
    fast = layer(*given)
    assert len(masks) == (4 if kind is EncoderLayer else 6)
    slow = plain_layer(layer, given, iter(masks))
    parameters = list(layer.parameters()), list(layer.parameters())
    assert_equal_in_value_and_gradient(fast, slow, given, parameters)


def test_every_place_of_a_layer_drops_with_its_own_probability(monkeypatch):
    layer, _ = drawn_layer(DecoderLayer)
    asked = []
    monkeypatch.setattr(transformer, "kept", lambda shape, p: asked.append(p) or kept(shape, p))
    layer.self_attn.dropout, layer.multihead_attn.dropout = 0.1, 0.2
    for number, place in enumerate((layer.dropout1, layer.dropout2, layer.dropout, layer.dropout3), 3):
        place.p = number / 10
    layer(*inputs(DecoderLayer))
    assert asked == [0.1, 0.3, 0.2, 0.4, 0.5, 0.6]
    layer.dropout.eval()
    asked.clear()
    layer(*inputs(DecoderLayer))
    assert 0.5 not in asked


@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_a_layer_keeps_torchs_keys_and_survives_copies(kind):
    layer, slow = drawn_layer(kind)
    assert layer.state_dict().keys() == slow.state_dict().keys()
    given = inputs(kind)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(*given), layer(*given))


@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_a_hooked_or_exchanged_part_is_called_and_not_read(kind):
    layer, slow = drawn_layer(kind)
    given = inputs(kind)
    handle = layer.linear1.register_forward_hook(lambda module, args, output: output + 1)
    slow.linear1.register_forward_hook(lambda module, args, output: output + 1)
    torch.testing.assert_close(layer(*given), slow(*given))
    handle.remove()
    plain = layer(*given)
    layer.linear2 = nn.Sequential(layer.linear2, nn.Tanh())
    assert (layer(*given) - plain).abs().max() > 1e-3


def with_key_biases(layer):
    layer.self_attn = nn.MultiheadAttention(DIM, HEADS, 0.0, batch_first=True, add_bias_kv=True).double()


CHANGES = {
    "activation": lambda layer: setattr(layer, "activation", F.gelu),
    "norm first": lambda layer: setattr(layer, "norm_first", True),
    "key biases": with_key_biases,
    "no bias": lambda layer: setattr(layer, "linear2", nn.Linear(3 * DIM, DIM, bias=False).double()),
    "forward": lambda layer: setattr(layer.linear2, "forward", lambda rows: rows[..., :DIM]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_layer_that_was_changed_is_torchs_that_was_changed(change):
    layer, slow = drawn_layer(EncoderLayer)
    for one in (layer, slow):
        torch.manual_seed(0)
        change(one)
    (rows,) = inputs(EncoderLayer)
    torch.testing.assert_close(layer(rows), slow(rows))
    dropping, _ = drawn_layer(EncoderLayer, rate=0.3)
    change(dropping)
    assert dropping(rows).isfinite().all()


def test_a_memory_of_another_width_is_mapped_by_maps_of_its_own():
    layer, slow = drawn_layer(DecoderLayer)
    for one in (layer, slow):
        torch.manual_seed(0)
        one.multihead_attn = nn.MultiheadAttention(DIM, HEADS, 0.0, batch_first=True, kdim=8, vdim=8).double()
    rows, memory = torch.randn(3, 5, DIM).double(), torch.randn(3, 7, 8).double()
    torch.testing.assert_close(layer(rows, memory), slow(rows, memory))


@pytest.mark.parametrize("training", [True, False])
def test_no_video_at_all_is_a_batch_too(training):
    texts = TextFeatures.for_sport("figure_skating")
    decoder = make_decoder(256, 8, 1, 0.3).train(training)
    assert decoder(torch.zeros(0, 6, 256), torch.zeros(0, 9, 256)).shape == (0, 6, 256)
    assert decoder(torch.zeros(0, 60, 256), torch.zeros(0, 9, 256)).shape == (0, 60, 256)
    nothing = torch.zeros(0, 9, 8)
    assert MLAVL(texts, visual_dim=8, audio_dim=8).eval()(nothing, nothing)["score"].shape == (0,)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_a_traced_decoder_takes_another_batch():
    decoder = make_decoder(DIM, 2, 1, 0.3).eval()
    traced = torch.jit.trace(decoder, (torch.randn(2, 3, DIM), torch.randn(2, 7, DIM)), check_trace=False)
    queries, memory = torch.randn(5, 3, DIM), torch.randn(5, 9, DIM)
    torch.testing.assert_close(traced(queries, memory), decoder(queries, memory))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_torchs_encoder_may_nest_what_is_padded():
    layer, slow = drawn_layer(EncoderLayer)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]])
    (rows,) = inputs(EncoderLayer)
    with torch.no_grad():
        encoders = [nn.TransformerEncoder(one, 1).eval() for one in (layer, slow)]
        ours, theirs = (encoder(rows, src_key_padding_mask=padding) for encoder in encoders)
    torch.testing.assert_close(ours[~padding], theirs[~padding])


def test_masks_go_torchs_way():
    layer, slow = drawn_layer(EncoderLayer)
    (x,) = inputs(EncoderLayer)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[:, 3:] = True
    masked = layer(x, src_key_padding_mask=padding)
    torch.testing.assert_close(masked[:, :3], slow(x[:, :3]))
    decoder, slow = drawn_layer(DecoderLayer)
    x, memory = inputs(DecoderLayer)
    hidden = torch.zeros(3, 7, dtype=torch.bool)
    hidden[:, 4:] = True
    torch.testing.assert_close(decoder(x, memory, memory_key_padding_mask=hidden), slow(x, memory[:, :4]))


def test_half_precision_stays_close():
    decoder = make_decoder(DIM, HEADS, 2, 0.0)
    x, memory = torch.randn(3, 2, DIM), torch.randn(3, 7, DIM)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = decoder(x, memory)
    torch.testing.assert_close(half.float(), decoder(x, memory), atol=0.05, rtol=0.05)


def test_few_queries_make_no_tensor_as_large_as_the_mapped_memory():
    layer = DecoderLayer(64, 4, 64, 0.0)
    x, memory = torch.randn(2, 3, 64), torch.randn(2, 50, 64)
    with Largest() as seen:
        layer(x, memory)
    assert 0 < seen.size < memory.numel()


def small_mlavl(**sizes):
    texts = TextFeatures.for_sport("figure_skating")
    return MLAVL(texts, visual_dim=8, audio_dim=8, dim=DIM, n_heads=HEADS, **sizes)


def test_a_training_step_makes_no_tensor_of_all_pairs_of_repeated_texts():
    """Released: M texts repeated over the batch and compared, (B M)^2 distances."""
    model, batch, n_texts = small_mlavl(), 8, 42
    visual, audio, label = torch.randn(batch, 6, 8), torch.randn(batch, 6, 8), torch.rand(batch)
    with Largest() as seen:
        model.loss(model(visual, audio), label)["total"].backward()
    assert 0 < seen.size < (batch * n_texts) ** 2


def test_texts_are_projected_once_a_batch():
    model, seen = small_mlavl(), []
    model.owned_texts.projection.register_forward_hook(lambda module, given, output: seen.append(output.shape))
    model(torch.randn(5, 6, 8), torch.randn(5, 6, 8))
    assert seen == [(len(model.texts), DIM)]


@pytest.mark.parametrize("training", [True, False])
def test_mlavl_is_the_same_model_with_torchs_layers(training, monkeypatch):
    """In value and gradient: the model with the fast layers, and with all of them sent torch's way."""
    model = small_mlavl(dropout=0.0)
    visual, audio, label = torch.randn(3, 6, 8), torch.randn(3, 6, 8), torch.rand(3)
    model = model.double().train(training)

    def gradients():
        output = model(visual.double(), audio.double())
        model.loss(output, label.double())["total"].backward()
        found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        model.zero_grad()
        return output["score"], found

    state = copy.deepcopy(model.state_dict())
    fast = gradients()
    model.load_state_dict(state)
    monkeypatch.setattr(transformer, "_worth_it", lambda layer, x: False)
    slow = gradients()
    torch.testing.assert_close(fast[0], slow[0])
    for name in fast[1]:
        torch.testing.assert_close(fast[1][name], slow[1][name], msg=name)


def test_the_guide_drops_out_between_its_layers_alone(monkeypatch):
    guide = ActionGraphGuidance(DIM, dropout=0.4).double()
    clips, texts = torch.randn(2, 5, DIM).double(), torch.randn(7, DIM).double()
    torch.manual_seed(5)
    dropped = guide(clips, texts)
    torch.manual_seed(5)
    mask, scale = kept((2, 5, DIM // 2), 0.4)
    text_mask, _ = kept((7, DIM // 2), 0.4)
    n = 5 - 1 + 7
    one, two = guide.conv1, guide.conv2

    def clip_rows(conv, x, t):
        mean = (x.sum(dim=1, keepdim=True) - x + t.sum(dim=0)) / n
        return conv.lin_l(mean) + conv.lin_r(x)

    first = F.relu(clip_rows(one, clips, texts)) * mask * scale
    heard = F.relu(one.lin_l((texts.sum(dim=0) - texts) / 6) + one.lin_r(texts)) * text_mask * scale
    torch.testing.assert_close(dropped, clip_rows(two, first, heard))


def record_masks(monkeypatch):
    masks = []

    def recorded(shape, p):
        mask, scale = kept(shape, p)
        masks.append(mask * scale)
        return mask, scale

    monkeypatch.setattr(transformer, "kept", recorded)
    return masks


def plain_layer(layer, given, masks):
    """The layer as its papers have it, every dropout applied where it stands."""
    x = given[0]
    x = layer.norm1(x + plain_attention(layer.self_attn, x, x, masks) * next(masks))
    last = layer.norm2
    if isinstance(layer, DecoderLayer):
        x = layer.norm2(x + plain_attention(layer.multihead_attn, x, given[1], masks) * next(masks))
        last = layer.norm3
    wide = layer.linear1(x).relu() * next(masks)
    return last(x + layer.linear2(wide) * next(masks))


def plain_attention(mha, x, memory, masks):
    weights, biases = mha.in_proj_weight.chunk(3), mha.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(rows, weight, bias).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for rows, weight, bias in zip((x, memory, memory), weights, biases, strict=True)
    )
    shares = (q @ k.transpose(-1, -2) / (DIM // HEADS) ** 0.5).softmax(dim=-1)
    heard = (shares * next(masks).view(shares.shape)) @ v
    return mha.out_proj(heard.transpose(1, 2).flatten(2))


class Largest(TorchDispatchMode):
    """The elements of the largest tensor that was made meanwhile; views are not made."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returned = func(*args, **(kwargs or {}))
        if isinstance(returned, torch.Tensor) and not func.is_view:
            self.size = max(self.size, returned.numel())
        return returned
