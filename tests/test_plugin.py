"""Attach is a loan: the base keeps what it has, the guide travels with it, and detach hands it back."""

import copy
import io
import pickle
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from mag2 import MLAVL, ActionGraphGuidance, TextFeatures, attach, attached, detach, disabled

DIM, CLIPS, BATCH = 8, 5, 3
BACKENDS = ["eager", "aot_eager"]


class Scorer(nn.Module):
    """A model of somebody's own."""

    def __init__(self, dim=DIM):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dim, dim), nn.BatchNorm1d(CLIPS), nn.ReLU())
        self.head = nn.Linear(dim, 1)

    def forward(self, clips):
        return self.head(self.encoder(clips).mean(dim=1)).squeeze(1)


def clips(*shape, **kwargs):
    return torch.randn(*(shape or (BATCH, CLIPS, DIM)), generator=torch.Generator().manual_seed(1), **kwargs)


def guide(dim=DIM, **options):
    return ActionGraphGuidance(dim, clips(4, 6), **options)


def snapshot(model):
    """All that detach has to give back."""
    return {
        "state": {key: value.clone() for key, value in model.state_dict().items()},
        "keys": list(model.state_dict()),
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "modules": list(model.named_modules()),
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "attributes": {name: set(vars(m)) for name, m in model.named_modules()},
        "modes": [m.training for m in model.modules()],
        "types": [type(m) for m in model.modules()],
    }


def assert_as_before(model, before):
    after = snapshot(model)
    torch.testing.assert_close(after.pop("state"), before["state"], atol=0, rtol=0)
    assert after == {key: value for key, value in before.items() if key != "state"}


# --- a loan ---


def is_plugs(name):
    return "mag2" in name.split(".")


def test_attach_leaves_the_keys_and_values_of_the_base_and_adds_its_own_under_mag2():
    model = Scorer()
    before = snapshot(model)
    assert attach(model, guide(), at="encoder") is model
    state = model.state_dict()
    assert [key for key in state if not is_plugs(key)] == before["keys"]
    assert any(key.startswith("encoder.mag2.on_output.guide.") for key in state)
    assert all(torch.equal(state[key], before["state"][key]) for key in before["keys"])
    assert type(model) is Scorer


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("start", ["replace", "residual", "identity"])
def test_detach_gives_back_outputs_keys_values_requires_grad_and_modules(start, freeze):
    model = Scorer().eval()
    model.head.bias.requires_grad_(False)
    before, expected = snapshot(model), model(clips())
    attach(model, guide(), at="encoder", start=start, freeze=freeze)
    assert (start == "identity") == torch.equal(model(clips()), expected)
    assert detach(model) is model
    assert_as_before(model, before)
    assert torch.equal(model(clips()), expected)


def test_detach_takes_out_what_lives_in_parts_of_the_model_and_what_was_frozen_in_any_order():
    model = nn.ModuleDict({"a": Scorer(), "b": Scorer()})
    before = snapshot(model)
    attach(model["a"], guide(), at="encoder", freeze=True)
    attach(model, guide(), at="b.encoder", freeze=True)
    attach(model["b"], guide(), at="encoder", side="input")
    assert [place.at for place in attached(model)] == ["a.encoder", "b.encoder", "b.encoder"]
    detach(model)
    assert_as_before(model, before)


def test_freezing_stops_the_base_and_lets_the_guide_learn():
    model = attach(Scorer(), guide(), at="encoder", freeze=True)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning
    assert all(map(is_plugs, learning))
    model(clips()).sum().backward()
    assert all((p.grad is not None) == is_plugs(name) for name, p in model.named_parameters())


def test_a_second_attach_that_freezes_leaves_the_first_guide_learning():
    model = attach(Scorer(), first := guide(), at="encoder.0")
    attach(model, guide(), at="encoder", freeze=True)
    assert all(parameter.requires_grad for parameter in first.parameters())
    assert not any(p.requires_grad for name, p in model.encoder.named_parameters() if not is_plugs(name))


