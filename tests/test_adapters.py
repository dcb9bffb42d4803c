"""Texts and MAG2 go into the models of the field: into ours, and into any class with the places that they name.

The stand-ins are no copies: they have the attribute names, the state_dict keys and the calls of the released classes,
as the golden files list them, and the least in between that computes a score.
"""

import copy
import pickle
import threading
import warnings
from collections import namedtuple

import pytest
import torch
from torch import nn

from mag2 import ActionGraphGuidance, TextFeatures, attach, attached, detach, disabled, load_plugin, save_plugin
from mag2.adapters import cofinal, gdlt, pamfn, qtd
from mag2.adapters.queries import replace_queries
from mag2.baselines import GDLT, PAMFN, QTD, CoFInAl
from tests.golden import golden
from tests.test_plugin import assert_as_before, snapshot

# A PAMFN that fuses already gets guides here for their places, not for training; one test is of this sentence.
pytestmark = pytest.mark.filterwarnings("ignore:this PAMFN fuses trained branches:UserWarning")
BATCH, CLIPS, WIDTH = 3, 9, 32


def texts() -> TextFeatures:
    return TextFeatures.for_sport("rhythmic_gymnastics")


def clips(*shape, seed=1):
    return torch.randn(*(shape or (BATCH, CLIPS, WIDTH)), generator=torch.Generator().manual_seed(seed))


# --- classes that are not ours ---


def projection(in_dim, dim, between):
    first, second = nn.Conv1d(in_dim, between, 1), nn.Conv1d(between, dim, 1)
    return nn.Sequential(first, nn.BatchNorm1d(between), nn.ReLU(), second, nn.BatchNorm1d(dim))


