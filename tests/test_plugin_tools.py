"""What wraps a guided model, or a part of it, leaves no name in what is saved; stand-ins are of the tools' names."""

import copy

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from mag2 import attach, attached, detach, disabled, load_plugin, save_plugin
from tests.test_plugin import DIM, Scorer, assert_as_before, clips, compiled, guide, is_plugs, snapshot, trained

pytestmark = pytest.mark.filterwarnings("error:.*ActionGraphGuidance:UserWarning")


def base():
    torch.manual_seed(7)
    return Scorer().eval()


class Handing(nn.Module):
    """A wrapper that calls what it wraps and hands on what it does not have."""

    inner = "module"

    def __init__(self, model):
        super().__init__()
        setattr(self, self.inner, model)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == self.inner:
                raise
            return getattr(super().__getattr__(self.inner), name)

    def forward(self, *args, **kwargs):
        return getattr(self, self.inner)(*args, **kwargs)


def named(name, inner, around=Handing):
    """A stand-in for a class of a package: its name, and the attribute under which it keeps the model."""
    return type(name, (around,), {"inner": inner})


BaseTuner = named("BaseTuner", "model")
LoraModel = named("LoraModel", "model", BaseTuner)
PeftModel = named("PeftModel", "base_model")
ModelEmaV2, ModelEmaV3 = named("ModelEmaV2", "module"), named("ModelEmaV3", "module")
FullyShardedDataParallel = named("FullyShardedDataParallel", "_fsdp_wrapped_module")
DeepSpeedEngine = named("DeepSpeedEngine", "module")
LightningModule = named("LightningModule", "model")

WRAPPED = {
    "AveragedModel": AveragedModel,
    "AveragedModel with buffers": lambda m: AveragedModel(m, multi_avg_fn=get_ema_multi_avg_fn(), use_buffers=True),
    "ModelEmaV2": lambda m: ModelEmaV2(copy.deepcopy(m)),
    "ModelEmaV3": lambda m: ModelEmaV3(copy.deepcopy(m)),
    "torch.compile": lambda m: torch.compile(m, backend="eager"),
    "PEFT": lambda m: PeftModel(LoraModel(m)),
    "PEFT of prompts": PeftModel,
    "checkpoint": checkpoint_wrapper,
    "DataParallel": nn.DataParallel,
    "Lightning": LightningModule,
    "Lightning around PEFT": lambda m: LightningModule(PeftModel(LoraModel(m))),
    "Lightning around compiled": lambda m: LightningModule(torch.compile(m, backend="eager")),
    "compiled PEFT": lambda m: torch.compile(PeftModel(LoraModel(m)), backend="eager"),
    "EMA of compiled": lambda m: AveragedModel(torch.compile(m, backend="eager")),
}


@pytest.mark.filterwarnings("ignore:.*is deprecated")
@pytest.mark.parametrize("name", WRAPPED)
def test_what_wraps_a_model_leaves_no_name_in_a_folder_which_loads_into_the_bare_model(name, tmp_path):
    model = trained(attach(base(), [guide(), guide()], at=["encoder", "encoder.0"]))
    expected = model(clips())
    wrapped = WRAPPED[name](model).eval()
    if "Lightning" not in name:
        assert [place.at for place in attached(wrapped)] == ["encoder", "encoder.0"]
    save_plugin(wrapped, tmp_path)
    text = (tmp_path / "plugin.json").read_text()
    assert not any(word in text for word in ("module", "base_model", "_orig_mod", "_checkpoint", '"at": "model'))
    fresh = load_plugin(detach(copy.deepcopy(model)), tmp_path)
    assert torch.equal(fresh(clips()), expected)
    with disabled(wrapped):
        torch.testing.assert_close(wrapped(clips()), detach(copy.deepcopy(model))(clips()))
    torch.compiler.reset()


@pytest.mark.parametrize(
    "name", ["AveragedModel", "ModelEmaV3", "torch.compile", "PEFT", "checkpoint", "compiled PEFT"]
)
def test_a_wrapped_model_is_attached_to_by_the_names_of_the_bare_one_or_by_its_own(name):
    for prefix in ("", next(key for key, part in WRAPPED[name](base()).named_modules() if type(part) is Scorer) + "."):
        model = WRAPPED[name](base()).eval()
        before = snapshot(model)
        plain = model(clips())
        attach(model, guide(), at=f"{prefix}encoder")
        assert [place.at for place in attached(model)] == ["encoder"]
        assert not torch.equal(model(clips()), plain)
        detach(model)
        assert_as_before(model, before)
    torch.compiler.reset()


