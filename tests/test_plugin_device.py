"""A guided model on a device: the CPU, and the GPU where there is one. What is attached follows the model."""

import copy
import io
import pickle

import pytest
import torch

from mag2 import attach, attached, detach, disabled, load_plugin, save_plugin
from mag2.alignment import edge_weights
from mag2.plugin import edge_weights_of
from tests.test_plugin import BATCH, CLIPS, Scorer, assert_as_before, clips, guide, snapshot

STARTS = ("residual", "identity", "replace")


def made(device, start="residual", **options):
    torch.manual_seed(0)
    return attach(Scorer().to(device), guide(dropout=0.0), at="encoder", start=start, **options)


def devices(model):
    return {tensor.device.type for tensor in model.state_dict().values()}


def learned(model, features):
    """The model after two steps, and the gradient of the second."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        model(features).square().mean().backward()
        optimizer.step()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("start", STARTS)
def test_a_guide_goes_to_where_the_model_is_and_computes_there_what_it_does_on_the_cpu(start, device):
    model, here = made(device, start), made("cpu", start)
    assert devices(model) == {device}
    output = model.eval()(clips().to(device))
    assert output.device.type == device
    torch.testing.assert_close(output.cpu(), here.eval()(clips()), rtol=1e-4, atol=1e-5)
    moved = here.to(device)
    torch.testing.assert_close(moved(clips().to(device)), output)


@pytest.mark.parametrize("freeze", [False, True])
def test_it_learns_there_and_detach_gives_the_model_back(freeze, device):
    model = Scorer().to(device)
    before = snapshot(model)
    attach(model, guide(dropout=0.0), at="encoder", freeze=freeze)
    gradients = learned(model.eval(), clips().to(device))
    assert {gradient.device.type for gradient in gradients.values()} == {device}
    assert any(gradient.any() for name, gradient in gradients.items() if "mag2" in name.split("."))
    detach(model.train())
    if freeze:
        assert_as_before(model, before)
    assert devices(model) == {device}


def test_disabled_and_copies_compute_there_what_they_should(device):
    features = clips().to(device)
    plain = Scorer().to(device).eval()
    model = attach(copy.deepcopy(plain), guide(), at="encoder").eval()
    with disabled(model):
        assert torch.equal(model(features), plain(features))
    stored = io.BytesIO()
    torch.save(model, stored)
    stored.seek(0)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(stored, weights_only=False),
    ):
        assert devices(other) == {device}
        assert torch.equal(other(features), model(features))


@pytest.mark.parametrize("start", STARTS)
def test_a_folder_that_was_saved_on_one_device_loads_on_the_other(start, device, tmp_path):
    model = made(device, start)
    learned(model.eval(), clips().to(device))
    expected = model(clips().to(device))
    save_plugin(model, tmp_path)
    for target in {"cpu", device}:
        loaded = load_plugin(detach(copy.deepcopy(model)).to(target), tmp_path).eval()
        assert devices(loaded) == {target}
        output = loaded(clips().to(target))
        torch.testing.assert_close(output.to(device), expected, rtol=1e-4, atol=1e-5)


def test_half_precision_and_autocast_run_there(device):
    model, features = made(device).eval(), clips().to(device)
    exact = model(features)
    with torch.autocast(device, torch.bfloat16):
        mixed = model(features)
    torch.testing.assert_close(mixed.float(), exact, rtol=0, atol=0.1)
    half = model.to(torch.bfloat16)(features.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.1)


def test_a_folded_guide_and_weighted_edges_run_there(device):
    features = clips().to(device)
    model = made(device).eval()
    (place,) = attached(model)
    folded = place.module.fold()
    inside = model.encoder(features)
    assert folded(features).device.type == device
    torch.testing.assert_close(folded(inside), place.module(inside), rtol=1e-4, atol=1e-5)
    weights = edge_weights(torch.rand(BATCH, CLIPS, 4, generator=torch.Generator().manual_seed(2)).to(device))
    with edge_weights_of(model, weights):
        weighted = model(features)
    assert weighted.device.type == device
    assert not torch.equal(weighted, model(features))
