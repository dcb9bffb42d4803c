"""A guide lives in the module that it guides: what happens to that module happens to the guide."""

import copy
import pickle
import threading
import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from mag2 import attach, attached, detach, disabled, load_plugin, save_plugin
from tests.test_plugin import BATCH, CLIPS, DIM, Scorer, assert_as_before, clips, guide, is_plugs, snapshot, trained

pytestmark = pytest.mark.filterwarnings("error:.*ActionGraphGuidance:UserWarning")
COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda part: pickle.loads(pickle.dumps(part))}
each_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)


def same(first, second):
    return torch.equal(first, second)


def base_keys(module):
    return [key for key in module.state_dict() if not is_plugs(key)]


# --- a part is copied, moved, thrown away ---


@each_copy
def test_a_copy_of_a_guided_part_has_a_guide_of_its_own(copied):
    model = attach(Scorer(), guide(dropout=0.5), at="encoder")
    teacher = copied(model.encoder)
    (place,) = attached(teacher)
    assert place.at == ""
    assert place.module is not attached(model)[0].module
    assert any(is_plugs(key) for key in teacher.state_dict())
    teacher.eval()
    assert not place.module.training
    assert attached(model)[0].module.training
    guided = teacher(clips())
    with disabled(teacher):
        plain = teacher(clips())
    assert not same(guided, plain)
    detach(teacher)
    assert attached(teacher) == []
    assert same(teacher(clips()), plain)
    assert len(attached(model)) == 1


def test_a_teacher_of_the_part_follows_it_and_trains_nothing():
    model = attach(Scorer(), guide(dropout=0.0), at="encoder")
    teacher = copy.deepcopy(model.encoder).requires_grad_(False)
    trained(model).train()
    with torch.no_grad():
        for mean, now in zip(teacher.state_dict().values(), model.encoder.state_dict().values(), strict=True):
            mean.copy_(now)
        assert same(teacher(clips()), model.encoder(clips()))


def test_a_part_that_moves_into_another_model_brings_its_guide_which_trains_there():
    model = attach(Scorer(), guide(dropout=0.0), at="encoder")
    other = nn.Sequential(OrderedDict(backbone=model.encoder, head=nn.Linear(DIM, 1)))
    (place,) = attached(other)
    assert place.at == "backbone"
    before = copy.deepcopy(place.module.state_dict())
    trained(other)
    after = place.module.state_dict()
    assert all(not same(before[name], after[name]) for name in before if name.endswith("weight"))


def test_a_part_that_moves_is_saved_from_its_new_model_and_loads_there(tmp_path):
    model = attach(Scorer(), guide(), at="encoder")
    other = trained(nn.Sequential(OrderedDict(backbone=model.encoder, head=nn.Linear(DIM, 1))))
    save_plugin(other, tmp_path)
    fresh = load_plugin(detach(copy.deepcopy(other)), tmp_path)
    assert same(fresh(clips()), other(clips()))


def test_a_part_that_is_thrown_away_takes_its_guide_along():
    model = attach(Scorer(), guide(), at="encoder")
    model.encoder = nn.Identity()
    assert attached(model) == []
    assert not any(map(is_plugs, model.state_dict()))


@pytest.mark.parametrize("inside", [1, 2])
def test_what_is_copied_or_saved_inside_disabled_is_not_disabled_for_ever(inside, tmp_path):
    model = trained(attach(Scorer(), guide(), at="encoder"))
    guided = model(clips())
    with disabled(model):
        if inside == 2:
            with disabled(model):
                others = [each(model) for each in COPIES.values()]
        else:
            others = [each(model) for each in COPIES.values()]
        save_plugin(model, tmp_path)
        torch.save(model, tmp_path / "model.pt")
        assert not attached(model)[0].enabled
    others.append(torch.load(tmp_path / "model.pt", weights_only=False))
    others.append(load_plugin(detach(copy.deepcopy(model)), tmp_path))
    for other in (model, *others):
        assert attached(other)[0].enabled
        assert same(other(clips()), guided)


