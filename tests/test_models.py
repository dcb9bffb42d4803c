"""What every model of the library keeps: MLAVL and its designs, the models of the field, and these with MAG2 in them.

What one model alone does stands in its own file, beside the numbers of its released code.
"""

import copy
import inspect
import json
import pickle

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

from mag2 import attached, detach, load_plugin, save_plugin
from mag2.projection import TokenProjection
from tests.models import ADAPTERS, BATCH, CLIPS, MODELS, ROWS, WIDTHS, features, labels

SAVED = [name for name, model in MODELS.items() if model.saves]
MASKED = [name for name, model in MODELS.items() if model.masks]
each = pytest.mark.parametrize("name", MODELS)
each_saved = pytest.mark.parametrize("name", SAVED)
each_masked = pytest.mark.parametrize("name", MASKED)
# One of each class and plug: what costs more than a few milliseconds is not tried on every design.
KINDS = (
    *("MLAVL", "MLAVL residual", "MLAVL dual transformer", "MLAVL learned prompts", "GDLT", "CoFInAl"),
    *("QTD query_memory", "PAMFN", "ModalityBranch", "SkatingMixer", "MBertLate mid", "SGN"),
    *(f"{name} +Texts+MAG2" for name in ADAPTERS),
)
each_kind = pytest.mark.parametrize("name", KINDS)
HALF = {torch.bfloat16: 0.05, torch.float16: 0.02}


def on(device, tensors, dtype=None):
    return [tensor.to(device, dtype) for tensor in tensors]


def run(model, inputs, **options):
    """The output of a call whose draws are the same every time."""
    torch.manual_seed(7)
    return model(*inputs, **options)


def terms_of(model, output, device="cpu"):
    torch.manual_seed(7)
    return model.loss(output, labels(len(output["score"])).to(device))


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []


def reading(name):
    """The numbers of the inputs that a model reads."""
    return [number for number, modality in enumerate(WIDTHS) if modality in MODELS[name].reads]


@each_kind
@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_features_that_are_no_floating_point_numbers_are_refused_in_one_sentence(name, kind):
    model = MODELS[name].build().eval()
    advice = "give real numbers" if kind in (torch.bool, torch.complex64) else r"\.float\(\) makes them of integers"
    with pytest.raises(ValueError, match=rf"is a tensor of \w+; features are floating-point numbers: .*{advice}$"):
        model(*(each.to(kind) for each in features()))


# --- output, loss and gradient ---


@each
def test_the_entries_of_the_output_and_the_terms_of_the_loss_are_those_it_documents(name, device):
    case = MODELS[name]
    model, inputs = case.build().to(device), on(device, features())
    for training, extra, more in ((False, set(), set()), (True, case.teacher, case.aligned)):
        output = run(model.train(training), inputs)
        assert set(output) == case.entries | extra
        assert output["score"].shape == (BATCH,)
        terms = terms_of(model, output, device)
        assert set(terms) == case.terms | more | {"total"}
        assert {term.shape for term in terms.values()} == {torch.Size()}
        assert {tensor.device.type for tensor in (*output.values(), *terms.values())} == {device}
    assert ((run(model.eval(), inputs)["score"] - 0.5).abs() <= 0.5).all()


@each
def test_the_total_is_the_sum_of_its_terms(name):
    model = MODELS[name].build()
    terms = terms_of(model, run(model, features()))
    torch.testing.assert_close(terms.pop("total").float(), sum(term.float() for term in terms.values()))


@each
@pytest.mark.parametrize("clips", [1, CLIPS])
def test_the_loss_reaches_every_parameter_that_learns_and_nothing_else(name, clips, device):
    case = MODELS[name]
    clips = max(clips, case.clips)
    model, inputs = case.build().to(device), on(device, features(clips=clips))
    terms_of(model, run(model, inputs), device)["total"].backward()
    learning = case.learning(model, clips)
    assert [key for key, p in learning.items() if p.grad is None or not p.grad.any()] == []
    assert [key for key, p in model.named_parameters() if not p.requires_grad and p.grad is not None] == []
    assert all(p.grad.isfinite().all() for p in learning.values())


