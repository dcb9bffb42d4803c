"""Skating-Mixer: a memory carries what was seen from segment to segment, whatever the length of the performance."""

import pytest
import torch

from mag2.baselines.mixer import MixerLayer, SkatingMixer

LABEL = torch.tensor([0.2, 0.5, 0.9])


def small(**options) -> SkatingMixer:
    torch.manual_seed(0)
    return SkatingMixer(
        **{"visual_dim": 12, "audio_dim": 10, "dim": 16, "segment": 4, "n_memory": 2, "dropout": 0.0, **options}
    )


def performances(length: int = 11, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, 12, generator=generator), torch.randn(batch, length, 10, generator=generator)


def forgetful(model: SkatingMixer) -> SkatingMixer:
    """The model, every step of which finds the memory as it is before the first one."""
    model.unit.register_forward_pre_hook(lambda unit, given: (*given[:2], model.memory.expand_as(given[2])))
    return model


def reading(model: SkatingMixer, memory: bool) -> SkatingMixer:
    """The model, whose score reads the memory alone, or all but the memory."""
    weight = model.regressor[-1].weight
    with torch.no_grad():
        weight[:, 16:] *= not memory
        weight[:, :16] *= memory
    return model


def test_a_mixer_layer_is_its_formula_token_by_token_and_channel_by_channel():
    layer = MixerLayer(5, 6, 7, 8, dropout=0.0)
    tokens = torch.randn(2, 5, 6)
    mixed, normed = tokens.clone(), layer.token_norm(tokens)
    for channel in range(6):
        mixed[:, :, channel] += layer.mix_tokens(normed[:, :, channel])
    expected, normed = mixed.clone(), layer.channel_norm(mixed)
    for token in range(5):
        expected[:, token] += layer.mix_channels(normed[:, token])
    torch.testing.assert_close(layer(tokens), expected)


def test_the_model_is_a_loop_over_segments():
    model = small().eval()
    visual, audio = performances(length=8)
    memory = model.memory.expand(3, -1, -1)
    means = []
    for i in (0, 4):
        mixed, memory = model.unit(
            model.embed_visual(visual[:, i : i + 4]), model.embed_audio(audio[:, i : i + 4]), memory
        )
        means.append(mixed.mean(dim=1))
    output = model(visual, audio)
    torch.testing.assert_close(output["segments"], torch.stack(means, dim=1))
    torch.testing.assert_close(output["memory"], memory)
    read = torch.cat([memory.mean(dim=1), (means[0] + means[1]) / 2], dim=-1)
    torch.testing.assert_close(output["score"], torch.sigmoid(model.regressor(read))[:, 0])


@pytest.mark.parametrize("modality", [0, 1])
def test_what_the_first_segment_shows_is_heard_in_later_ones_through_the_memory_alone(modality):
    given = performances(length=12)
    changed = [clips.clone() for clips in given]
    changed[modality][:, :4] += 1
    remembering, forgetting = small().eval(), forgetful(small()).eval()
    assert (remembering(*given)["segments"] - remembering(*changed)["segments"])[:, 2].abs().min() > 1e-6
    assert torch.equal(forgetting(*given)["segments"][:, 1:], forgetting(*changed)["segments"][:, 1:])

    remembering, forgetting = reading(remembering, memory=True), reading(forgetting, memory=True)
    assert (remembering(*given)["score"] - remembering(*changed)["score"]).abs().min() > 1e-6
    assert torch.equal(forgetting(*given)["score"], forgetting(*changed)["score"])


def test_the_order_of_segments_matters_by_the_memory_alone():
    given = performances(length=12)
    turned = [clips.unflatten(1, (3, 4)).flip(1).flatten(1, 2) for clips in given]
    model = small().eval()
    assert (model(*given)["score"] - model(*turned)["score"]).abs().min() > 1e-6
    model = reading(forgetful(small()), memory=False).eval()
    torch.testing.assert_close(model(*given)["score"], model(*turned)["score"])


def test_the_order_of_clips_in_a_segment_matters():
    visual, audio = performances(length=4)
    model = small().eval()
    assert (model(visual, audio)["score"] - model(visual.flip(1), audio.flip(1))["score"]).abs().min() > 1e-6


@pytest.mark.parametrize("length", [1, 3, 4, 5, 11, 12])
def test_a_performance_may_have_any_length(length):
    output = small().eval()(*performances(length))
    assert output["score"].shape == (3,)
    assert ((output["score"] > 0) & (output["score"] < 1)).all()
    assert output["segments"].shape == (3, -(-length // 4), 16)
    assert output["memory"].shape == (3, 2, 16)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 11])