def test_an_exception_inside_nested_disabled_leaves_both():
    model = trained(attach(Scorer(), guide(), at="encoder"))
    guided = model(clips())
    with disabled(model):
        with pytest.raises(RuntimeError, match="stop"), disabled(model):
            raise RuntimeError("stop")
        assert not attached(model)[0].enabled
    assert same(model(clips()), guided)


@pytest.mark.parametrize("at", ["", "encoder", "encoder.0"])
def test_what_leaves_a_shallow_copy_does_not_leave_the_original(at):
    model = Scorer().eval() if at else nn.Sequential(nn.Linear(DIM, DIM)).eval()
    plain = model(clips())
    attach(model, guide(), at=at)
    guided = model(clips())
    other = copy.copy(model)
    assert same(other(clips()), guided)
    detach(other)
    assert attached(other) == []
    assert same(other(clips()), plain)
    assert [place.at for place in attached(model)] == [at]
    assert same(model(clips()), guided)
    assert next(other.parameters()) is next(p for name, p in model.named_parameters() if not is_plugs(name))
    assert same(detach(model)(clips()), plain)


def test_what_leaves_a_shallow_copy_of_the_part_does_not_leave_the_original():
    model = attach(Scorer().eval(), guide(), at="encoder")
    guided = model(clips())
    other = detach(copy.copy(model.encoder))
    assert attached(other) == []
    assert not same(other(clips()), model.encoder(clips()))
    assert same(model(clips()), guided)


def test_a_guide_in_two_places_of_two_parts_loads_as_one_again(tmp_path):
    model = nn.ModuleDict({"a": Scorer(), "b": Scorer()})
    shared = guide()
    attach(model["a"], shared, at="encoder")
    attach(model["b"], shared, at="encoder")
    save_plugin(model, tmp_path)
    other = load_plugin(detach(copy.deepcopy(model)), tmp_path)
    first, second = (place.module for place in attached(other))
    assert first is second
    assert len(list(first.parameters())) == sum("guide" in name for name, _ in other.named_parameters())


# --- containers ---


def numbered():
    return nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh(), nn.Linear(DIM, DIM))


class Listed(nn.ModuleList):
    """A list that is called."""

    def forward(self, clips):
        for part in self:
            clips = part(clips)
        return clips


class Dicted(nn.ModuleDict):
    """A dict that is called."""

    def forward(self, clips):
        for part in self.values():
            clips = part(clips)
        return clips


def wholes():
    return {
        "Sequential": (numbered(), ""),
        "part Sequential": (nn.Sequential(OrderedDict(encoder=numbered(), head=nn.Linear(DIM, 1))), "encoder"),
        "ModuleList": (Listed(numbered()), ""),
        "part ModuleList": (nn.Sequential(OrderedDict(encoder=Listed(numbered()))), "encoder"),
    }


@each_copy
@pytest.mark.parametrize("name", wholes())
def test_a_guided_list_of_modules_behaves_as_without_the_guide(name, copied):
    model, at = wholes()[name]
    plain = copy.deepcopy(model)
    attach(model, guide(), at=at)
    model = copied(model)
    home, like = model.get_submodule(at), plain.get_submodule(at)

    def alike():
        assert len(home) == len(like)
        assert [type(part) for part in home] == [type(part) for part in like]
        assert [type(part) for part in reversed(home)] == [type(part) for part in reversed(like)]
        assert [type(part) for part in home.children()] == [type(part) for part in like.children()]
        assert [key for key, _ in home.named_children()] == [key for key, _ in like.named_children()]
        assert base_keys(model) == list(plain.state_dict())
        assert len(attached(model)) == 1
        assert attached(model)[0].at == at

    alike()
    assert home[-1] is list(home)[-1]
    assert [type(part) for part in home[1:]] == [type(part) for part in like[1:]]
    assert type(home[1:]) is type(like)
    assert attached(home[:2]) == []
    assert isinstance(home, type(like))
    with pytest.raises(IndexError):
        home[7]
    head = nn.Linear(DIM, 3)
    for each in (home, like):
        each[-1] = head
    alike()
    assert home[2] is head
    for each in (home, like):
        del each[-1]
    alike()
    for each in (home, like):
        each.append(nn.Linear(DIM, DIM))
        each.insert(0, nn.Identity())
        each.insert(len(each), nn.Sigmoid())
    alike()
    for each in (home, like):
        each.pop(0)
        each.extend([nn.ReLU(), nn.Tanh()])
    alike()
    for each in (home, like):
        each += nn.Sequential(nn.Identity())
        del each[3:]
    alike()
    model.load_state_dict(plain.state_dict(), strict=False)
    assert not same(model.eval()(clips()), plain.eval()(clips()))
    detach(model)
    assert same(model(clips()), plain(clips()))
    assert type(model.get_submodule(at)) is type(like)
    assert list(model.state_dict()) == list(plain.state_dict())


