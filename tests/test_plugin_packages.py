"""The tools that people train with, where they are installed: PEFT, timm, Lightning, Accelerate, transformers, torchao.

`test_plugin_tools.py` tests the same with stand-ins, which need none of them.
"""

import copy
import warnings

import pytest
import torch
from torch import nn

from mag2 import attach, attached, detach, disabled, load_plugin, save_plugin
from tests.test_plugin import DIM, Scorer, clips, guide, is_plugs, trained

pytestmark = [
    pytest.mark.filterwarnings("error:.*ActionGraphGuidance:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def base():
    torch.manual_seed(7)
    return Scorer().eval()


def bare(model):
    """The base alone, with what it learned meanwhile."""
    return detach(copy.deepcopy(model))


def loads(folder, fresh, expected):
    torch.testing.assert_close(load_plugin(fresh, folder).eval()(clips()), expected)


# --- PEFT ---


@pytest.fixture
def peft():
    return pytest.importorskip("peft", reason="PEFT is not installed")


def lora(peft, **options):
    return peft.LoraConfig(r=2, **options)


@pytest.mark.parametrize("targets", [["0"], ["0", "head"], r".*\.0", "all-linear"])
def test_lora_after_attach_reaches_no_layer_of_the_guide_and_freezes_it_not_unseen(peft, targets, tmp_path):
    model = attach(base(), guide(dropout=0.0), at="encoder")
    before = copy.deepcopy(attached(model)[0].module.state_dict())
    adapted = peft.get_peft_model(model, lora(peft, target_modules=targets))
    assert not any("lora" in name and is_plugs(name) for name, _ in adapted.named_parameters())
    with pytest.warns(UserWarning, match="trains nothing: all its parameters were frozen after it was attached"):
        adapted.train()(clips())
    for place in attached(adapted):
        place.module.requires_grad_(True)
    assert [place.at for place in attached(adapted)] == ["encoder"]
    trained(adapted)
    after = attached(adapted)[0].module.state_dict()
    assert not torch.equal(before["conv1.lin_l.weight"], after["conv1.lin_l.weight"])
    expected = adapted(clips())
    save_plugin(adapted, tmp_path / "before merging")
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged(clips()), expected)
    assert merged is model
    assert [place.at for place in attached(merged)] == ["encoder"]
    save_plugin(merged, tmp_path / "after merging")
    for name in ("before merging", "after merging"):
        loads(tmp_path / name, bare(merged), expected)


@pytest.mark.parametrize("targets", [["0"], "all-linear"])
def test_a_guide_attached_after_lora_trains_with_it_and_survives_its_merge(peft, targets, tmp_path):
    adapted = peft.get_peft_model(base(), lora(peft, target_modules=targets))
    attach(adapted, guide(dropout=0.0), at="encoder")
    trained(adapted)
    expected = adapted(clips())
    save_plugin(adapted, tmp_path)
    adapted.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(base(), tmp_path / "adapter")
    again.base_model.model.encoder[1].load_state_dict(adapted.base_model.model.encoder[1].state_dict())
    loads(tmp_path, again, expected)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged(clips()), expected)
    loads(tmp_path, bare(merged), expected)


def test_a_guide_on_an_adapted_layer_is_said_to_go_with_it_when_adapters_are_merged(peft):
    adapted = peft.get_peft_model(base(), lora(peft, target_modules=["0"]))
    attach(adapted, guide(dropout=0.0), at="encoder.0")
    adapted(clips())
    merged = adapted.merge_and_unload()
    with pytest.warns(UserWarning, match="went away with its module, which was exchanged"):
        merged(clips())