@each
@pytest.mark.parametrize("clips", [1, CLIPS + 1])
def test_every_clip_of_each_modality_it_reads_reaches_the_score_and_no_other_does(name, clips):
    case = MODELS[name]
    model, inputs = case.build().eval(), [each.requires_grad_() for each in features(clips=max(clips, case.clips))]
    run(model, inputs)["score"].sum().backward()
    # A clip can lie where every ReLU of a narrow projection is off: there the clips of all videos are taken together.
    together = (0, -1) if any(isinstance(part, (TokenProjection, nn.BatchNorm1d)) for part in model.modules()) else -1
    for number, (modality, given) in enumerate(zip(WIDTHS, inputs, strict=True)):
        if modality in case.detached:
            other = [*inputs[:number], inputs[number] + 1, *inputs[number + 1 :]]
            assert (run(model, other)["score"] - run(model, inputs)["score"]).abs().min() > 0
        elif number in reading(name):
            assert given.grad.abs().sum(dim=together).min() > 0
        else:
            assert given.grad is None


@each
def test_modalities_that_it_does_not_read_may_be_missing(name):
    model = MODELS[name].build().eval()
    given = [each if number in reading(name) else None for number, each in enumerate(features())]
    assert_same(run(model, given), run(model, features()))


# --- one video is one video ---


@each
def test_a_video_has_in_a_batch_the_score_that_it_has_alone(name, device):
    model, inputs = MODELS[name].build().to(device).eval(), on(device, features())
    together = run(model, inputs)
    alone = [run(model, [each[video : video + 1] for each in inputs]) for video in range(BATCH)]
    assert together["score"].unique().numel() == BATCH
    for entry, value in together.items():
        parts = [output[entry] for output in alone]
        joined = parts[0] if parts[0].shape == value.shape else torch.cat(parts)
        torch.testing.assert_close(joined, value, rtol=1e-4, atol=1e-5, msg=lambda m, entry=entry: f"{entry}: {m}")


@each
def test_evaluation_is_deterministic_and_training_drops_out(name, device):
    model, inputs = MODELS[name].build(rate=0.5).to(device).eval(), on(device, features())
    assert_same(model(*inputs), model(*inputs))
    model.train()
    assert not torch.equal(model(*inputs)["score"], model(*inputs)["score"])


@each
def test_without_dropout_training_draws_nothing_that_it_does_not_say(name):
    model = MODELS[name].build().train()
    inputs = features()
    equal = torch.equal(model(*inputs)["score"], model(*inputs)["score"])
    assert equal is not MODELS[name].draws


@each_masked
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("real", [1, 4])
def test_padding_under_a_mask_changes_no_entry_and_no_term_whatever_stands_in_it(name, real, training, device):
    model, inputs = MODELS[name].build().to(device).train(training), on(device, features())
    mask = (torch.arange(CLIPS, device=device) < real).expand(BATCH, -1)
    start = copy.deepcopy(model.state_dict())  # with the statistics of its BatchNorms
    expected = run(model, [each[:, :real] for each in inputs])
    wanted = terms_of(model, expected, device)
    expected = {entry: value.detach().clone() for entry, value in expected.items()}  # some are views of parameters
    for rubbish in (0.0, 7.0, float("nan")):
        model.load_state_dict(start)
        padded = [each.masked_fill(~mask[..., None], rubbish) for each in inputs]
        output = run(model, padded, clip_mask=mask)
        for entry, value in expected.items():
            found = output[entry][tuple(slice(size) for size in value.shape)]
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5, msg=lambda m, e=entry: f"{e}: {m}")
        for term, value in terms_of(model, output, device).items():
            torch.testing.assert_close(value, wanted[term], rtol=1e-4, atol=1e-5)