@each_copy
@pytest.mark.parametrize("at", ["", "encoder"])
def test_a_guided_dict_of_modules_behaves_as_without_the_guide(at, copied):
    def make():
        parts = Dicted({"first": nn.Linear(DIM, DIM), "second": nn.Linear(DIM, DIM)})
        return nn.Sequential(OrderedDict(encoder=parts)) if at else parts

    model, plain = make(), make()
    plain.load_state_dict(model.state_dict())
    attach(model, guide(), at=at)
    model = copied(model)
    home, like = model.get_submodule(at), plain.get_submodule(at)

    def alike():
        assert len(home) == len(like)
        assert list(home) == list(like) == list(home.keys())
        assert [key for key, _ in home.items()] == list(like)
        assert [type(part) for part in home.values()] == [type(part) for part in like.values()]
        assert [type(part) for part in home.children()] == [type(part) for part in like.children()]
        assert ("mag2" in home, "first" in home) == (False, "first" in like)
        assert base_keys(model) == list(plain.state_dict())
        assert len(attached(model)) == 1

    alike()
    for each in (home, like):
        each["third"] = nn.Tanh()
        each.update({"fourth": nn.ReLU()})
    alike()
    for each in (home, like):
        each.pop("fourth")
        del each["first"]
    alike()
    with pytest.raises(KeyError):
        home["fourth"]
    for each in (home, like):
        each.clear()
    alike()
    detach(model)
    assert list(model.state_dict()) == list(plain.state_dict()) == []


@pytest.mark.parametrize(
    ("edit", "gone"),
    [
        (lambda model: model.__delitem__(0), False),
        (lambda model: model.insert(0, nn.Identity()), False),
        (lambda model: model.__delitem__(1), True),
        (lambda model: model.pop(1), True),
    ],
)
def test_a_guide_of_an_item_goes_where_its_item_goes(edit, gone):
    model = attach(numbered(), guide(), at="1")
    home = model[1]
    edit(model)
    where = [number for number, part in enumerate(model) if part is home]
    assert [place.at for place in attached(model)] == [str(number) for number in where]
    assert gone == (where == [])
    detach(model)
    assert not any(map(is_plugs, model.state_dict()))


class Backwards(nn.Sequential):
    """A container with an order of its own."""

    def __iter__(self):
        return iter(list(self._modules.values())[::-1])


def test_a_container_of_ones_own_keeps_its_own_order():
    model = Backwards(nn.Linear(DIM, DIM), nn.Tanh()).eval()
    plain = model(clips())
    attach(model, guide(), at="")
    with disabled(model):
        assert same(model(clips()), plain)
    assert type(detach(model)) is Backwards


def test_modes_types_devices_and_apply_reach_a_guide_in_a_container():
    model = attach(numbered(), module := guide(), at="")
    model.eval()
    assert not module.training
    model.double()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    seen = []
    model.apply(seen.append)
    assert sum(part is module for part in seen) == 1
    model.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert next(model.to("meta").parameters()).is_meta
    assert all(parameter.is_meta for parameter in module.parameters())