@pytest.mark.parametrize("modality", [0, 1])
def test_every_clip_and_every_sound_reaches_the_score(length, modality):
    model = small().eval()
    given = [clips.requires_grad_() for clips in performances(length)]
    model(*given)["score"].sum().backward()
    assert given[modality].grad.abs().sum(dim=-1).min() > 0


@pytest.mark.parametrize("length", [1, 3, 4, 6])
def test_padding_changes_nothing_whatever_stands_in_it(length):
    model = small().eval()
    visual, audio = performances(length=11)
    mask = torch.zeros(3, 11, dtype=torch.bool)
    mask[:, :length] = True
    expected = model(visual[:, :length], audio[:, :length])
    for rubbish in (0.0, 7.0, float("nan")):
        padded = [clips.masked_fill(~mask[..., None], rubbish) for clips in (visual, audio)]
        output = model(*padded, clip_mask=mask)
        for name in ("score", "memory"):
            torch.testing.assert_close(output[name], expected[name])
        torch.testing.assert_close(output["segments"][:, : -(-length // 4)], expected["segments"])
        assert not output["segments"][:, -(-length // 4) :].any()


def test_a_mask_that_hides_nothing_changes_nothing():
    model = small().eval()
    given = performances()
    masked = model(*given, clip_mask=torch.ones(3, 11, dtype=torch.bool))
    torch.testing.assert_close(masked["score"], model(*given)["score"])


def test_a_score_does_not_depend_on_its_batch():
    model = small().eval()
    visual, audio = performances()
    alone = torch.cat([model(visual[i : i + 1], audio[i : i + 1])["score"] for i in range(3)])
    torch.testing.assert_close(model(visual, audio)["score"], alone)


def test_evaluation_is_deterministic_and_training_drops_out():
    model = small(dropout=0.5).eval()
    given = performances()
    assert torch.equal(model(*given)["score"], model(*given)["score"])
    model.train()
    assert not torch.equal(model(*given)["score"], model(*given)["score"])


@pytest.mark.parametrize("length", [8, 11])
def test_the_loss_is_the_squared_error_and_reaches_every_parameter(length):
    model = small()
    output = model(*performances(length))
    terms = model.loss(output, LABEL)
    torch.testing.assert_close(terms["mse"], ((output["score"] - LABEL) ** 2).mean())
    assert terms["total"] is terms["mse"]
    terms["total"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_a_few_steps_lower_the_loss():
    model = small()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = model.loss(model(*performances()), LABEL)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_save_and_load_give_the_same_scores():
    source, target = small(), SkatingMixer(visual_dim=12, audio_dim=10, dim=16, segment=4, n_memory=2)
    target.load_state_dict(source.state_dict())
    given = performances()
    assert torch.equal(source.eval()(*given)["score"], target.eval()(*given)["score"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dtype_follows_the_input(dtype):
    model, given = small().eval(), performances()
    single, output = model(*given), model.to(dtype)(*(clips.to(dtype) for clips in given))
    assert {value.dtype for value in output.values()} == {dtype}
    tolerance = 1e-5 if dtype == torch.float64 else 0.05
    torch.testing.assert_close(output["score"].float(), single["score"], rtol=0, atol=tolerance)
    assert model.loss(output, LABEL)["total"].dtype == dtype


def test_sizes_are_free_and_the_default_ones_are_counted():
    assert small(n_memory=5, segment=3, n_layers=1)(*performances())["memory"].shape == (3, 5, 16)
    assert sum(p.numel() for p in SkatingMixer().parameters()) == 1_460_521


def test_wrong_input_is_answered_with_what_to_give():
    model = small().eval()
    visual, audio = performances()
    with pytest.raises(ValueError, match="SkatingMixer wants visual and audio features; audio is not given"):
        model(visual)
    for wrong in (audio[..., :5], audio[:, :0], audio[0]):
        with pytest.raises(ValueError, match=r"audio is .*give SkatingMixer \(videos, clips, 10\)"):
            model(visual, wrong)
    with pytest.raises(ValueError, match=r"visual is .*give SkatingMixer \(videos, clips, 12\)"):
        model(visual[..., :5], audio)
    for wrong in (audio[:, :5], audio[:2]):
        with pytest.raises(ValueError, match="as many clips of each modality"):
            model(visual, wrong)
    for wrong in (torch.ones(3, 5, dtype=torch.bool), torch.ones(3, 11)):
        with pytest.raises(ValueError, match=r"True or False for each clip, \(3, 11\)"):
            model(visual, audio, clip_mask=wrong)
    with pytest.raises(ValueError, match="one number per video"):
        model.loss(model(visual, audio), LABEL[:, None])
    with pytest.raises(ValueError, match="segment is 0; give 1 or more"):
        small(segment=0)