class EncoderDecoder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        encoder = nn.TransformerEncoderLayer(dim, 1, 3 * dim, dropout=0.0, batch_first=True)
        decoder = nn.TransformerDecoderLayer(dim, 1, 3 * dim, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(encoder, 1, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, 2, nn.LayerNorm(dim))


class TheirGDLT(nn.Module):
    """GDLT as released: called with clips alone, a dict of output (B,) and embed."""

    def __init__(self, dim=WIDTH):
        super().__init__()
        self.in_proj = projection(WIDTH, dim, WIDTH // 2)
        self.transformer = EncoderDecoder(dim)
        self.prototype = nn.Embedding(4, dim)
        self.regressor = nn.Linear(dim, 4)

    def decoded(self, x):
        b = x.shape[0]
        x = self.in_proj(x.transpose(1, 2)).transpose(1, 2)
        queries = self.prototype.weight.unsqueeze(0).repeat(b, 1, 1)
        return self.transformer.decoder(queries, self.transformer.encoder(x))

    def forward(self, x):
        embed = self.decoded(x)
        shares = torch.sigmoid(torch.diagonal(self.regressor(embed), dim1=-2, dim2=-1))
        shares = shares / shares.sum(dim=1, keepdim=True)
        return {"output": shares @ torch.linspace(0, 1, 4), "embed": embed}


class TheirCoFInAl(TheirGDLT):
    """CoFInAl as released: the same places, and a fine head."""

    def __init__(self):
        super().__init__(dim=256)
        self.transformer.decoder.layers = self.transformer.decoder.layers[:1]
        self.regressor_revert = nn.Linear(256, 4)
        self.regressori = nn.ModuleList([nn.Sequential(nn.Flatten(), nn.Linear(4 * 256, 256), nn.Linear(256, 100))])
        self.regi = nn.ModuleList([nn.MultiheadAttention(256, 1)])
        self.register_buffer("etf_vec1", torch.eye(100))

    def forward(self, x):
        embed = self.decoded(x)
        coarse = torch.diagonal(self.regressor(embed), dim1=-2, dim2=-1).sigmoid().mean(dim=1)
        back = torch.diagonal(self.regressor_revert(embed), dim1=-2, dim2=-1).sigmoid().mean(dim=1)
        fine = self.regressori[0](self.regi[0](embed, embed, embed)[0]) @ self.etf_vec1
        return {"output": (coarse + 1 - back) / 2 + fine.mean(dim=1) / 10_000, "dec": fine, "embed": embed}


class TheirDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerDecoderLayer(WIDTH, 4, 1024, dropout=0.0, norm_first=True)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, tgt, memory, pos=None, query_pos=None):
        maps = []
        for layer in self.layers:
            tgt = layer(tgt if query_pos is None else tgt + query_pos, memory)
            maps.append(tgt)
        return self.norm(tgt), maps


class TheirPositions(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("pe", torch.zeros(1, 40, WIDTH))


class TheirTQN(nn.Module):
    """The neck of QTD as released: sequence-first, its decoder called with the positions that `pe` names."""

    def __init__(self, pe="no"):
        super().__init__()
        self.pe = pe
        self.query_embed = nn.Embedding(6, WIDTH)
        self.decoder = TheirDecoder()
        self.pos_encoder = TheirPositions()

    def forward(self, x):
        features = x.transpose(0, 1)
        query_embed = self.query_embed.weight.unsqueeze(1).repeat(1, x.shape[0], 1)
        positions = self.pos_encoder.pe[0, :, None]
        pos = positions[: len(features)] if "memory" in self.pe else None
        query_pos = positions[: len(query_embed)] if "query" in self.pe else None
        decoded, _ = self.decoder(query_embed, features, pos=pos, query_pos=query_pos)
        return decoded.transpose(0, 1)


class TheirStage(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv1d(dim, dim, 3, padding=1), nn.BatchNorm1d(dim))
        self.conv2 = nn.Sequential(nn.Conv1d(dim, dim, 3, padding=1), nn.BatchNorm1d(dim))

    def forward(self, x):
        return nn.functional.avg_pool1d(x + self.conv2(self.conv1(x)), 2)


class TheirBranch(nn.Module):
    def __init__(self, in_dim, dim):
        super().__init__()
        self.embedding = projection(in_dim, dim, 512)
        self.stage1, self.stage2, self.stage3 = (TheirStage(dim) for _ in range(3))
        self.fc = nn.Sequential(nn.Dropout(0.0), nn.Conv1d(dim, 1, 1))

    def forward(self, x):
        maps = [self.embedding(x.transpose(1, 2))]
        for stage in (self.stage1, self.stage2, self.stage3):
            maps.append(stage(maps[-1]))
        return torch.sigmoid(self.fc(maps[-1].mean(dim=2, keepdim=True))).flatten(1), maps


class TheirMixedStage(nn.Module):
    def __init__(self, dim):
        super().__init__()
        first, second = (nn.Conv1d(width, dim, 3, padding=1) for width in (3 * dim, dim))
        self.conv = nn.Sequential(first, nn.BatchNorm1d(dim), nn.GELU(), second, nn.BatchNorm1d(dim))
        self.short_cut = nn.Sequential(nn.Conv1d(3 * dim, dim, 1), nn.BatchNorm1d(dim))

    def forward(self, mixed, maps):
        mixed = nn.functional.avg_pool1d(self.conv(mixed) + self.short_cut(mixed), 2)
        return torch.cat([mixed, maps[0] + maps[1], maps[2]], dim=1)


class TheirPAMFN(nn.Module):
    """PAMFN as released: three branches, a mixed branch over their maps, a score (B, 1) and more."""

    def __init__(self, dim=16):
        super().__init__()
        self.model_r, self.model_f, self.model_a = TheirBranch(24, dim), TheirBranch(20, dim), TheirBranch(16, dim)
        self.stage1, self.stage2, self.stage3 = (TheirMixedStage(dim) for _ in range(3))
        self.fc = nn.Sequential(nn.Dropout(0.0), nn.Conv1d(3 * dim, dim // 2, 1), nn.BatchNorm1d(dim // 2))
        self.fc += nn.Sequential(nn.GELU(), nn.Dropout(0.0), nn.Conv1d(dim // 2, 1, 1))
        self.c = nn.Parameter(torch.zeros(3 * dim), requires_grad=False)

    def forward(self, rgb, flow, audio):
        maps = [branch(x)[1] for branch, x in ((self.model_r, rgb), (self.model_f, flow), (self.model_a, audio))]
        mixed = self.c[None, :, None].expand(len(rgb), -1, rgb.shape[1])
        for i, stage in enumerate((self.stage1, self.stage2, self.stage3)):
            mixed = stage(mixed, [branch[i + 1] for branch in maps])
        return torch.sigmoid(self.fc(mixed.mean(dim=2, keepdim=True))).flatten(1), maps


THREE = (clips(BATCH, 16, 24), clips(BATCH, 16, 20), clips(BATCH, 16, 16))
THEIRS = {
    "GDLT": (gdlt, TheirGDLT, (clips(),), lambda output: output["output"]),
    "CoFInAl": (cofinal, TheirCoFInAl, (clips(),), lambda output: output["output"]),
    "TQN": (qtd, TheirTQN, (clips(),), lambda output: output),
    "PAMFN": (pamfn, TheirPAMFN, THREE, lambda output: output[0]),
}
OURS = {
    "our GDLT": (gdlt, lambda: GDLT(in_dim=WIDTH, dim=WIDTH), (clips(),), lambda output: output["score"]),
    "our CoFInAl": (cofinal, lambda: CoFInAl(in_dim=WIDTH, dim=WIDTH), (clips(),), lambda output: output["score"]),
    "our QTD": (
        qtd,
        lambda: QTD(in_dim=WIDTH, dim=WIDTH, n_queries=6, n_heads=4),
        (clips(),),
        lambda output: output["score"],
    ),
    "our PAMFN": (
        pamfn,
        lambda: PAMFN(visual_dim=24, flow_dim=20, audio_dim=16, dim=16, n_kinds=2, ms_heads=2, cm_heads=2),
        (THREE[0], THREE[2], THREE[1]),
        lambda output: output["score"],
    ),
}
ALL = {**THEIRS, **OURS}
ROWS = {
    "+Texts": lambda adapter, model: adapter.with_texts(model, texts()),
    "+MAG2": lambda adapter, model: adapter.with_mag2(model, texts()),
    "+Texts+MAG2": lambda adapter, model: adapter.with_mag2(adapter.with_texts(model, texts()), texts()),
}
each_model = pytest.mark.parametrize("name", ALL)
each_row = pytest.mark.parametrize("row", ROWS)


@pytest.mark.parametrize(
    ("name", "case"),
    [("GDLT", "gdlt_dec2"), ("CoFInAl", "cofinal_arr3"), ("TQN", "qtd_tqn_no"), ("PAMFN", "pamfn_T20")],
)
def test_the_stand_ins_have_the_released_keys(name, case):
    released = golden(case).state_dict
    own = THEIRS[name][1]().state_dict()
    # The heart of PAMFN's mixed stages is nothing that an adapter touches.
    left = {key for key in released if name == "PAMFN" and ("fusion." in key or key == "tau")}
    assert released.keys() - left == own.keys()
    assert {key: value.shape for key, value in own.items()} == {key: released[key].shape for key in own}


@each_row
@each_model
def test_an_adapter_is_a_loan(name, row):
    adapter, make, inputs, score = ALL[name]
    model = make().eval()
    before, expected = snapshot(model), score(model(*inputs))
    assert ROWS[row](adapter, model) is model
    state = model.state_dict()
    assert [key for key in state if "mag2." not in key] == before["keys"]
    assert all(torch.equal(state[key], before["state"][key]) for key in before["keys"])
    guided = score(model(*inputs))
    assert row != "+MAG2" or guided.shape == expected.shape
    assert guided.shape != expected.shape or not torch.equal(guided, expected)
    with disabled(model):
        assert torch.equal(score(model(*inputs)), expected)
    assert torch.equal(score(model(*inputs)), guided)
    detach(model)
    assert_as_before(model, before)
    assert torch.equal(score(model(*inputs)), expected)


@each_row
@each_model
def test_a_row_of_the_table_travels_by_copy_by_pickle_and_by_folder(name, row, tmp_path):
    adapter, make, inputs, score = ALL[name]
    model = ROWS[row](adapter, make())
    model(*inputs)  # the BatchNorms have seen a batch
    expected = score(model.eval()(*inputs))
    save_plugin(model, tmp_path)
    loaded = load_plugin(detach(copy.deepcopy(model)), tmp_path)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        assert torch.equal(score(other(*inputs)), expected)
        assert [place.plug.describe(place.at) for place in attached(other)] == [
            place.plug.describe(place.at) for place in attached(model)
        ]
        detach(other)
        assert torch.equal(score(model(*inputs)), expected)
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in make().parameters()]


@each_row
@pytest.mark.parametrize("name", ["GDLT", "TQN", "our GDLT", "our QTD"])
def test_no_parameter_that_learns_is_left_without_a_gradient(name, row):
    adapter, make, inputs, score = ALL[name]
    model = ROWS[row](adapter, make()).train()
    score(model(*inputs)).square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's, of tensors between two graphs
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "PAMFN" else ()) for name in THEIRS]
)
def test_the_last_row_of_the_table_compiles(name):
    adapter, make, inputs, score = THEIRS[name]
    torch.compiler.reset()
    model = ROWS["+Texts+MAG2"](adapter, make().eval())
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(score(compiled(*inputs)), score(model(*inputs)))
    plain = score(detach(copy.deepcopy(model))(*inputs))
    detach(compiled)
    torch.testing.assert_close(score(compiled(*inputs)), plain)
    torch.compiler.reset()


class Heard:
    """What a module was called with, and what it returned."""

    def __init__(self, module):
        module.register_forward_hook(self, with_kwargs=True)

    def __call__(self, module, args, kwargs, output):
        self.args, self.kwargs, self.output = args, kwargs, output


@pytest.mark.parametrize("name", ["GDLT", "CoFInAl"])
def test_gdlt_and_cofinal_decode_guided_clips_from_as_many_grade_words_as_they_have_prototypes(name):
    adapter, make, inputs, _ = THEIRS[name]
    model = make().eval()
    projected = Heard(model.in_proj)
    adapter.with_mag2(adapter.with_texts(model, texts()), texts(), start="replace")
    decoder = Heard(model.transformer.decoder)
    model(*inputs)
    words, guide = (place.module for place in attached(model))
    queries, memory = decoder.args
    assert torch.equal(queries, words().expand_as(queries))
    assert torch.equal(words.texts, texts().with_grades(4).grades)
    with disabled(model):
        encoded = model.transformer.encoder(projected.output.transpose(1, 2))
    torch.testing.assert_close(memory, guide(encoded))
    assert torch.equal(guide.texts, texts().visual)


def test_tqn_reads_guided_clips_from_all_grade_words():
    model = TheirTQN().eval()
    decoder = Heard(model.decoder)
    qtd.with_mag2(qtd.with_texts(model, texts()), texts(), start="replace")
    features = model(clips())
    words, guide = (place.module for place in attached(model))
    queries, memory = decoder.args
    assert torch.equal(queries[:, 0], words())
    assert features.shape == (BATCH, texts().n_grades, WIDTH)
    torch.testing.assert_close(memory.transpose(0, 1), guide(clips()))


def test_texts_take_the_positions_and_the_noise_off_the_queries_of_qtd_until_they_leave():
    model = QTD(in_dim=WIDTH, dim=WIDTH, n_queries=6, n_heads=4, query_var=2.0)
    qtd.with_texts(model, texts())
    assert (model.query_positions, model.query_var) == (False, 1.0)
    with disabled(model):
        assert (model.query_positions, model.query_var) == (True, 2.0)
    assert (model.query_positions, model.query_var) == (False, 1.0)
    with disabled(model):
        detach(model)
    assert (model.query_positions, model.query_var) == (True, 2.0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("own", "with_texts"),
    [("query_pe", "no"), ("query_memory_pe", "memory_pe"), ("memory_pe", "memory_pe"), ("no", "no")],
)
def test_texts_take_the_positions_off_the_queries_of_the_authors_class_too(own, with_texts):
    model = TheirTQN(own).eval()
    model.pos_encoder.pe.normal_()
    decoder = Heard(model.decoder)
    plain = model(clips())
    qtd.with_texts(model, texts())
    guided = model(clips())
    assert model.pe == with_texts
    assert decoder.kwargs["query_pos"] is None
    assert (decoder.kwargs["pos"] is None) == ("memory" not in own)
    with disabled(model):
        assert model.pe == own
        assert torch.equal(model(clips()), plain)
        other = copy.deepcopy(model)
    assert model.pe == with_texts
    assert torch.equal(other(clips()), guided)
    assert (model.pe, other.pe) == (with_texts, with_texts)
    detach(model)
    assert model.pe == own
    assert torch.equal(model(clips()), plain)


def test_texts_whose_embedding_was_exchanged_leave_the_settings_as_they_found_them_and_say_so():
    model = qtd.with_texts(TheirTQN("query_pe"), texts())
    model.query_embed = nn.Embedding(6, WIDTH)
    with pytest.warns(UserWarning, match="went away with its embedding, which was exchanged"):
        model(clips())
    assert model.pe == "query_pe"
    model = qtd.with_texts(TheirTQN("query_pe"), texts())
    model.query_embed = nn.Embedding(6, WIDTH)
    detach(model)
    assert model.pe == "query_pe"
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_settings_are_plain_values_and_replace_nothing_else():
    model = TheirGDLT()
    replace_queries(model, texts(), "prototype", settings={"forward": "x", "regressor": 1, "nothing": 2})
    assert isinstance(model.regressor, nn.Linear)
    assert callable(model.forward)
    assert not hasattr(model, "nothing")


def test_every_branch_of_pamfn_hears_its_own_texts():
    model = TheirPAMFN().eval()
    stages = {name: Heard(getattr(model, name).stage1) for name in ("model_r", "model_f", "model_a")}
    plain = {name: getattr(model, name).embedding for name in stages}
    with pytest.warns(UserWarning, match="attach them before the branches are trained"):
        pamfn.with_mag2(model, texts(), start="replace")
    model(*THREE)
    places = {place.at: place.module for place in attached(model)}
    assert list(places) == ["model_r.embedding", "model_f.embedding", "model_a.embedding"]
    for name, features in zip(stages, THREE, strict=True):
        module = places[f"{name}.embedding"]
        assert torch.equal(module.texts, texts().audio if name == "model_a" else texts().visual)
        with disabled(model):
            embedded = plain[name](features.transpose(1, 2))
        torch.testing.assert_close(stages[name].args[0], module(embedded.transpose(1, 2)).transpose(1, 2))


def test_a_pamfn_that_fuses_already_is_said_not_to_train_the_guides_of_video_and_flow():
    sentence = "the guides in model_r and model_f do not train; attach them before the branches are trained"
    with pytest.warns(UserWarning, match=sentence):
        pamfn.with_mag2(TheirPAMFN(), texts())
    ours = OURS["our PAMFN"][1]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pamfn.with_mag2(copy.deepcopy(ours), texts())
    ours.start_fusion()
    with pytest.warns(UserWarning, match=sentence):
        pamfn.with_mag2(ours, texts())


def test_guides_that_are_attached_before_the_branches_of_pamfn_are_trained_do_train():
    _, make, inputs, _ = OURS["our PAMFN"]
    model = pamfn.with_mag2(make(), texts()).train()
    for name, branch in model.branches.items():
        features = dict(zip(("visual", "audio", "flow"), inputs, strict=True))[name]
        branch(**{name: features})["score"].sum().backward()
    for place in attached(model):
        assert place.module.conv1.lin_l.weight.grad.any()
    model.zero_grad()
    model.start_fusion()
    model(*inputs)["score"].sum().backward()
    grads = {place.at: place.module.conv1.lin_l.weight.grad for place in attached(model)}
    assert grads["model_r.embedding"] is grads["model_f.embedding"] is None
    assert grads["model_a.embedding"].any()


def test_texts_of_pamfn_say_so_where_the_stage_that_they_grade_was_exchanged():
    model = pamfn.with_texts(TheirPAMFN(), texts(), dim=16, n_heads=2, n_layers=1)
    before = set(model.state_dict())
    model.stage1 = TheirMixedStage(16)
    with pytest.raises(RuntimeError, match="has no features to grade: 'stage1' was exchanged, or the model did not"):
        model(*THREE)
    detach(model)
    model(*THREE)
    assert set(model.state_dict()) < before


def test_threads_that_run_one_pamfn_grade_each_its_own_videos():
    model = pamfn.with_texts(TheirPAMFN().eval(), texts(), dim=16, n_heads=2, n_layers=1)
    batches = [[features + number for features in THREE] for number in range(4)]
    expected = [model(*batch)[0] for batch in batches]
    found = {}

    def run(number):
        found[number] = [model(*batches[number])[0] for _ in range(10)]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(each, expected[number]) for number in range(4) for each in found[number])


Scored = namedtuple("Scored", "score more")


class Returning(nn.Module):
    """A PAMFN whose score comes out in another shape."""

    def __init__(self, shaped):
        super().__init__()
        inner = TheirPAMFN()
        self.stage1, self.fc, self.inner, self.shaped = inner.stage1, inner.fc, inner, shaped

    def forward(self, *inputs):
        return self.shaped(self.inner(*inputs)[0])


@pytest.mark.parametrize(
    ("shaped", "score"),
    [
        (lambda score: score, lambda output: output),
        (lambda score: [score.flatten(), 1], lambda output: output[0][:, None]),
        (lambda score: {"score": score.flatten(), "more": 1}, lambda output: output["score"][:, None]),
        (lambda score: Scored(score.flatten(), 1), lambda output: output.score[:, None]),
    ],
)
def test_pamfn_hears_a_second_opinion_wherever_its_score_is(shaped, score):
    model = Returning(shaped).eval()
    own, stage = score(model(*THREE)), Heard(model.stage1)
    pamfn.with_texts(model, texts(), dim=16, n_heads=2, n_layers=1)
    output = model(*THREE)
    (place,) = attached(model)
    opinion = place.module(stage.output.transpose(1, 2))
    torch.testing.assert_close(score(output), 0.5 * own + 0.5 * opinion[:, None])
    assert type(output) is type(shaped(own))


def test_a_pamfn_whose_stage_ran_alone_can_be_copied():
    model = pamfn.with_texts(Returning(lambda score: score).eval(), texts(), dim=16, n_heads=2, n_layers=1)
    expected = model(*THREE)
    seen = []
    handle = model.stage1.register_forward_hook(lambda module, args, output: seen.append(args))
    model(*THREE)
    handle.remove()
    model.stage1(*seen[0])
    torch.testing.assert_close(copy.deepcopy(model)(*THREE), expected)


def lacking(model, name):
    delattr(model, name)
    return model


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: gdlt.with_texts(lacking(TheirGDLT(), "prototype"), texts()), "no submodule 'prototype'"),
        (lambda: gdlt.with_mag2(lacking(TheirGDLT(), "transformer"), texts()), "no submodule 'transformer.encoder'"),
        (lambda: cofinal.with_texts(cofinal.with_texts(TheirGDLT(), texts()), texts()), "'prototype' already; detach"),
        (lambda: gdlt.with_mag2(gdlt.with_mag2(TheirGDLT(), texts()), texts()), "sits there already; detach the model"),
        (lambda: qtd.with_mag2(qtd.with_mag2(TheirTQN(), texts()), texts()), "sits there already; detach the model"),
        (lambda: pamfn.with_mag2(pamfn.with_mag2(TheirPAMFN(), texts()), texts()), "sits there already"),
        (lambda: pamfn.with_texts(pamfn.with_texts(TheirPAMFN(), texts()), texts()), "sits there already"),
        (lambda: pamfn.with_texts(TheirGDLT(), texts()), "no submodule 'fc.1'"),
        (
            lambda: pamfn.with_texts(Returning(lambda score: {"probs": score}), texts())(*THREE),
            "mixes into the entry 'score' of a dict; this one has 'probs'",
        ),
        (lambda: qtd.with_mag2(nn.ModuleDict({"query_embed": nn.Linear(2, 2)}), texts()), "read off an nn.Embedding"),
        (lambda: qtd.with_texts(nn.ModuleDict({"query_embed": nn.Linear(2, 2)}), texts()), "the place of an nn.Emb"),
    ],
)
def test_a_model_without_the_places_says_so_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("branch", ["model_r", "model_f", "model_a"])
def test_a_pamfn_that_lacks_a_branch_stays_as_it_was(branch):
    model = lacking(TheirPAMFN(), branch)
    before = snapshot(model)
    with pytest.raises(ValueError, match=branch):
        pamfn.with_mag2(model, texts())
    assert_as_before(model, before)


def test_pamfn_is_guided_in_all_branches_or_in_none():
    """A branch that is guided already is named, and the other two stay as they were."""
    model = PAMFN(visual_dim=6, flow_dim=5, audio_dim=4, dim=8, n_kinds=3)
    texts = TextFeatures.for_sport("figure_skating")
    attach(model.model_f, ActionGraphGuidance(8, texts.visual), at="embedding", layout="bdt")
    before = list(model.state_dict())
    with pytest.raises(ValueError, match=r"on the output of 'model_f\.embedding' sits there already"):
        pamfn.with_mag2(model, texts)
    assert list(model.state_dict()) == before