def test_code_that_runs_all_children_in_turn_gets_back_what_it_gives():
    class Runs(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(DIM, DIM), nn.Tanh()

        def forward(self, clips):
            for part in self._modules.values():
                clips = part(clips)
            return clips

    model = Runs().eval()
    plain = model(clips())
    attach(model, guide(), at="")
    with disabled(model):
        assert same(model(clips()), plain)


def test_threads_that_run_one_guided_container_get_what_each_of_them_gets_alone():
    model = attach(nn.Sequential(*numbered(), numbered()), guide(), at=["", "3"]).eval()
    inputs = [clips() + number for number in range(8)]
    expected = [model(each) for each in inputs]
    found: dict[int, list] = {}

    def run(number):
        found[number] = [model(inputs[number]) for _ in range(20)]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(each, expected[number]) for number, outputs in found.items() for each in outputs)
    assert len(found) == 8


# --- freezing and failing leave no halves ---


def frozen(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def test_a_lazy_layer_freezes_and_thaws():
    model = nn.Sequential(nn.Linear(DIM, DIM), nn.LazyLinear(DIM))
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    attach(model, guide(), at="0", freeze=True)
    assert frozen(model) == set(before)
    model(clips())
    assert frozen(model) == set(before)
    detach(model)
    assert frozen(model) == set()


@pytest.mark.parametrize("freeze", [False, True])
def test_an_exchanged_head_stays_as_it_came(freeze):
    model = attach(Scorer(), guide(), at="encoder", freeze=freeze)
    model.head = nn.Linear(DIM, 1)
    model.head.bias.requires_grad_(False)
    detach(model)
    assert frozen(model) == {"head.bias"}


@pytest.mark.parametrize(
    "norm", [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal]
)
@pytest.mark.parametrize("when", ["before", "after", "before, and taken off", "after, and taken off"])
def test_a_frozen_layer_may_gain_and_lose_a_parametrisation(norm, when):
    model = Scorer()
    if when.startswith("before"):
        norm(model.head)
    attach(model, guide(), at="encoder", freeze=True)
    if when.startswith("after"):
        norm(model.head)
    assert all(is_plugs(name) for name, parameter in model.named_parameters() if parameter.requires_grad)
    model(clips()).sum().backward()
    if when.endswith("off"):
        parametrize.remove_parametrizations(model.head, "weight")
    detach(model)
    if isinstance(model.head.weight, nn.Parameter) or not when.endswith("off"):
        assert frozen(model) == set()
    assert not any("_mag2_frozen" in vars(part) for part in model.modules())


def test_what_is_parametrised_and_guided_computes_and_comes_out():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(DIM, DIM)), nn.Tanh()).eval()
    plain = model(clips())
    attach(model, guide(), at="0")
    assert not same(model(clips()), plain)
    parametrizations.spectral_norm(model[0])
    model.train()(clips())
    assert len(attached(model)) == 1
    parametrize.remove_parametrizations(model[0], "weight")
    detach(model)
    assert not any(map(is_plugs, model.state_dict()))


def test_the_old_weight_norm_may_come_while_frozen():
    model = attach(Scorer(), guide(), at="encoder", freeze=True)
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(model.head)
    model(clips())
    detach(model)
    assert frozen(model) == set()
    model(clips()).sum().backward()
    assert model.head.weight_g.grad is not None


def test_freezing_that_fails_leaves_the_model_as_it_was(monkeypatch):
    model = Scorer()
    before = snapshot(model)

    def fail(base):
        base.head.weight.requires_grad = False
        raise RuntimeError("stop")

    monkeypatch.setattr("mag2.plugin.attaching.freeze_base", fail)
    with pytest.raises(RuntimeError, match="stop"):
        attach(model, guide(), at="encoder", freeze=True)
    model.head.weight.requires_grad = True
    assert_as_before(model, before)