@pytest.mark.parametrize(
    "wrap", [checkpoint_wrapper, lambda part: torch.compile(part, backend="eager")], ids=["checkpoint", "compile"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_wraps_a_part_leaves_no_name_in_a_folder(wrap, when, tmp_path):
    model = base()
    if when == "before":
        model.encoder = wrap(model.encoder)
    attach(model, [guide(dropout=0.0), guide(dropout=0.0)], at=["encoder", "encoder.0"])
    if when == "after":
        model.encoder = wrap(model.encoder)
    assert [place.at for place in attached(model)] == ["encoder", "encoder.0"]
    trained(model)
    save_plugin(model, tmp_path)
    state = {key: value for key, value in model.state_dict().items() if not is_plugs(key)}
    fresh = base()
    fresh.load_state_dict({key.replace("_orig_mod.", ""): value for key, value in state.items()})
    torch.testing.assert_close(load_plugin(fresh, tmp_path)(clips()), model(clips()))
    torch.compiler.reset()


class BaseTunerLayer:
    pass


class LoraLinear(nn.Module, BaseTunerLayer):
    """A layer of PEFT's shape: the layer that it adapts is its `base_layer`."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.ModuleDict({"default": nn.Linear(DIM, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, base_layer.out_features, bias=False)})

    def forward(self, x):
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))


class ModulesToSaveWrapper(nn.Module):
    """A part of PEFT's shape: the copy that trains stands beside the original."""

    def __init__(self, part):
        super().__init__()
        self.original_module = part
        self.modules_to_save = nn.ModuleDict({"default": copy.deepcopy(part)})
        self.original_module.requires_grad_(False)
        self.disable_adapters, self.active_adapters = False, ["default"]

    def forward(self, x):
        return (self.original_module if self.disable_adapters else self.modules_to_save["default"])(x)


def test_an_adapted_layer_is_guided_as_a_whole_and_saved_under_its_own_name(tmp_path):
    model = base()
    model.encoder[0] = LoraLinear(model.encoder[0])
    attach(model, module := guide(), at="encoder.0")
    assert attached(model.encoder[0])[0].module is module
    assert [place.at for place in attached(model)] == ["encoder.0"]
    save_plugin(trained(model), tmp_path)
    bare = load_plugin(base(), tmp_path)
    assert [place.at for place in attached(bare)] == ["encoder.0"]


def test_of_a_part_that_peft_copies_the_guide_that_trains_is_shown_and_saved(tmp_path):
    model = attach(base(), guide(), at="encoder")
    model.encoder = ModulesToSaveWrapper(model.encoder)
    (place,) = attached(model)
    assert place.at == "encoder"
    assert place.module is attached(model.encoder.modules_to_save["default"])[0].module
    trained(model)
    save_plugin(model, tmp_path)
    fresh = base()
    fresh.encoder = detach(copy.deepcopy(model.encoder.modules_to_save["default"]))
    fresh.head = model.head
    assert torch.equal(load_plugin(fresh, tmp_path)(clips()), model(clips()))
    with disabled(model):
        assert not any(each.enabled for part in model.encoder.children() for each in attached(part))
    model.encoder.disable_adapters = True
    assert attached(model)[0].module is attached(model.encoder.original_module)[0].module
    detach(model)
    assert not any(map(is_plugs, model.state_dict()))


def test_a_guide_that_comes_to_a_copied_part_later_lives_in_the_copy_that_trains():
    model = base()
    model.encoder = ModulesToSaveWrapper(model.encoder)
    attach(model, module := guide(), at="encoder")
    assert attached(model.encoder.modules_to_save["default"])[0].module is module
    assert attached(model.encoder.original_module) == []


class Own(nn.Module):
    """A model whose parts happen to have the names that wrappers use."""

    def __init__(self):
        super().__init__()
        self.module = nn.Sequential(nn.Linear(DIM, DIM))
        self.base_layer = nn.Linear(DIM, DIM)
        self.original_module = nn.Linear(DIM, DIM)
        self.model = nn.Linear(DIM, DIM)

    def forward(self, x):
        return self.model(self.original_module(self.base_layer(self.module(x))))


def test_names_that_wrappers_use_are_a_models_own_where_nothing_wraps(tmp_path):
    places = ["module", "module.0", "base_layer", "original_module", "model"]
    model = attach(Own().eval(), [guide() for _ in places], at=places)
    expected = model(clips())
    assert [place.at for place in attached(model)] == places
    save_plugin(model, tmp_path)
    fresh = load_plugin(detach(copy.deepcopy(model)), tmp_path)
    assert [place.at for place in attached(fresh)] == places
    assert torch.equal(fresh(clips()), expected)


@pytest.mark.parametrize("wrapper", [FullyShardedDataParallel, DeepSpeedEngine, nn.DataParallel])
def test_what_counts_parameters_when_it_is_made_refuses_guides_afterwards(wrapper):
    model = wrapper(base())
    before = snapshot(model)
    with pytest.raises(ValueError, match="counts parameters when it is made; attach to the model, then wrap it"):
        attach(model, guide(), at="encoder")
    assert_as_before(model, before)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_average_of_a_guided_model_follows_the_guide_too(use_buffers):
    model = attach(base().train(), guide(dropout=0.0), at="encoder")
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=use_buffers)
    ours, theirs = attached(mean)[0].module, attached(model)[0].module
    assert ours is not theirs
    first = theirs.conv1.lin_l.weight.detach().clone()
    mean.update_parameters(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(clips()).square().sum().backward()
    optimizer.step()
    mean.update_parameters(model)
    torch.testing.assert_close(ours.conv1.lin_l.weight, (first + theirs.conv1.lin_l.weight) / 2)
    assert ours.owned_texts.projection.reduce_norm.running_mean.any()
    with disabled(mean):
        assert attached(model)[0].enabled


# --- one graph, some graphs, other ways to differentiate ---


class Recompiles:
    """Counts the graphs that a backend is given."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.mark.parametrize("options", [{}, {"dynamic": True}, {"dynamic": False}, {"fullgraph": True}])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_calling_a_compiled_guided_model_again_compiles_nothing_again(options, mode):
    torch.compiler.reset()
    model = attach(base(), [guide(dropout=0.0), guide(dropout=0.0)], at=["encoder", "encoder.0"])
    getattr(model, mode)()
    model(clips())  # calls of code that is not compiled are counted
    backend = Recompiles()
    call = torch.compile(model, backend=backend, **options)
    call(clips())
    graphs = backend.graphs
    with torch._dynamo.config.patch(error_on_recompile=True):
        for number in range(3):
            call(clips() + number)
    assert backend.graphs == graphs >= 1
    torch.compiler.reset()


EXPORTS = [
    ("residual", True),
    *((start, False) for start in ("residual", "identity", "replace")),
    *(pytest.param(start, True, marks=pytest.mark.slow) for start in ("identity", "replace")),
]


@pytest.mark.parametrize(("start", "strict"), EXPORTS)
@pytest.mark.parametrize("at", ["encoder", "", "encoder.0"])
def test_a_guided_model_exports_strictly_or_not(start, strict, at):
    model = nn.Sequential(nn.Linear(DIM, DIM), nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU())) if at == "" else base()
    attach(model.eval(), guide(), at=at, start=start)
    dynamic = {0: torch.export.Dim("batch", min=2, max=64)}
    exported = torch.export.export(model, (clips(),), dynamic_shapes=(dynamic,), strict=strict).module()
    for number in (3, 6):
        torch.testing.assert_close(exported(clips(number, 5, DIM)), model(clips(number, 5, DIM)))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("at", ["encoder", ["encoder.0", "encoder"]])
def test_gradient_checkpointing_of_either_kind_gives_the_same_gradients(reentrant, at):
    model = attach(base().train(), guide(dropout=0.0), at=at)
    other = copy.deepcopy(model)
    features = clips().requires_grad_()
    model(features).square().sum().backward()
    hidden = checkpoint(other.encoder, features, use_reentrant=reentrant)
    other.head(hidden.mean(dim=1)).squeeze(1).square().sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad)


def test_functional_transforms_reach_a_guide_in_a_container():
    model = trained(attach(nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh()), guide(), at=""))
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters, features):
        return torch.func.functional_call(model, parameters, (features[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, clips())
    model.zero_grad()
    model(clips()).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(each[name].sum(dim=0), parameter.grad, rtol=1e-4, atol=1e-5)


def test_a_traced_model_is_guided_as_it_was_when_it_was_traced():
    model = attach(base(), guide(), at="encoder")
    with pytest.warns(torch.jit.TracerWarning):
        traced = torch.jit.trace(model, (clips(),), check_trace=False)
    torch.testing.assert_close(traced(clips()), model(clips()))


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("at", ["encoder.0", "encoder", ["encoder.0", "encoder"]])
def test_a_symbolic_trace_keeps_guides_of_layers_and_of_containers(at, side):
    model = attach(base(), guide(), at=at, side=side, layout="btd")
    traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(traced(clips()), model(clips()))
    assert len(list(traced.parameters())) == len(list(model.parameters()))


def test_a_symbolic_trace_that_would_lose_a_guide_is_refused():
    model = nn.Sequential(nn.Sequential(nn.LSTM(DIM, DIM, batch_first=True)))
    attach(model, guide(), at="0", item=0)
    with pytest.raises(ValueError, match=r"which torch\.fx cannot trace; detach, then trace"):
        torch.fx.symbolic_trace(model)


def test_compiled_and_disabled_twice_is_the_base():
    model = base()
    plain = model(clips())
    call = compiled(attach(model, guide(), at="encoder"), "eager")
    guided = call(clips())
    with disabled(call):
        torch.testing.assert_close(call(clips()), plain)
        with disabled(call):
            torch.testing.assert_close(call(clips()), plain)
        torch.testing.assert_close(call(clips()), plain)
    torch.testing.assert_close(call(clips()), guided)
    torch.compiler.reset()