def test_a_guide_replaces_the_features_is_added_to_them_or_starts_as_the_identity():
    base = Scorer().eval()
    features = base.encoder(clips())
    model = attach(copy.deepcopy(base), module := guide(), at="encoder", start="replace")
    assert torch.equal(model(clips()), base.head(module(features).mean(dim=1)).squeeze(1))
    model = attach(copy.deepcopy(base), module := guide(), at="encoder", start="residual")
    assert torch.equal(model(clips()), base.head((features + module(features)).mean(dim=1)).squeeze(1))
    model = attach(copy.deepcopy(base), guide(), at="encoder", start="identity").train()
    assert torch.equal(model(clips()), base.train()(clips()))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(2):
        model(clips()).square().sum().backward()
        optimizer.step()
    assert not torch.allclose(model.eval()(clips()), detach(copy.deepcopy(model))(clips()))
    assert all(
        parameter.grad is not None and parameter.grad.any() for parameter in attached(model)[0].module.out.parameters()
    )


def test_disabled_is_the_base_inside_and_the_guided_model_after_even_if_it_fails():
    base = Scorer().eval()
    model = attach(copy.deepcopy(base), guide(), at="encoder")
    guided = model(clips())
    with disabled(model) as same:
        assert same is model
        assert torch.equal(model(clips()), base(clips()))
        with disabled(model):
            pass
        assert not attached(model)[0].enabled
    assert torch.equal(model(clips()), guided)
    with pytest.raises(RuntimeError), disabled(model):
        model(clips(3, 5, 7))
    assert torch.equal(model(clips()), guided)
    assert not torch.allclose(guided, base(clips()))


def test_attached_lists_what_sits_where():
    model = attach(Scorer(), guide(), at="encoder")
    attach(model, guide(), at="head", side="input", start="identity")
    attach(model.encoder, guide(), at="0", mask=None)
    assert [repr(place) for place in attached(model)] == [
        "ActionGraphGuidance on the output of 'encoder' (residual; 215 of 215 parameters train; never called)",
        "ActionGraphGuidance on the input of 'head' (identity; 287 of 287 parameters train; never called)",
        "ActionGraphGuidance on the output of 'encoder.0' (residual; 215 of 215 parameters train; never called)",
    ]
    assert attached(Scorer()) == []