class Failing(nn.Module):
    dim = DIM

    def forward(self, clips):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize(
    ("wrong", "options", "sentence"),
    [
        (lambda: guide(6), {}, "6 wide"),
        (guide, {"layout": "bdt"}, "layout 'btd' or 'tbd' would fit"),
        (guide, {"item": 0}, "leave item= out"),
        (Failing, {}, "mat1 and mat2"),
    ],
)
def test_a_guide_that_fails_when_it_is_called_first_gives_way_to_the_corrected_one(wrong, options, sentence, freeze):
    model = Scorer().eval()
    before, plain = snapshot(model), model(clips())
    attach(model, wrong(), at="encoder", freeze=freeze, **options)
    for _ in range(2):
        with pytest.raises((ValueError, RuntimeError), match=sentence):
            model(clips())
    attach(model, right := guide(), at="encoder")
    assert [place.module for place in attached(model)] == [right]
    assert frozen(model) == set()
    assert not same(model(clips()), plain)
    with pytest.raises(ValueError, match="sits there already"):
        attach(model, guide(), at="encoder")
    detach(model)
    assert_as_before(model, before)


def test_a_guide_that_ran_once_does_not_give_way():
    model = attach(Scorer().eval(), guide(), at="encoder")
    model(clips())
    model.encoder[0], model.encoder[1] = nn.Flatten(), nn.Identity()
    with pytest.raises(ValueError, match="three axes"):
        model(clips())
    with pytest.raises(ValueError, match="sits there already"):
        attach(model, guide(), at="encoder")


def test_a_correction_that_does_not_fit_either_leaves_the_first_one():
    model = attach(Scorer(), wrong := guide(6), at="encoder")
    with pytest.raises(ValueError, match="6 wide"):
        model(clips())
    with pytest.raises(ValueError, match="no submodule"):
        attach(model, guide(), at=("encoder", "nowhere"))
    assert [place.module for place in attached(model)] == [wrong]


# --- weights that are not there ---


def test_real_weights_of_a_guide_stay_real_in_a_meta_model(tmp_path):
    real = trained(attach(Scorer(), guide(), at="encoder"))
    save_plugin(real, tmp_path)
    with torch.device("meta"):
        model, second = Scorer(), Scorer()
    attach(model, module := guide(), at="encoder")
    assert not any(value.is_meta for value in module.state_dict().values())
    load_plugin(second, tmp_path)
    kept, expected = attached(second)[0].module.state_dict(), attached(real)[0].module.state_dict()
    assert all(same(kept[key], expected[key]) for key in expected)


def test_a_meta_model_that_gets_its_weights_keeps_those_of_its_guide(tmp_path):
    real = trained(attach(Scorer(), guide(), at="encoder"))
    save_plugin(real, tmp_path)
    with torch.device("meta"):
        model = Scorer()
    load_plugin(model, tmp_path)
    model.to_empty(device="cpu")
    weights = {key: value for key, value in real.state_dict().items() if not is_plugs(key)}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert all(map(is_plugs, missing))
    assert unexpected == []
    assert same(model.eval()(clips()), real(clips()))