@pytest.mark.parametrize("ran", [False, True])
def test_a_copied_part_that_is_merged_has_its_guide_and_nothing_went_away(peft, ran):
    config = lora(peft, target_modules=["head"], modules_to_save=["encoder"])
    adapted = peft.get_peft_model(attach(base(), guide(dropout=0.0), at="encoder"), config)
    if ran:
        adapted(clips())
    merged = adapted.merge_and_unload()
    merged(clips())
    assert attached(merged)[0].plug.calls == 1 + ran


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_guided_module_among_those_to_save_trains_its_copy_which_is_saved_and_merged(peft, when, tmp_path):
    config = lora(peft, target_modules=["head"], modules_to_save=["encoder"])
    if when == "before":
        adapted = peft.get_peft_model(attach(base(), guide(dropout=0.0), at="encoder"), config)
    else:
        adapted = attach(peft.get_peft_model(base(), config), guide(dropout=0.0), at="encoder")
    (place,) = attached(adapted)
    copied = adapted.base_model.model.encoder.modules_to_save["default"]
    assert place.module is attached(copied)[0].module
    first = place.module.conv1.lin_l.weight.detach().clone()
    trained(adapted)
    assert not torch.equal(place.module.conv1.lin_l.weight, first)
    expected = adapted(clips())
    save_plugin(adapted, tmp_path)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged(clips()), expected)
    assert attached(merged)[0].module is place.module
    loads(tmp_path, bare(merged), expected)


def test_adapters_that_are_off_leave_the_guide_on(peft):
    adapted = attach(peft.get_peft_model(base(), lora(peft, target_modules=["0"])), guide(), at="encoder").eval()
    with adapted.disable_adapter():
        guided = adapted(clips())
        with disabled(adapted):
            torch.testing.assert_close(adapted(clips()), base()(clips()))
        assert not torch.equal(guided, base()(clips()))


class Linear(nn.Module):
    """A guide of somebody's own, with a layer that LoRA knows."""

    def __init__(self):
        super().__init__()
        self.dim, self.mix = DIM, nn.Linear(DIM, DIM)

    def forward(self, clips):
        return self.mix(clips)


def test_lora_in_a_guide_of_ones_own_is_said_and_not_saved_until_it_is_merged(peft, tmp_path):
    model = attach(base(), Linear(), at="encoder")
    adapted = peft.get_peft_model(model, lora(peft, target_modules="all-linear"))
    with pytest.warns(UserWarning, match=r"has layers that PEFT adapts.*exclude_modules"):
        adapted.train()(clips())
    with pytest.raises(ValueError, match=r"has layers that PEFT adapts; call merge_and_unload\(\)"):
        save_plugin(adapted, tmp_path)
    merged = adapted.merge_and_unload()
    save_plugin(merged, tmp_path)
    excluded = peft.get_peft_model(
        attach(base(), Linear(), at="encoder"),
        lora(peft, target_modules="all-linear", exclude_modules=r".*\.mag2\..*"),
    )
    assert not any("lora" in name and is_plugs(name) for name, _ in excluded.named_parameters())


# --- timm ---


@pytest.fixture
def timm():
    return pytest.importorskip("timm", reason="timm is not installed")