class Operations(TorchDispatchMode):
    """Counts what a model asks torch to do."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def test_a_disabled_or_detached_guide_asks_torch_for_nothing():
    model = Scorer().eval()

    def operations():
        with Operations() as counted:
            model(clips())
        return counted.names

    base = operations()
    attach(model, guide(), at="encoder")
    assert len(operations()) > len(base)
    with disabled(model):
        assert operations() == base
    detach(model)
    assert operations() == base
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# --- any module ---


def test_one_guide_for_several_paths_is_shared_and_a_list_has_one_for_each():
    model = attach(Scorer(), shared := guide(), at=("encoder.0", "encoder"), start="replace")
    assert [place.module for place in attached(model)] == [shared, shared]
    model = attach(Scorer(), [guide(), guide()], at=["encoder.0", "encoder"])
    assert len({place.module for place in attached(model)}) == 2
    model = attach(Scorer(), guide(), at=["encoder.0", "encoder"], start="identity")
    assert len({place.module for place in attached(model)}) == 1


@pytest.mark.parametrize("names", [["encoder", "head"], ["encoder.0"], [""]])
def test_a_sequential_stays_a_sequential(names):
    base = nn.Sequential(OrderedDict(encoder=nn.Sequential(nn.Linear(DIM, DIM)), head=nn.Linear(DIM, DIM)))
    model, modules = copy.deepcopy(base), [guide().eval() for _ in names]
    attach(model.eval(), modules, at=names, start="replace")
    heard = dict(zip(names, modules, strict=True))
    expected = clips()
    for name, layer in (("encoder.0", base.encoder[0]), ("encoder", None), ("head", base.head), ("", None)):
        expected = expected if layer is None else layer(expected)
        expected = heard[name](expected) if name in heard else expected
    assert torch.equal(model(clips()), expected)
    with disabled(model):
        assert torch.equal(model(clips()), base(clips()))
    assert torch.equal(detach(model)(clips()), base(clips()))
    assert len(model) == len(base)
    assert list(model.state_dict()) == list(base.state_dict())


class Marked(nn.Module):
    """Doubles what it is given, and remembers its shape."""

    dim = DIM

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.masks = []

    def forward(self, clips, clip_mask=None):
        assert clips.shape[-1] == DIM
        self.masks.append(clip_mask)
        return clips * self.scale


@pytest.mark.parametrize("side", ["output", "input"])
@pytest.mark.parametrize(("layout", "axes"), [("btd", (0, 1, 2)), ("bdt", (0, 2, 1)), ("tbd", (1, 0, 2))])
def test_features_of_any_layout_come_to_the_guide_as_clips_and_go_on_as_they_were(layout, axes, side):
    model = nn.Sequential(nn.Identity(), nn.Identity())
    features = clips().permute(axes)
    attach(model, Marked(), at="1", side=side, layout=layout, start="replace")
    assert torch.equal(model(features), 2 * features)


Pair = namedtuple("Pair", ["features", "length"])


@dataclass(frozen=True)
class Output:
    features: torch.Tensor
    length: int


@pytest.mark.parametrize(
    ("make", "item", "read"),
    [
        (lambda x: (x, 5), 0, lambda y: y[0]),
        (lambda x: [5, x], -1, lambda y: y[1]),
        (lambda x: {"features": x, "length": 5}, "features", lambda y: y["features"]),
        (lambda x: OrderedDict(length=5, features=x), "features", lambda y: y["features"]),
        (lambda x: Pair(x, 5), 0, lambda y: y.features),
        (lambda x: Pair(x, 5), "features", lambda y: y.features),
        (lambda x: Output(x, 5), "features", lambda y: y.features),
    ],
)
def test_an_output_of_several_parts_keeps_its_type_and_its_other_parts(make, item, read):
    class Part(nn.Module):
        def forward(self, x):
            self.made = make(x)
            return self.made

    part = Part()
    output = attach(part, Marked(), at="", item=item, start="replace")(clips())
    assert type(output) is type(part.made)
    assert torch.equal(read(output), 2 * clips())
    assert torch.equal(read(part.made), clips())
    assert str(5) in str(output)


class Decoder(nn.Module):
    def forward(self, queries, memory, *, pos=None, memory_key_padding_mask=None):
        return queries, memory, memory_key_padding_mask


@pytest.mark.parametrize("item", [1, "memory"])
@pytest.mark.parametrize("by_name", [False, True])
def test_an_argument_is_found_by_name_or_position_however_it_is_given(item, by_name):
    model = attach(Decoder(), Marked(), at="", side="input", item=item, start="replace")
    queries, memory, _ = model(1, memory=clips()) if by_name else model(1, clips())
    assert queries == 1
    assert torch.equal(memory, 2 * clips())
    with pytest.raises(ValueError, match="sits there already"):
        attach(model, Marked(), at="", side="input", item="memory" if item == 1 else 1)


def test_masks_come_from_the_call_whether_they_mark_clips_or_padding():
    real = torch.tensor([[True, True, False, False, False]]).expand(BATCH, -1)
    module = Marked()
    model = attach(Decoder(), module, at="", side="input", item=1, padding_mask="memory_key_padding_mask")
    model(1, clips(), memory_key_padding_mask=~real)
    model(1, clips(), memory_key_padding_mask=torch.zeros(BATCH, CLIPS).masked_fill(~real, float("-inf")))
    model(1, clips())
    assert [mask if mask is None else mask.tolist() for mask in module.masks] == [real.tolist()] * 2 + [None]
    module = Marked()
    model = attach(Decoder(), module, at="", side="input", item=1, mask="memory_key_padding_mask")
    model(1, clips(), memory_key_padding_mask=real.int())
    assert torch.equal(module.masks[0], real)


def test_padding_of_a_transformer_encoder_does_not_change_what_is_guided():
    layer = nn.TransformerEncoderLayer(DIM, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    attach(encoder, guide(), at="", padding_mask="src_key_padding_mask")
    padding = torch.zeros(BATCH, CLIPS + 2, dtype=torch.bool)
    padding[:, CLIPS:] = True
    padded = torch.cat([clips(), 9 * torch.ones(BATCH, 2, DIM)], dim=1)
    guided = encoder(padded, src_key_padding_mask=padding)[:, :CLIPS]
    torch.testing.assert_close(guided, encoder(clips()))


# --- what a wrap must survive ---


def trained(model):
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        model(clips()).square().sum().backward()
        optimizer.step()
    return model.eval()


def by_copy(model):
    return copy.deepcopy(model)


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


def by_torch_save(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_state(model):
    other = attach(Scorer(), guide(), at="encoder").eval()
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize("travel", [by_copy, by_pickle, by_torch_save, by_state])
def test_a_guided_model_travels_and_arrives_apart(travel):
    model = trained(attach(Scorer(), guide(), at="encoder", freeze=travel is not by_state))
    expected = model(clips())
    other = travel(model)
    assert torch.equal(other(clips()), expected)
    with torch.no_grad():
        for parameter in attached(other)[0].module.parameters():
            parameter.zero_()
    assert not torch.allclose(other(clips()), expected)
    assert torch.equal(model(clips()), expected)
    detach(other)
    assert torch.equal(model(clips()), expected)
    assert all(parameter.requires_grad for parameter in other.parameters())
    assert not any(m._forward_hooks for m in other.modules())
    with disabled(model):
        assert torch.equal(other(clips()), model(clips()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("first", ["attach", "cast"])
def test_a_guide_follows_the_type_of_its_model(dtype, first):
    model = Scorer().to(dtype) if first == "cast" else Scorer()
    attach(model, guide(), at="encoder", start="identity")
    model.to(dtype).eval()
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model(clips(dtype=torch.float32).to(dtype)).dtype is dtype


def test_a_guide_follows_the_mode_of_its_model():
    model = attach(Scorer().eval(), module := guide(dropout=0.5), at="encoder")
    assert not module.training
    assert torch.equal(model(clips()), model(clips()))
    model.train()
    assert module.training
    assert not torch.equal(model(clips()), model(clips()))


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(model, backend):
    return torch.compile(model, backend=backend)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("when", ["before", "after", "after it ran"])
def test_compiled_before_or_after_a_guided_model_says_the_same_until_it_is_detached(when, backend):
    base = Scorer().eval()
    plain, module = base(clips()), guide(dropout=0.0)
    expected = attach(copy.deepcopy(base), copy.deepcopy(module), at="encoder")(clips())
    if when == "before":
        model = compiled(attach(base, module, at="encoder"), backend)
    else:
        model = compiled(base, backend)
        if when == "after it ran":
            torch.testing.assert_close(model(clips()), plain)
        assert attach(model, module, at="encoder") is model
    torch.testing.assert_close(model(clips()), expected)
    with disabled(model):
        torch.testing.assert_close(model(clips()), plain)
    torch.testing.assert_close(model(clips()), expected)
    assert len(attached(model)) == 1
    detach(model)
    torch.testing.assert_close(model(clips()), plain)
    assert attached(model) == []
    assert not any(map(is_plugs, model.state_dict()))


@pytest.mark.usefixtures("fresh_compiler")
def test_a_guided_model_compiles_into_one_graph_and_learns_as_it_does_uncompiled():
    model = attach(Scorer(), guide(dropout=0.0), at="encoder")
    other = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    for each in (model, other):
        each(clips()).square().sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad)


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_part_of_a_model_is_a_place_under_its_own_name():
    model = Scorer().eval()
    plain = model(clips())
    model.encoder = torch.compile(model.encoder, backend="eager")
    attach(model, guide(), at=("encoder.0", "encoder"))
    assert [place.at for place in attached(model)] == ["encoder.0", "encoder"]
    assert not torch.allclose(model(clips()), plain)
    torch.testing.assert_close(detach(model)(clips()), plain)


def test_an_mlavl_exports_with_any_number_of_videos_and_clips():
    texts = TextFeatures.for_sport("rhythmic_gymnastics")
    model = MLAVL(texts, visual_dim=12, audio_dim=10, dim=16, n_heads=2, n_fusion=1, n_grading=1).eval()
    batch, length = torch.export.Dim("batch", min=2, max=64), torch.export.Dim("length", min=2, max=512)
    shapes = {name: {0: batch, 1: length} for name in ("visual", "audio")}
    exported = torch.export.export(
        model, (clips(3, 6, 12), clips(3, 6, 10)), dynamic_shapes=shapes, strict=True
    ).module()
    for n, t in ((3, 6), (5, 9)):
        visual, audio = clips(n, t, 12), clips(n, t, 10)
        torch.testing.assert_close(exported(visual, audio), model(visual, audio))


def test_a_guided_model_exports():
    model = attach(Scorer().eval(), guide(), at="encoder", start="identity")
    exported = torch.export.export(model, (clips(),)).module()
    torch.testing.assert_close(exported(clips()), model(clips()))


def test_gradient_checkpointing_gives_the_same_gradients():
    model = attach(Scorer(), guide(dropout=0.0), at="encoder")
    other = copy.deepcopy(model)
    model(clips()).square().sum().backward()
    checkpoint(other, clips(), use_reentrant=False).square().sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad)


def test_functional_call_reaches_the_base_and_the_guide():
    model = trained(attach(Scorer(), guide(), at="encoder"))
    other = attach(Scorer(), guide(), at="encoder").eval()
    state = dict(model.state_dict())
    assert torch.equal(torch.func.functional_call(other, state, (clips(),)), model(clips()))

    def loss(parameters):
        return torch.func.functional_call(other, {**state, **parameters}, (clips(),)).square().sum()

    gradients = torch.func.grad(loss)({name: p.detach() for name, p in model.named_parameters()})
    model.zero_grad()
    model(clips()).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


# --- one plain sentence ---


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.mag2 = nn.Linear(2, 2)


class Shrinking(nn.Module):
    def forward(self, clips):
        return clips[:, 1:]


def twice(at="encoder", **options):
    return attach(attach(Scorer(), guide(), at="encoder"), guide(), at=at, **options)


def parallel():
    model = Scorer()
    wrapped = nn.DataParallel.__new__(nn.DataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = model
    return wrapped


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: attach(Scorer(), guide(), at="encodr"), r"Scorer has no submodule 'encodr'; it has 'encoder'"),
        (lambda: attach(Scorer(), guide(), at="zzz"), r"no submodule 'zzz'; it has 'encoder', 'encoder.0', .*'head'"),
        (lambda: attach(Scorer(), guide(), at=("encoder", "x")), r"no submodule 'x'"),
        (lambda: attach(Scorer(), guide(), at="encoder", side="left"), "unknown side 'left'; there are output, input"),
        (
            lambda: attach(Scorer(), guide(), at="encoder", layout="bct"),
            "unknown layout 'bct'; there are btd, bdt, tbd",
        ),
        (
            lambda: attach(Scorer(), guide(), at="encoder", start="zero"),
            "unknown start 'zero'; there are residual, identity, replace",
        ),
        (
            lambda: attach(Scorer(), guide(), at="encoder", start="Residuals"),
            "unknown start 'Residuals'; there are residual, identity, replace; the nearest is residual",
        ),
        (
            lambda: attach(Scorer(), guide(), at="encoder", start=None),
            "unknown start None; there are residual, identity, replace$",
        ),
        (twice, "ActionGraphGuidance on the output of 'encoder' sits there already; detach the model first"),
        (lambda: attach(Scorer(), guide(), at=("encoder", "encoder")), "sits there already"),
        (lambda: attach(twice_in_part().encoder, guide(), at=""), "on the output of 'encoder' sits there already"),
        (lambda: attach(Scorer(), [guide()], at=("encoder", "head")), "2 places want one guide or as many, got 1"),
        (lambda: attach(Scorer(), guide(), at=()), "0 places want one guide or as many, got 0"),
        (lambda: attach(Scorer(), "guide", at="encoder"), "a guide is an nn.Module from clips to clips, got a str"),
        (
            lambda: attach(Scorer(), nn.Identity(), at="encoder", start="identity"),
            "start='identity' wants the width of the guide; give Identity a `dim`",
        ),
        (lambda: attach(Wide(), guide(), at=""), "an attribute 'mag2' of its own"),
        (lambda: attach(parallel(), guide(), at="module.encoder"), "attach to the model, then wrap it"),
        (
            lambda: attach(Decoder(), guide(), at="", side="input", item="features"),
            "item='features' is no argument of that Decoder; it takes 'queries', 'memory', 'pos', 'memory_key",
        ),
        (
            lambda: attach(Decoder(), guide(), at="", mask=7),
            "mask=7 is no argument of that Decoder; it takes 'queries'",
        ),
        (lambda: attach(Decoder(), guide(), at="", mask=0, padding_mask=1), "give mask=0 or padding_mask=1"),
        # When the model is called.
        (lambda: attach(Scorer(), guide(6), at="encoder")(clips()), r"6 wide, .* are 8 wide; build the guide 8 wide"),
        (
            lambda: attach(Scorer(), guide(), at="encoder", layout="bdt")(clips()),
            r"is 8 wide, with layout 'bdt' the features \(3, 5, 8\) are 5 wide; layout 'btd' or 'tbd' would fit",
        ),
        (lambda: attach(Scorer(), guide(), at="head")(clips()), r"three axes, got shape \(3, 1\)"),
        (lambda: attach(Decoder(), guide(), at="")(1, 2), r"got a tuple of 0, 1, 2; say which with item="),
        (
            lambda: attach(Decoder(), guide(), at="", item=3)(1, 2),
            r"the output is a tuple of 0, 1, 2; no 3 among them",
        ),
        (lambda: attach(Decoder(), guide(), at="", item="x")(1, 2), r"a tuple of 0, 1, 2; no 'x' among them"),
        (lambda: attach(Decoder(), guide(), at="", side="input")("a", 2), "wants a tensor there, got a str"),
        (
            lambda: attach(nn.Identity(), guide(), at="", side="input")(input=clips(3, 5, 6)),
            r"build the guide 6 wide",
        ),
        (lambda: attach(Loose(), guide(), at="", side="input", item="z")(1, y=2), "the names 'y'; no 'z' among them"),
        (
            lambda: attach(Scorer(), Shrinking(), at="encoder", start="replace")(clips()),
            r"keeps the shape of clips .* made shape",
        ),
        (
            lambda: attach(Scorer(), ActionGraphGuidance(DIM), at="encoder")(clips()),
            r"owns no texts: call it with texts \(M, d\), or build it with texts",
        ),
    ],
)
def test_what_does_not_fit_says_so_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


class Loose(nn.Module):
    def forward(self, *args, **kwargs):
        return args


def twice_in_part():
    return attach(Scorer(), guide(), at="encoder")


def test_what_does_not_fit_leaves_the_model_as_it_was():
    model = Scorer()
    before = snapshot(model)
    for at, options in ((("encoder", "nowhere"), {}), (("encoder", "encoder"), {}), ("encoder", {"mask": "no"})):
        with pytest.raises(ValueError, match=r"has no submodule|sits there|is no argument"):
            attach(model, guide(), at=at, freeze=True, **options)
        assert_as_before(model, before)


def test_one_place_has_two_sides_and_an_output_has_several_items():
    model = attach(Scorer(), guide(), at="encoder.0")
    attach(model, guide(), at="encoder.0", side="input")
    assert len(attached(model)) == 2
    pair = attach(Decoder(), Marked(), at="", item=0)
    attach(pair, Marked(), at="", item=1)
    first, second, _ = pair(clips(), clips())
    assert torch.equal(first, second)


def test_a_loss_goes_down_through_a_frozen_base():
    model = attach(Scorer(), guide(dropout=0.0), at="encoder", freeze=True)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(15):
        loss = F.mse_loss(model(clips()), torch.tensor([0.0, 0.5, 1.0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


class Outer(nn.Module):
    """A wrapper that hands on what it does not have, as PEFT's do."""

    def __init__(self, base):
        super().__init__()
        self.base = base

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def forward(self, clips):
        return self.base(clips)