def test_weights_that_have_no_values_are_not_saved(tmp_path):
    with torch.device("meta"):
        model = attach(Scorer(), guide(), at="encoder")
    with pytest.raises(ValueError, match="is on the meta device and has no values"):
        save_plugin(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- nn.DataParallel, as it runs on several GPUs ---


def replicas(model, count):
    """What torch.nn.parallel.replicate makes, on the CPU."""
    modules = list(model.modules())
    numbers = {module: number for number, module in enumerate(modules)}
    made = [[module._replicate_for_data_parallel() for module in modules] for _ in range(count)]
    for copies in made:
        for replica, module in zip(copies, modules, strict=True):
            for name, child in module._modules.items():
                replica._modules[name] = None if child is None else copies[numbers[child]]
            for name, parameter in module._parameters.items():
                # Views that autograd leads back to the original, as broadcast makes them.
                setattr(replica, name, parameter if parameter is None else parameter * 1)
            for name, buffer in module._buffers.items():
                replica._buffers[name] = None if buffer is None else buffer.clone()
    return [copies[0] for copies in made]


@pytest.mark.parametrize("start", ["residual", "identity"])
def test_each_replica_runs_its_own_guide_and_gradients_reach_the_original(start):
    model = attach(nn.Sequential(numbered(), numbered()), guide(dropout=0.0), at=["0", ""], start=start)
    expected = copy.deepcopy(model)
    originals = [place.module for place in attached(model)]
    ran = []
    for module in dict.fromkeys(originals):
        module.register_forward_pre_hook(lambda module, args: ran.append(module))
    outputs = [replica(part) for replica, part in zip(replicas(model, 2), clips(4, 5, DIM).chunk(2), strict=True)]
    assert len(ran) == 4
    assert not set(ran) & set(originals)
    torch.cat(outputs).square().sum().backward()
    # In training, the BatchNorm of the projected texts sees the same texts whatever the batch is.
    expected(clips(4, 5, DIM)).square().sum().backward()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    assert [place.plug.calls for place in attached(model)] == [2, 2]


# --- exchange of the guided module by tools that rewrite models ---


def quantised(model):
    """Whatever torch says of the age of these functions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear})


def test_dynamic_quantisation_works_around_a_guide_and_says_so_where_it_takes_its_place():
    model = attach(Scorer().eval(), guide(), at="encoder")
    quantized = quantised(model)
    assert "quantized" in type(quantized.encoder[0]).__module__
    torch.testing.assert_close(quantized(clips()), model(clips()), atol=0.1, rtol=0.1)
    assert len(attached(quantized)) == 1
    model = attach(Scorer().eval(), guide(), at="encoder.0")
    quantized = quantised(model)
    with pytest.raises(RuntimeError, match="has replaced, and it is not in it: detach the model, and attach"):
        quantized(clips())
    attach(detach(quantized), guide(), at="encoder.0")
    quantized(clips())


def test_fused_layers_work_around_a_guide_and_say_so_where_they_take_its_place():
    def make():
        return nn.Sequential(
            OrderedDict(conv=nn.Conv1d(CLIPS, CLIPS, 1), norm=nn.BatchNorm1d(CLIPS), last=nn.Linear(DIM, DIM))
        ).eval()

    fuse = torch.ao.quantization.fuse_modules
    model = attach(make(), guide(), at="")
    fused = fuse(model, [["conv", "norm"]])
    torch.testing.assert_close(fused(clips()), model(clips()))
    fused = fuse(attach(make(), guide(), at="norm"), [["conv", "norm"]])
    with pytest.raises(RuntimeError, match="has replaced, and it is not in it"):
        fused(clips())


def test_synchronised_norms_work_around_a_guide_and_say_so_where_they_take_its_place():
    convert = nn.SyncBatchNorm.convert_sync_batchnorm
    model = attach(Scorer().eval(), guide(), at="encoder")
    expected = model(clips())
    assert isinstance(convert(model).encoder[1], nn.SyncBatchNorm)
    assert same(model(clips()), expected)
    model = attach(nn.Sequential(nn.Linear(DIM, DIM), nn.BatchNorm1d(CLIPS)).eval(), guide(), at="1")
    model = convert(model)
    with pytest.warns(UserWarning, match="its module was exchanged for another one, which took the guide over"):
        model(clips())
    attach(detach(model), guide(), at="1")
    model(clips())


@pytest.mark.parametrize("ran", [False, True])
def test_an_exchanged_module_is_said_to_have_taken_its_guide_along(ran):
    model = attach(Scorer(), guide(), at="encoder")
    if ran:
        model(clips())
    model.encoder = nn.Sequential(nn.Linear(DIM, DIM))
    with pytest.warns(UserWarning, match="on the output of 'encoder' went away with its module, which was exchanged"):
        model(clips())
    model(clips())
    attach(model, guide(), at="encoder")
    model(clips())


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_is_guided_in_its_own_layout(kind, batch_first):
    layer = kind(DIM, DIM, batch_first=batch_first).eval()
    layout = "btd" if batch_first else "tbd"
    features = clips() if batch_first else clips().transpose(0, 1)
    plain = layer(features)
    module = guide().eval()
    guided = attach(layer, module, at="", item=0, layout=layout)(features)
    batch = plain[0] if batch_first else plain[0].transpose(0, 1)
    expected = batch + module(batch)
    torch.testing.assert_close(guided[0], expected if batch_first else expected.transpose(0, 1))
    assert type(guided[1]) is type(plain[1])
    assert guided[0].shape[not batch_first] == BATCH