@each_masked
def test_padding_that_is_no_number_leaves_every_gradient_a_number(name):
    model = MODELS[name].build()
    mask = torch.arange(CLIPS) < torch.tensor([[2], [CLIPS], [5]])
    padded = [each.masked_fill(~mask[..., None], float("nan")) for each in features()]
    terms_of(model, run(model, padded, clip_mask=mask))["total"].backward()
    assert all(p.grad.isfinite().all() for p in MODELS[name].learning(model).values())


def test_every_model_that_takes_a_mask_is_among_those_that_are_tried_with_one():
    taking = [
        name for name, case in MODELS.items() if "clip_mask" in inspect.signature(case.build().forward).parameters
    ]
    assert taking == MASKED


# --- saved and copied ---


@each
def test_the_state_loads_strictly_and_gives_the_same_output(name):
    case = MODELS[name]
    model, other = case.build(), case.build()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter))
    run(model.train(), features())  # the BatchNorms have seen a batch
    assert not torch.equal(run(other.eval(), features())["score"], run(model.eval(), features())["score"])
    state = model.state_dict()
    other.load_state_dict(state)
    assert_same(run(other, features()), run(model, features()))
    key = next(iter(dict(model.named_parameters())))
    for wrong in ({k: v for k, v in state.items() if k != key}, {**state, "nothing": state[key]}):
        with pytest.raises(RuntimeError, match="nothing" if "nothing" in wrong else key):
            other.load_state_dict(wrong)


@each_saved
def test_what_save_pretrained_wrote_from_pretrained_gives_back(name, tmp_path):
    model = MODELS[name].build()
    run(model.train(), features())
    expected = run(model.eval(), features())
    if attached(model):
        with pytest.raises(ValueError, match="save_plugin it and detach it first"):
            model.save_pretrained(tmp_path)
        save_plugin(model, tmp_path / "plugin")
        detach(model)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    if name in ROWS:
        load_plugin(again, tmp_path / "plugin")
    assert not again.training
    assert_same(run(again, features()), expected)


@each_saved
def test_its_config_is_plain_and_builds_it_again(name):
    model = MODELS[name].build()
    detach(model)
    config = json.loads(json.dumps(model.config))
    again = type(model).from_config(config)
    assert again.config == model.config
    ours, theirs = again.state_dict(), model.state_dict()
    assert {key: (v.shape, v.dtype) for key, v in ours.items()} == {k: (v.shape, v.dtype) for k, v in theirs.items()}


@pytest.mark.parametrize("name", [name for name in MODELS if name not in SAVED])
def test_a_model_with_a_module_of_its_user_says_that_it_cannot_describe_itself(name, tmp_path):
    with pytest.raises(ValueError, match="built with code of your own; save its state_dict"):
        MODELS[name].build().save_pretrained(tmp_path)


@each_kind
@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_a_copy_computes_the_same_and_learns_by_itself(name, again):
    case = MODELS[name]
    model = case.build().eval()
    other = again(model)
    assert not other.training
    assert_same(run(other, features()), run(model, features()))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in other.parameters() if p.requires_grad], 1.0)
    terms_of(other, run(other.train(), features()))["total"].backward()
    optimizer.step()
    assert_same(model.state_dict(), before)
    # Before a BatchNorm a bias has hardly a gradient.
    reached = {key: p for key, p in case.learning(other).items() if p.grad.abs().max() > 1e-4}
    assert reached
    assert [key for key, parameter in reached.items() if torch.equal(parameter, before[key])] == []