def test_a_wrapper_that_hands_on_is_not_taken_for_what_it_wraps():
    base = Scorer()
    before = snapshot(base)
    outer = Outer(attach(base, guide(), at="encoder"))
    assert [place.at for place in attached(outer)] == ["base.encoder"]
    attach(outer, guide(), at="base.encoder.0")
    assert {place.at for place in attached(outer)} == {"base.encoder", "base.encoder.0"}
    detach(outer)
    assert_as_before(base, before)


def test_a_guide_is_of_the_precision_of_its_place():
    model = Scorer()
    model.encoder.bfloat16()
    model.encoder[1] = nn.Identity()
    attach(model, guide(), at="encoder")
    assert {parameter.dtype for parameter in attached(model)[0].module.parameters()} == {torch.bfloat16}
    assert model.encoder(clips().bfloat16()).dtype == torch.bfloat16


def test_what_hangs_on_a_part_is_not_saved_with_the_whole(tmp_path):
    texts = TextFeatures.for_sport("figure_skating")
    model = MLAVL(texts, visual_dim=8, audio_dim=8, dim=16, n_heads=2)
    attach(model.grading, nn.Linear(16, 16), at="decoder")
    with pytest.raises(ValueError, match="something is attached to this MLAVL"):
        model.save_pretrained(tmp_path / "saved")


