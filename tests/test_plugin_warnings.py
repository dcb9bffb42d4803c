"""Never silently wrong: a guide without effect, or on the wrong axes, says so once."""

import copy
import json
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import mag2
from mag2 import attach, attached, detach, disabled, load_plugin, save_plugin
from mag2.nn.transformer import EncoderLayer
from tests.test_plugin import (
    BATCH,
    CLIPS,
    DIM,
    Decoder,
    Marked,
    Scorer,
    assert_as_before,
    clips,
    guide,
    snapshot,
    trained,
)


@pytest.fixture
def quiet():
    """No warning at all inside the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def said(call, *arguments):
    """The warnings of a call, as text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments)
    return [str(each.message) for each in caught if each.category is UserWarning]


# --- a place that never runs ---


class Blocks(nn.Module):
    """A model with places that are not called as module(...)."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(DIM, DIM), nn.Linear(DIM, DIM))
        self.layer = nn.ModuleList([nn.Linear(DIM, DIM)])
        self.named = nn.ModuleDict({"first": nn.Linear(DIM, DIM)})
        self.by_forward, self.by_weight = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.attention = nn.MultiheadAttention(DIM, 2, batch_first=True)
        self.head = nn.Linear(DIM, 1)
        self.grad_checkpointing = False

    def forward_features(self, x):
        if self.grad_checkpointing and self.training:
            x = checkpoint_sequential(self.blocks, 2, x, use_reentrant=False)
        else:
            x = self.blocks(x)
        for layer in (*self.layer, *self.named.values()):
            x = layer(x)
        x = nn.functional.linear(self.by_forward.forward(x), self.by_weight.weight)
        return self.attention(x, x, x)[0]

    def forward(self, x):
        return self.head(self.forward_features(x).mean(dim=1)).squeeze(1)


@pytest.mark.parametrize(
    ("make", "at", "sentence"),
    [
        (Blocks, "layer", "would never run: a ModuleList is gone through and not called; attach to its items"),
        (Blocks, "named", "would never run: a ModuleDict is gone through and not called"),
        (Blocks, "attention.out_proj", "reads the weights of its out_proj and does not call it"),
        (lambda: nn.ModuleList([nn.Linear(DIM, DIM)]), "", "a ModuleList is gone through"),
        (lambda: nn.TransformerEncoderLayer(DIM, 2, DIM), "self_attn.out_proj", "and does not call it"),
        (lambda: torch.export.export(Scorer().eval(), (clips(),)).module(), "encoder", "attach before torch.export"),
        (nn.Module, "", "a Module has no forward; attach to a part that is called"),
    ],
)
def test_a_place_that_can_be_known_never_to_run_is_refused(make, at, sentence):
    model = make()
    before = [len(part._modules) for part in model.modules()]
    with pytest.raises(ValueError, match=sentence) as caught:
        attach(model, guide(), at=at)
    assert "\n" not in str(caught.value)
    assert [len(part._modules) for part in model.modules()] == before


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*deprecated")
def test_scripted_parts_are_refused():
    model = Scorer()
    model.encoder = torch.jit.script(model.encoder)
    for at in ("encoder", "encoder.0"):
        with pytest.raises(ValueError, match=r"attach before torch\.jit\.script"):
            attach(model, guide(), at=at)


@pytest.mark.parametrize("at", ["by_forward", "by_weight"])
def test_a_guide_that_is_not_called_while_its_model_runs_says_so_once_and_when_it_is_saved(at, tmp_path):
    model = attach(Blocks().eval(), guide(), at=at)
    (sentence,) = said(model, clips())
    assert sentence.startswith(
        f"ActionGraphGuidance on the output of '{at}' was not called while its model ran in eval"
    )
    assert said(model, clips()) == []
    assert "never called" in repr(attached(model)[0])
    (sentence,) = said(save_plugin, model, tmp_path)
    assert "is saved and was never called, while its model was" in sentence


def test_a_guide_that_runs_in_evaluation_and_not_in_training_says_so():
    model = attach(Blocks().eval(), guide(), at="blocks")
    model.grad_checkpointing = True
    assert said(model, clips()) == []
    (sentence,) = said(model.train(), clips())
    assert "was not called while its model ran in training mode, so it guided nothing" in sentence
    assert said(model, clips()) == said(model.eval(), clips()) == []


def test_a_guide_whose_model_is_called_by_another_method_is_shown_never_to_have_run_and_warned_of_in_training(tmp_path):
    model = attach(Blocks(), guide(), at="")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step():
        model.forward_features(clips()).sum().backward()
        optimizer.step()

    assert "never called" in repr(attached(model)[0])
    (sentence,) = said(step)
    assert "is trained and was never called" in sentence
    assert "`forward_features`" in sentence
    assert said(step) == []
    (sentence,) = said(save_plugin, model, tmp_path)
    assert "never called" in sentence


def test_of_several_guides_the_one_that_never_ran_is_named_when_they_are_saved(tmp_path):
    model = attach(Scorer().eval(), [guide(), guide()], at=["encoder", "encoder.0"])
    model.encoder.__dict__["forward"] = lambda x: torch.relu(model.encoder[1](model.encoder[0](x)))
    model.encoder[0].__dict__["forward"] = lambda x: x
    model.encoder(clips())
    assert said(save_plugin, model, tmp_path / "both") == []
    other = copy.deepcopy(model)
    other.encoder[0](clips())
    (sentence,) = said(save_plugin, other, tmp_path / "one")
    assert sentence == (
        "ActionGraphGuidance on the output of 'encoder' is saved and was never called, while others ran"
    )


class Dropped(nn.Module):
    """A model that leaves its part out in every other call, as layer drop does."""

    def __init__(self):
        super().__init__()
        self.part, self.turn = nn.Linear(DIM, DIM), 0

    def forward(self, x):
        self.turn += 1
        return self.part(x) if self.turn % 2 else x


@pytest.mark.usefixtures("quiet")
def test_a_guide_that_runs_now_and_then_is_no_reason_to_warn():
    model = attach(Dropped().eval(), guide(), at="part")
    for _ in range(4):
        model(clips())
    assert attached(model)[0].plug.calls == 2


@pytest.mark.usefixtures("quiet")
def test_nothing_is_said_of_guides_that_run_are_disabled_or_were_just_attached(tmp_path):
    model = attach(Scorer(), guide(dropout=0.0), at="encoder")
    save_plugin(model, tmp_path)
    with disabled(model):
        model(clips())
    trained(model)
    checkpoint(model.train(), clips(), use_reentrant=False).sum().backward()
    for other in (copy.deepcopy(model), load_plugin(detach(copy.deepcopy(model)), tmp_path)):
        trained(other)
        save_plugin(other, tmp_path)
    with torch.no_grad():
        model.train()(clips())


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("which", ["whole", "part", "in place", "around"])
def test_nothing_is_said_of_guides_in_compiled_code(which, tmp_path):
    torch.compiler.reset()
    model = attach(Scorer(), guide(dropout=0.0), at="encoder")
    call = model
    if which == "whole":
        call = torch.compile(model, backend="eager")
    elif which == "part":
        model.encoder = torch.compile(model.encoder, backend="eager")
    elif which == "in place":
        model.compile(backend="eager")
    else:
        call = torch.compile(lambda features: 2 * model(features), backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        call(clips()).sum().backward()
        optimizer.step()
        with torch.no_grad():
            call(clips())
    model.eval()
    call(clips())
    save_plugin(model, tmp_path)
    torch.compiler.reset()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("layer", ["torch", "mag2"])
@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("at", ["", "self_attn", "linear1", "linear2", "norm1", "norm2", "dropout", "dropout2"])
def test_a_guide_inside_an_encoder_layer_runs_in_evaluation_as_in_training(at, side, layer):
    # torch's fast path reads weights and calls nothing.
    made = (
        nn.TransformerEncoderLayer(DIM, 2, DIM, dropout=0.0, batch_first=True)
        if layer == "torch"
        else EncoderLayer(DIM, 2, DIM, dropout=0.0)
    )
    item = 0 if (at, side) == ("self_attn", "output") else None
    attach(made, guide(dropout=0.0), at=at, side=side, item=item)
    plug = attached(made)[0].plug
    trained = made.train()(clips())
    with torch.inference_mode():
        evaluated = made.eval()(clips())
    assert plug.calls == 2
    with disabled(made), torch.inference_mode():
        assert not torch.allclose(made(clips()), evaluated)
    assert trained.shape == evaluated.shape


# --- an optimizer that does not know the guide ---


def steps(model, optimizer, count=1):
    for _ in range(count):
        model(clips()).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_an_optimizer_built_before_attach_is_said_not_to_move_the_guide_once(kind):
    model = Scorer()
    optimizer = kind(model.parameters(), lr=0.01)
    attach(model, guide(), at="encoder")
    (sentence,) = said(steps, model, optimizer, 4)
    assert "gets gradients and no optimizer moves it: an optimizer that was built before `attach`" in sentence
    assert said(steps, model, optimizer, 4) == []


def test_an_optimizer_built_before_load_plugin_is_said_not_to_move_the_guide(tmp_path):
    save_plugin(attach(Scorer(), guide(), at="encoder"), tmp_path)
    model = Scorer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    load_plugin(model, tmp_path)
    assert len(said(steps, model, optimizer, 1)) == 1


def test_an_optimizer_of_a_copy_is_no_optimizer_of_the_original():
    model = attach(Scorer(), guide(), at="encoder")
    other = copy.deepcopy(model)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.01)
    (sentence,) = said(steps, model, optimizer, 4)
    assert "no optimizer moves it" in sentence


@pytest.mark.usefixtures("quiet")
def test_nothing_is_said_of_optimizers_that_know_the_guide():
    model = attach(Scorer(), guide(), at="encoder")
    steps(model, torch.optim.SGD(model.parameters(), lr=0.01), 4)
    # Two optimizers, of which one has its turn rarely.
    model = attach(Scorer(), module := guide(), at="encoder")
    theirs = {id(parameter) for parameter in module.parameters()}
    often = torch.optim.SGD([p for p in model.parameters() if id(p) not in theirs], lr=0.01)
    rarely = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(2):
        steps(model, often, 5)
        rarely.step()
    # One that was told of the guide later.
    model = Scorer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    attach(model, module := guide(), at="encoder")
    optimizer.add_param_group({"params": list(module.parameters())})
    steps(model, optimizer, 4)


@pytest.mark.usefixtures("quiet")
def test_nothing_is_said_of_an_optimizer_that_works_on_copies_and_writes_them_back():
    model = attach(Scorer(), guide(), at="encoder")
    masters = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(masters, lr=0.01)
    for _ in range(5):
        model(clips()).square().sum().backward()
        for master, parameter in zip(masters, model.parameters(), strict=True):
            master.grad = parameter.grad
        optimizer.step()
        with torch.no_grad():
            for master, parameter in zip(masters, model.parameters(), strict=True):
                parameter.copy_(master)


def test_an_optimizer_that_works_on_copies_without_the_guide_is_noticed():
    model = Scorer()
    masters = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(masters, lr=0.01)
    attach(model, guide(), at="encoder")
    (sentence,) = said(steps, model, optimizer, 5)
    assert "no optimizer moves it" in sentence


def test_a_guide_that_is_frozen_after_it_was_attached_says_so_once():
    model = attach(Scorer(), guide(), at="encoder")
    for parameter in model.parameters():  # as get_peft_model does
        parameter.requires_grad = False
    model.head.requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    (sentence,) = said(steps, model, optimizer, 3)
    assert "trains nothing: all its parameters were frozen after it was attached" in sentence
    assert "0 of 215 parameters train" in repr(attached(model)[0])


def test_a_guide_that_is_frozen_after_it_was_trained_says_so_too():
    model = attach(Scorer(), guide(), at="encoder")
    steps(model, torch.optim.SGD(model.parameters(), lr=0.01), 3)
    attached(model)[0].module.requires_grad_(False)
    assert len(said(model, clips())) == 1


@pytest.mark.usefixtures("quiet")
def test_nothing_is_said_of_a_guide_that_was_frozen_before():
    model = attach(Scorer(), guide().requires_grad_(False), at="encoder")
    steps(model, torch.optim.SGD(model.parameters(), lr=0.01), 4)


# --- layouts ---


def decoder_stack(batch_first):
    return nn.TransformerDecoder(nn.TransformerDecoderLayer(DIM, 2, DIM, batch_first=batch_first), 1)


def encoder_stack(batch_first):
    layer = nn.TransformerEncoderLayer(DIM, 2, DIM, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


def whole_transformer(batch_first):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nested tensors
        return nn.Transformer(DIM, 2, 1, 1, DIM, batch_first=batch_first)


TOLD = {
    "encoder layer": (lambda first: nn.TransformerEncoderLayer(DIM, 2, DIM, batch_first=first), {}),
    "decoder layer": (lambda first: nn.TransformerDecoderLayer(DIM, 2, DIM, batch_first=first), {}),
    "attention": (lambda first: nn.MultiheadAttention(DIM, 2, batch_first=first), {"item": 0}),
    "input of attention": (lambda first: nn.MultiheadAttention(DIM, 2, batch_first=first), {"side": "input"}),
    "encoder": (encoder_stack, {}),
    "decoder": (decoder_stack, {"side": "input", "item": 1}),
    "transformer": (whole_transformer, {}),
    "lstm": (lambda first: nn.LSTM(DIM, DIM, batch_first=first), {"item": 0}),
    "gru": (lambda first: nn.GRU(DIM, DIM, batch_first=first), {"item": 0}),
    "rnn": (lambda first: nn.RNN(DIM, DIM, batch_first=first), {"side": "input"}),
    "in a Sequential": (lambda first: nn.Sequential(nn.Identity(), encoder_stack(first)), {}),
}


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize(("batch_first", "layout", "fits"), [(False, "btd", "tbd"), (True, "tbd", "btd")])
def test_a_layout_that_mixes_videos_is_warned_of_where_the_module_says_so_itself(name, batch_first, layout, fits):
    make, options = TOLD[name]
    module, other = make(batch_first), make(batch_first)
    (sentence,) = said(lambda: attach(module, guide(), at="", layout=layout, **options))
    assert f"batch_first={batch_first}" in sentence
    assert f"a guide would mix videos; attach with layout='{fits}'" in sentence
    assert said(lambda: attach(other, guide(), at="", layout=fits, **options)) == []


@pytest.mark.usefixtures("quiet")
def test_a_layout_is_not_warned_of_for_what_a_model_or_a_guide_does_inside():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.dim = nn.LSTM(DIM, DIM), DIM

        def forward(self, clips):
            return self.lstm(clips.transpose(0, 1))[0].transpose(0, 1)

    attach(Inner(), Inner(), at="")
    attach(nn.Linear(DIM, DIM), Inner(), at="")


def test_a_warned_layout_would_indeed_mix_videos():
    layer = nn.TransformerEncoderLayer(DIM, 2, DIM, dropout=0.0).eval()
    features = clips().transpose(0, 1)
    other = features.clone()
    other[:, 1:] += 1  # other videos in the same batch
    right = attach(copy.deepcopy(layer), guide(), at="", layout="tbd").eval()
    torch.testing.assert_close(right(features)[:, 0], right(other)[:, 0])
    with pytest.warns(UserWarning, match="would mix videos"):
        wrong = attach(layer, guide(), at="").eval()
    assert not torch.allclose(wrong(features)[:, 0], wrong(other)[:, 0])


# --- rough edges: one sentence that says what to do ---


class Video(nn.Module):
    def __init__(self, axes):
        super().__init__()
        self.axes, self.part = axes, nn.Identity()

    def forward(self, clips):
        shape = {4: (BATCH, DIM, CLIPS, 2), 5: (BATCH, DIM, CLIPS, 2, 2), 2: (BATCH, DIM)}[self.axes]
        return torch.zeros(shape)


class Packed(nn.Module):
    def forward(self, clips):
        return pack_padded_sequence(clips, torch.tensor([5, 4, 3]), batch_first=True)


class Misshapen(Decoder):
    pass


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: attach(Scorer(), guide(), at="encoder", item=0)(clips()),
            r"picks 0 from an output of several parts, and this output is one tensor \(3, 5, 8\); leave item= out",
        ),
        (lambda: attach(Scorer(), guide(), at="encoder", item="last_hidden_state")(clips()), "leave item= out"),
        (
            lambda: attach(Packed(), guide(), at="")(clips()),
            r"got a PackedSequence; attach it behind torch\.nn\.utils\.rnn\.pad_packed_sequence",
        ),
        (
            lambda: attach(Video(5), guide(), at="")(clips()),
            r"three axes, got shape \(3, 8, 5, 2, 2\); flatten time and space into one axis first.*layout='bdt'",
        ),
        (lambda: attach(Video(4), guide(), at="")(clips()), r"flatten time and space .*layout='bdt'"),
        (lambda: attach(Video(2), guide(), at="")(clips()), r"wants features of three axes, got shape \(3, 8\)$"),
        (lambda: attach(Scorer(), guide(), at=None), "at= is the path of a submodule, .*, got a NoneType"),
        (lambda: attach(Scorer(), guide(), at=7), "at= is the path of a submodule, .*, got a int"),
        (lambda: attach(Scorer(), guide(), at=nn.Linear(2, 2)), "for example, got a Linear$"),
        (lambda: attach(Scorer(), guide(), at=["encoder", None]), "got a NoneType"),
        (lambda: attach_by_module(), "got a Sequential, which stands at 'encoder'"),
        (
            lambda: attach(Decoder(), guide(), at="", side="input", item=1, mask="memory_key_padding_mask")(
                1, clips(), memory_key_padding_mask=torch.ones(2, 2, dtype=torch.bool)
            ),
            r"ActionGraphGuidance on the input\[1\] of 'the model itself' wants a mask of shape \(3, 5\), got \(2, 2\)",
        ),
        (
            lambda: attach(Decoder(), guide(), at="", side="input", item=1, padding_mask="memory_key_padding_mask")(
                1, clips(), memory_key_padding_mask=[True]
            ),
            "on the input.* wants a tensor as its mask, got a list",
        ),
    ],
)
def test_rough_edges_are_named_with_what_to_do(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


def attach_by_module():
    model = Scorer()
    attach(model, guide(), at=model.encoder)


@pytest.mark.parametrize("value", [None, 7, "x", True, [1], {"a": 1}, 1.5])
@pytest.mark.parametrize(
    "keys",
    [
        ("plugs",),
        ("plugs", 0),
        ("plugs", 0, "at"),
        ("plugs", 0, "in"),
        ("plugs", 0, "kind"),
        ("plugs", 0, "config"),
        ("plugs", 0, "config", "side"),
        ("plugs", 0, "config", "layout"),
        ("plugs", 0, "config", "item"),
        ("plugs", 0, "config", "mask"),
        ("plugs", 0, "config", "start"),
        ("plugs", 0, "guide"),
        ("guides",),
        ("guides", 0),
        ("guides", 0, "kind"),
        ("guides", 0, "config"),
        ("guides", 0, "config", "dim"),
        ("guides", 0, "config", "hidden"),
        ("guides", 0, "config", "dropout"),
        ("guides", 0, "config", "convolution"),
        ("guides", 0, "config", "control"),
        ("guides", 0, "config", "owned_texts"),
        ("guides", 0, "config", "owned_texts", "prompts"),
        ("frozen",),
        ("frozen", 0),
        ("format",),
        ("mag2",),
        ("model",),
        ("sha256",),
    ],
    ids=lambda keys: ".".join(map(str, keys)),
)
def test_values_of_wrong_types_in_the_json_are_one_sentence_or_the_same_plugin(keys, value, tmp_path):
    model = trained(attach(Scorer(), guide(), at="encoder", freeze=True))
    save_plugin(model, tmp_path)
    about = json.loads((tmp_path / "plugin.json").read_text())
    entry = about
    for key in keys[:-1]:
        entry = entry[key]
    if keys == ("frozen", 0):
        entry.clear()
        entry.append(value)
    else:
        entry[keys[-1]] = value
    (tmp_path / "plugin.json").write_text(json.dumps(about))
    fresh = detach(copy.deepcopy(model))
    before = snapshot(fresh)
    refused = None
    try:
        load_plugin(fresh, tmp_path)
    except ValueError as error:
        refused = str(error)
    if refused is not None:
        assert "\n" not in refused
        assert_as_before(fresh, before)
    # A name or a position is known to be wrong only when there is an output.
    elif keys[-1] == "item" and value in (7, "x"):
        with pytest.raises(ValueError, match="leave item= out"):
            fresh(clips())
    else:
        assert fresh(clips()).shape == (BATCH,)


# --- what is attached, and what trains ---


def test_attached_prints_the_place_how_it_enters_what_trains_and_how_often_it_ran():
    model = attach(Scorer().eval(), guide(), at="encoder")
    text = "ActionGraphGuidance on the output of 'encoder' (residual; 215 of 215 parameters train; {})"
    assert repr(attached(model)[0]) == text.format("never called")
    model(clips())
    assert repr(attached(model)[0]) == text.format("called once")
    model(clips())
    assert repr(attached(model)[0]) == text.format("called 2 times")
    attached(model)[0].module.requires_grad_(False)
    with disabled(model):
        assert repr(attached(model)[0]).endswith("0 of 215 parameters train; called 2 times; disabled)")


def test_the_trainable_share_prints_as_peft_does(capsys):
    model = attach(Scorer(), guide(), at="encoder", freeze=True)
    mag2.print_trainable_parameters(model)
    every = sum(parameter.numel() for parameter in model.parameters())
    assert capsys.readouterr().out == (
        f"trainable params: 215 || all params: {every} || trainable%: {100 * 215 / every:.4f} "
        f"|| attached and trainable: 215\n"
    )
    mag2.print_trainable_parameters(nn.Identity())
    assert capsys.readouterr().out.startswith("trainable params: 0 || all params: 0 || trainable%: 0.0000")


def test_one_guide_in_two_places_is_counted_once(capsys):
    mag2.print_trainable_parameters(attach(Scorer(), guide(), at=["encoder", "encoder.0"], freeze=True))
    assert capsys.readouterr().out.rstrip().endswith("attached and trainable: 215")


def test_hooks_that_were_registered_before_see_features_without_guidance():
    model, seen = Scorer().eval(), []
    model.encoder.register_forward_hook(lambda *call: seen.append(call[-1]))
    attach(model, Marked(), at="encoder", start="replace")
    model.encoder.register_forward_hook(lambda *call: seen.append(call[-1]))
    model(clips())
    assert torch.equal(2 * seen[0], seen[1])


def test_apply_reaches_a_guide_as_every_part():
    model = attach(Scorer(), guide(), at="encoder")

    def init(part):
        if hasattr(part, "weight"):
            nn.init.zeros_(part.weight)

    model.apply(init)
    assert not attached(model)[0].module.conv1.lin_l.weight.any()