# --- precision and device ---


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.float64) for name in MODELS), *((name, half) for name in KINDS for half in HALF)],
    ids=str,
)
def test_the_dtype_follows_the_input_and_the_gradient_is_finite(name, dtype, device):
    case = MODELS[name]
    model, inputs = case.build().to(device), on(device, features())
    single = run(model.eval(), inputs)["score"]
    model.to(dtype)
    output = run(model, on(device, features(), dtype))
    assert {value.dtype for value in output.values() if value.is_floating_point()} == {dtype}
    torch.testing.assert_close(output["score"].float(), single, rtol=0, atol=HALF.get(dtype, 1e-5))
    terms = terms_of(model, run(model.train(), on(device, features(), dtype)), device)
    wide = dict.fromkeys(case.wide, torch.promote_types(dtype, torch.float32))
    assert {term: value.dtype for term, value in terms.items()} == {term: wide.get(term, dtype) for term in terms}
    terms["total"].backward()
    learning = case.learning(model)
    assert [key for key, p in learning.items() if p.grad is None or not p.grad.isfinite().all()] == []
    assert {p.grad.dtype for p in learning.values()} == {dtype}


@each_kind
def test_it_trains_under_autocast_near_float32(name, device):
    case = MODELS[name]
    model, inputs = case.build().to(device).train(), on(device, features())
    exact = run(copy.deepcopy(model), inputs)["score"]
    with torch.autocast(device, torch.bfloat16):
        output = run(model, inputs)
        total = terms_of(model, output, device)["total"]
    if not case.draws:
        torch.testing.assert_close(output["score"].float(), exact, rtol=0, atol=0.1)
    total.backward()
    assert [key for key, p in case.learning(model).items() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("MLAVL learned prompts", "PAMFN +Texts+MAG2")])
def test_no_tensor_that_it_makes_stays_behind_on_the_cpu(name):
    """On a GPU of fake tensors, which know a device and hold no numbers: an operation over two devices is an error.

    Two move a part of theirs themselves when they are called, which fake parameters cannot follow.
    """
    fake = FakeTensorMode()
    with FakeCopyMode(fake):
        model, (*inputs, label) = copy.deepcopy((MODELS[name].build(), [*features(), labels()]))
    with fake:
        for part in model.modules():  # `Module.to` cannot exchange fake parameters
            part._parameters.update(
                {k: p if p is None else nn.Parameter(p.to("cuda")) for k, p in part._parameters.items()}
            )
            part._buffers.update({k: b if b is None else b.to("cuda") for k, b in part._buffers.items()})
        inputs, label = on("cuda", inputs), label.to("cuda")
        for training in (False, True):
            output = model.train(training)(*inputs)
            terms = model.loss(output, label)
            assert {value.device.type for value in (*output.values(), *terms.values())} == {"cuda"}


# --- wrong input ---


def refused(call, *parts):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it has to say is given
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert all(str(part) in sentence for part in parts), sentence


@each
def test_features_of_a_wrong_shape_get_one_sentence_that_says_what_to_give(name):
    model = MODELS[name].build().eval()
    for number in reading(name):
        modality, width = list(WIDTHS.items())[number]
        for wrong in (torch.zeros(BATCH, CLIPS, width + 1), torch.zeros(CLIPS, width), torch.zeros(BATCH, 0, width)):
            given = features()
            given[number] = wrong
            refused(lambda given=given: model(*given), width if wrong.shape[-1] != width else "")
        if number:
            given = features()
            given[number] = None
            refused(lambda given=given: model(*given), modality)


@each
def test_modalities_of_different_length_get_one_sentence(name):
    if len(reading(name)) == 1:
        pytest.skip("it reads one modality")
    model = MODELS[name].build().eval()
    visual, audio, flow = features()
    refused(lambda: model(visual, audio[:, :5], flow), "as many")


@each
def test_labels_of_a_wrong_shape_get_one_sentence(name):
    model = MODELS[name].build()
    output = run(model, features())
    for wrong in (labels()[:, None], labels(BATCH + 1), torch.tensor(0.5)):
        refused(lambda wrong=wrong: model.loss(output, wrong), tuple(wrong.shape))