class Named(OrderedDict):
    """An output that is read by name and by position, as those of Hugging Face models are."""

    def __getitem__(self, key):
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


def test_a_dict_that_is_read_by_position_is_written_by_position():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(DIM, DIM)

        def forward(self, rows):
            return Named(hidden=self.linear(rows), other=1)

    model = Model()
    plain = model(clips())["hidden"]
    attach(model, nn.Tanh(), at="", item=0, start="replace")
    output = model(clips())
    assert list(output) == ["hidden", "other"]
    torch.testing.assert_close(output["hidden"], plain.tanh())


def test_a_mask_wants_a_guide_that_takes_one():
    encoder = nn.TransformerEncoderLayer(DIM, 2, DIM, batch_first=True)
    with pytest.raises(ValueError, match="takes no clip_mask; leave the mask out"):
        attach(encoder, nn.Linear(DIM, DIM), at="", padding_mask="src_key_padding_mask")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_features_are_refused_with_the_switch_that_helps():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(DIM, 2, DIM, batch_first=True), 2).eval()
    attach(encoder, guide(), at="layers.0")
    padding = torch.zeros(BATCH, CLIPS, dtype=torch.bool)
    padding[:, -1] = True
    with torch.no_grad():
        with pytest.raises(ValueError, match="set `use_nested_tensor = False` on the nn"):
            encoder(clips(), src_key_padding_mask=padding)
        encoder.use_nested_tensor = False
        assert encoder(clips(), src_key_padding_mask=padding).isfinite().all()