def vit(timm):
    torch.manual_seed(7)
    options = {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    return timm.create_model("vit_tiny_patch16_224", pretrained=False, **options)


@pytest.mark.parametrize("kind", ["ModelEmaV2", "ModelEmaV3"])
def test_an_average_of_timm_follows_the_guide_and_saves_it_under_bare_names(timm, kind, tmp_path):
    from timm import utils

    model = attach(base().train(), guide(dropout=0.0), at="encoder")
    mean = getattr(utils, kind)(model, decay=0.5)
    mean.update(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(clips()).square().sum().backward()
    first = attached(model)[0].module.conv1.lin_l.weight.detach().clone()
    optimizer.step()
    mean.update(model)
    ours = attached(mean)[0].module.conv1.lin_l.weight
    torch.testing.assert_close(ours, (first + attached(model)[0].module.conv1.lin_l.weight) / 2)
    save_plugin(mean, tmp_path)
    loads(tmp_path, bare(mean.module), mean.module.eval()(clips()))


def test_blocks_of_timm_that_are_checkpointed_or_read_one_by_one_are_said_to_run_unguided(timm):
    images = torch.randn(2, 3, 32, 32)
    model = attach(vit(timm), guide(16), at="blocks").train()
    model(images)
    other = copy.deepcopy(model)
    other.forward_intermediates(images)
    other.set_grad_checkpointing()
    with pytest.warns(UserWarning, match="was not called while its model ran in training mode"):
        other(images)
    assert "never called" in repr(attached(other)[0])
    inside = attach(vit(timm), guide(16), at="blocks.1").train()
    inside.set_grad_checkpointing()
    inside(images).sum().backward()
    assert attached(inside)[0].module.conv1.lin_l.weight.grad is not None


# --- Lightning ---


@pytest.mark.slow
def test_a_guide_trained_by_lightning_loads_into_the_bare_model(tmp_path):
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = attach(base().train(), guide(dropout=0.0), at="encoder")

        def training_step(self, batch, index):
            return self.backbone(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Module()
    options = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
        trainer.fit(module, torch.utils.data.DataLoader(clips(8, 5, DIM), batch_size=4))
    assert [place.at for place in attached(module)] == ["backbone.encoder"]
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = Module.load_from_checkpoint(tmp_path / "last.ckpt")
    expected = module.backbone.eval()(clips())
    torch.testing.assert_close(again.backbone.eval()(clips()), expected)
    save_plugin(module, tmp_path / "plugin")
    loads(tmp_path / "plugin", bare(module.backbone), expected)
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    wrapped = fabric.setup(copy.deepcopy(module.backbone))
    save_plugin(wrapped, tmp_path / "fabric")
    loads(tmp_path / "fabric", bare(module.backbone), expected)


# --- Accelerate ---


@pytest.fixture
def accelerate():
    return pytest.importorskip("accelerate", reason="Accelerate is not installed")


def test_a_guide_trains_under_an_accelerator(accelerate, tmp_path):
    accelerator = accelerate.Accelerator(cpu=True)
    model = attach(base().train(), guide(dropout=0.0), at="encoder")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer = accelerator.prepare(model, optimizer)
    first = attached(model)[0].module.conv1.lin_l.weight.detach().clone()
    for _ in range(3):
        accelerator.backward(model(clips()).square().sum())
        optimizer.step()
        optimizer.zero_grad()
    assert not torch.equal(attached(model)[0].module.conv1.lin_l.weight, first)
    save_plugin(model, tmp_path)
    loads(tmp_path, bare(accelerator.unwrap_model(model)), model.eval()(clips()))


def test_an_optimizer_prepared_before_attach_is_said_not_to_move_the_guide(accelerate):
    accelerator = accelerate.Accelerator(cpu=True)
    model = base().train()
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    attach(model, guide(dropout=0.0), at="encoder")
    accelerator.backward(model(clips()).square().sum())
    with pytest.warns(UserWarning, match="no optimizer moves it"):
        optimizer.step()


@pytest.mark.parametrize("at", ["encoder", "encoder.0", ["encoder", "head"]])
def test_a_guide_of_an_offloaded_model_runs_and_is_saved_whole(accelerate, at, tmp_path):
    class Deep(Scorer):
        def __init__(self):
            super().__init__()
            self.head = nn.Sequential(nn.Linear(DIM, DIM))

        def forward(self, features):
            return self.head(self.encoder(features)).mean(dim=(1, 2))

    torch.manual_seed(7)
    model = attach(Deep().eval(), guide(), at=at)
    expected = model(clips())
    plain = bare(model)
    offloaded = accelerate.cpu_offload(copy.deepcopy(model), execution_device=torch.device("cpu"))
    torch.testing.assert_close(offloaded(clips()), expected)
    save_plugin(offloaded, tmp_path)
    loads(tmp_path, copy.deepcopy(plain), expected)
    late = accelerate.cpu_offload(copy.deepcopy(plain), execution_device=torch.device("cpu"))
    load_plugin(late, tmp_path)
    assert not any(value.is_meta for place in attached(late) for value in place.module.state_dict().values())
    torch.testing.assert_close(late(clips()), expected)
    save_plugin(late, tmp_path / "late")
    loads(tmp_path / "late", copy.deepcopy(plain), expected)


def test_a_plugin_loads_into_a_model_without_weights_which_gets_its_own_later(accelerate, tmp_path):
    model = trained(attach(base(), guide(), at="encoder"))
    save_plugin(model, tmp_path / "plugin")
    plain = bare(model)
    torch.save(plain.state_dict(), tmp_path / "base.pt")
    with accelerate.init_empty_weights():
        empty = Scorer()
    load_plugin(empty, tmp_path / "plugin")
    assert not any(value.is_meta for value in attached(empty)[0].module.state_dict().values())
    accelerate.load_checkpoint_in_model(empty, str(tmp_path / "base.pt"))
    torch.testing.assert_close(empty.eval()(clips()), model(clips()))


# --- transformers ---


@pytest.fixture
def bert():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(7)
    return transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes)).eval()


@pytest.mark.parametrize(
    ("at", "options"),
    [
        ("encoder", {"item": "last_hidden_state"}),
        ("", {"item": "last_hidden_state"}),
        ("", {"item": 0}),
        ("encoder.layer.1", {}),
        ("embeddings", {}),
    ],
)
def test_an_encoder_of_transformers_is_guided_saved_and_trained(bert, at, options, tmp_path):
    tokens = torch.arange(14).view(2, 7)
    plain = bert(tokens).last_hidden_state
    keys = list(bert.state_dict())
    attach(bert, guide(16, dropout=0.0), at=at, **options)
    guided = bert(tokens)
    assert type(guided).__name__.endswith("AndCrossAttentions")
    assert not torch.equal(guided.last_hidden_state, plain)
    bert.train()
    bert.gradient_checkpointing_enable()
    bert(tokens).last_hidden_state.sum().backward()
    assert attached(bert)[0].module.conv1.lin_l.weight.grad is not None
    save_plugin(bert, tmp_path)
    bert.eval()
    guided = bert(tokens).last_hidden_state
    detach(bert)
    assert list(bert.state_dict()) == keys
    torch.testing.assert_close(bert(tokens).last_hidden_state, plain)
    load_plugin(bert, tmp_path)
    torch.testing.assert_close(bert(tokens).last_hidden_state, guided)


def test_the_layers_of_transformers_are_refused_as_a_list_and_its_hidden_states_are_unguided(bert):
    with pytest.raises(ValueError, match="a ModuleList is gone through and not called"):
        attach(bert, guide(16), at="encoder.layer")
    tokens = torch.arange(14).view(2, 7)
    attach(bert, guide(16), at="encoder", item="last_hidden_state")
    output = bert(tokens, output_hidden_states=True)
    with disabled(bert):
        plain = bert(tokens, output_hidden_states=True)
    torch.testing.assert_close(output.hidden_states[1], plain.hidden_states[1])


def test_a_guided_model_of_transformers_saves_its_base_and_its_plugin_apart(bert, tmp_path):
    tokens = torch.arange(14).view(2, 7)
    attach(bert, guide(16), at="encoder", item="last_hidden_state")
    expected = bert(tokens).last_hidden_state
    save_plugin(bert, tmp_path / "plugin")
    bare(bert).save_pretrained(tmp_path / "base")
    again = type(bert).from_pretrained(tmp_path / "base").eval()
    load_plugin(again, tmp_path / "plugin")
    torch.testing.assert_close(again(tokens).last_hidden_state, expected)


# --- torchao ---


def test_weights_quantised_by_torchao_leave_the_guide_in_full_precision(tmp_path):
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    model = attach(base(), [guide(), guide()], at=["encoder", "encoder.0"])
    expected = model(clips())
    save_plugin(model, tmp_path / "before")
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    torch.testing.assert_close(model(clips()), expected, atol=0.1, rtol=0.1)
    for place in attached(model):
        assert all(type(value.data) is torch.Tensor for value in place.module.state_dict().values())
    save_plugin(model, tmp_path / "after")
    for name in ("plugin.json", "plugin.safetensors"):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()
    detach(model)
    load_plugin(model, tmp_path / "after")
    torch.testing.assert_close(model(clips()), expected, atol=0.1, rtol=0.1)
