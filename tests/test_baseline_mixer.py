"""Skating-Mixer: the released numbers in released mode, and by default no clip or video meets another's padding."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mag2.baselines.mixer import MixerBlock, SkatingMixer
from tests.golden import Golden, golden, names

LABEL = torch.tensor([0.2, 0.5, 0.9])


def small(**options) -> SkatingMixer:
    torch.manual_seed(0)
    return SkatingMixer(**{"visual_dim": 12, "audio_dim": 12, "video_tokens": 2, "dim": 16, **options})


def performances(length: int = 7, batch: int = 3, tokens: int = 2, width: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    visual = torch.randn(batch, length, tokens, 12, generator=generator)
    return visual, torch.randn(batch, length, width, generator=generator)


def released_inputs(g: Golden) -> tuple[Tensor, Tensor, Tensor]:
    """Visual and audio, padded at their end, and their lengths."""
    visual, audio = ([g.input(f"{name}_{i}") for i in range(g.meta["batch"])] for name in ("video", "audio"))
    lengths = torch.tensor([[len(v), len(a)] for v, a in zip(visual, audio, strict=True)])
    return pad_sequence(visual, batch_first=True), pad_sequence(audio, batch_first=True), lengths


def loop(model: SkatingMixer, visual: Tensor, audio: Tensor) -> Tensor:
    """The scores before any clamp, restated: one direction after the other, one clip after the other, all tokens."""
    directions = []
    for backward in (False, True):
        sights, sounds = (visual.flip(1), audio.flip(1)) if backward else (visual, audio)
        memory, summary = (each.expand(len(visual), 1, -1) for each in (model.hidden_state, model.cls_token))
        outputs = []
        for t in range(visual.shape[1]):
            clip = model.linear1(torch.cat([sounds[:, t, None], sights[:, t]], dim=1))
            tokens = torch.cat([summary, clip, memory] if backward else [memory, clip, summary], dim=1)
            for block in model.linear_forward:
                tokens = block(tokens)
            memory, output = (tokens[:, -1:], tokens[:, 0]) if backward else (tokens[:, :1], tokens[:, -1])
            outputs.append(model.hidden_linear(output))
        directions.append(torch.stack(outputs, dim=1).mean(dim=1))
    return model.output((directions[0] + directions[1]) / 2).flatten()


# --- the released code -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", names("mixer_*"))
def test_scores_losses_and_gradients_are_the_released_ones(case):
    g = golden(case)
    model = SkatingMixer.from_released(g.state_dict)
    visual, audio, lengths = released_inputs(g)
    output = model(visual, audio, lengths=lengths)
    loss = model.loss(output, g.input("label"))["total"]
    loss.backward()
    g.check("out/score", output["score"])
    g.check("out/loss", loss)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, theirs in g.under("grad").items():
        g.check(f"grad/{name}", gradients.pop(name).reshape(theirs.shape))  # a kernel of 1 is dropped here
    assert [name for name, gradient in gradients.items() if gradient is not None] == []
    assert not g.uncompared()


def test_the_parameter_total_is_the_released_one():
    assert sum(p.numel() for p in SkatingMixer(video_tokens=15).parameters()) == 4_867_829


def test_a_released_checkpoint_loads_with_the_prefix_of_data_parallel_and_shows_its_sizes():
    source = small(released=True, depth=3).eval()
    weights = {f"module.{key}": value for key, value in source.state_dict().items()}
    loaded = SkatingMixer.from_released(weights)
    assert loaded.released
    assert not loaded.training
    assert (loaded.video_tokens, len(loaded.linear_forward)) == (2, 3)
    assert torch.equal(loaded(*performances())["score"], source(*performances())["score"])
    del weights["module.linear_forward.1.0.norm.bias"]
    with pytest.raises(ValueError, match=r"fit SkatingMixer \(missing: linear_forward.1.0.norm.bias\)$"):
        SkatingMixer.from_released(weights)


def test_released_a_shorter_video_has_a_score_that_depends_on_its_batch_and_by_default_not():
    visual, audio = performances(length=7)
    lengths = torch.tensor([7, 4, 1])
    for released in (False, True):
        model = small(released=released).eval()
        together = model(visual, audio, lengths=lengths)["features"]
        alone = torch.cat(
            [model(visual[i : i + 1, :n], audio[i : i + 1, :n])["features"] for i, n in enumerate(lengths.tolist())]
        )
        moved = (together - alone).abs().amax(dim=1)
        assert moved[0] < 1e-5
        assert (moved[1:] < 1e-5).all() if not released else (moved[1:] > 1e-3).all()


@pytest.mark.parametrize("released", [False, True])
def test_modalities_may_be_padded_each_to_its_own_longest(released):
    model = small(released=released).eval()
    visual, audio = performances(length=7)
    lengths = torch.tensor([[5, 7], [2, 2], [3, 6]])
    apart = model(visual[:, :5], audio, lengths=lengths)["features"]
    torch.testing.assert_close(apart, model(visual, audio, lengths=lengths)["features"])


@pytest.mark.parametrize("released", [False, True])
def test_padding_beyond_the_longest_video_changes_nothing(released):
    model = small(released=released).eval()
    visual, audio = performances(length=7)
    lengths = torch.tensor([[5, 4], [2, 2], [3, 5]])
    expected = model(visual[:, :5], audio[:, :5], lengths=lengths)["features"]
    torch.testing.assert_close(model(visual, audio, lengths=lengths)["features"], expected)


def test_released_each_modality_is_reversed_by_itself_and_by_default_both_by_the_shorter_one():
    visual, audio = performances(length=7)
    lengths = torch.tensor([[7, 5], [6, 7], [3, 7]])
    ours, theirs = small().eval(), small(released=True).eval()
    shorter = lengths.min(dim=1).values
    cut, both = ours(visual, audio, lengths=shorter)["features"], ours(visual, audio, lengths=lengths)["features"]
    torch.testing.assert_close(both, cut)
    moved = theirs(visual, audio, lengths=lengths)["features"] - theirs(visual, audio, lengths=shorter)["features"]
    assert moved.abs().amax(dim=1).min() > 1e-3


def test_where_nothing_is_padded_ours_is_the_released_one_but_for_the_clamp():
    ours, theirs = small().eval(), small(released=True).eval()
    for model in (ours, theirs):
        torch.nn.init.constant_(model.output.linear.bias, 0.5)
    score = theirs(*performances())["score"]
    torch.testing.assert_close(ours(*performances())["score"], score.clamp(0, 1))
    torch.testing.assert_close(ours.train()(*performances())["score"], score)


# --- fast equals slow --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "tokens", "length"), [(1, 1, 1), (2, 2, 7), (3, 4, 5)])
def test_both_directions_as_one_batch_are_a_loop_over_clips_in_value_and_gradient(depth, tokens, length):
    fast = small(depth=depth, video_tokens=tokens).double()
    slow = copy.deepcopy(fast)
    given = [clips.double() for clips in performances(length, tokens=tokens)]
    expected = loop(slow, *given)
    score = fast(*given)["score"]
    torch.testing.assert_close(score, expected)
    score.square().sum().backward()
    expected.square().sum().backward()
    for (name, ours), theirs in zip(fast.named_parameters(), slow.parameters(), strict=True):
        if ours.requires_grad:
            torch.testing.assert_close(ours.grad, theirs.grad, msg=lambda m, name=name: f"{name}: {m}")


def test_a_block_is_its_formula_token_by_token_and_channel_by_channel():
    block = MixerBlock(5, 6, dropout=0.0)
    tokens = torch.randn(2, 5, 6)
    along_tokens, along_channels = block
    mixed, normed = tokens.clone(), along_tokens.norm(tokens)
    for channel in range(6):
        mixed[:, :, channel] += along_tokens.fn(normed[:, :, channel])
    expected, normed = mixed.clone(), along_channels.norm(mixed)
    for token in range(5):
        expected[:, token] += along_channels.fn(normed[:, token])
    torch.testing.assert_close(block(tokens), expected)
    torch.testing.assert_close(block(tokens, ends=True), expected[:, [0, -1]])


# --- ours --------------------------------------------------------------------------------------------------


def test_the_default_model_takes_features_whose_crops_are_averaged():
    """As the loaders give them: (B, T, D), one video token a clip."""
    visual, audio = performances(tokens=1)
    model = small(video_tokens=1).eval()
    assert torch.equal(model(visual[:, :, 0], audio)["score"], model(visual, audio)["score"])
    assert SkatingMixer().video_tokens == 1


def test_modalities_of_different_width_have_a_linear_layer_each():
    model = small(audio_dim=10)
    model.loss(model(*performances(width=10)), LABEL)["total"].backward()
    assert model.linear_audio.weight.grad.any()
    assert not any(key.startswith("linear_audio") for key in small().state_dict())
    with pytest.raises(ValueError, match="visual_dim is 12 and audio_dim 10; released=True has one linear layer"):
        small(audio_dim=10, released=True)


def test_scores_are_kept_within_0_and_1_in_evaluation_alone():
    model = small().train()
    torch.nn.init.constant_(model.output.linear.bias, 5.0)
    output = model(*performances())
    assert (output["score"] > 1).all()
    model.loss(output, LABEL)["total"].backward()
    assert model.output.linear.bias.grad.abs() > 1
    assert torch.equal(model.eval()(*performances())["score"], torch.ones(3))
    assert (small(released=True).eval()(*performances())["score"] < 1).all()


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("released", [False, True])
def test_what_stands_in_the_padding_does_not_matter(length, released):
    model = small(released=released).eval()
    given = performances()
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[:, :length] = True
    lengths = torch.full((3,), length)
    zeros = [clips.masked_fill(~mask.view(3, 7, *[1] * (clips.dim() - 2)), 0) for clips in given]
    expected = model(*zeros, lengths=lengths)["score"]
    for rubbish in (7.0, float("nan")):
        padded = [clips.masked_fill(~mask.view(3, 7, *[1] * (clips.dim() - 2)), rubbish) for clips in given]
        assert torch.equal(model(*padded, lengths=lengths)["score"], expected)
        assert torch.equal(model(*padded, clip_mask=mask)["score"], expected)


def test_the_order_of_clips_matters_by_the_memory_alone():
    model = small().eval()
    given = performances()
    turned = [clips.roll(2, dims=1) for clips in given]
    assert (model(*given)["features"] - model(*turned)["features"]).abs().max() > 1e-4
    # Without what the tokens' MLPs read of the memory, a clip's output is its own.
    with torch.no_grad():
        for block in model.linear_forward:
            block[0].fn[0].weight[:, [0, -1]] = 0
    torch.testing.assert_close(model(*given)["features"], model(*turned)["features"])


def test_evaluation_is_deterministic_and_training_drops_out():
    model = small(dropout=0.5).eval()
    given = performances()
    assert torch.equal(model(*given)["score"], model(*given)["score"])
    model.train()
    assert not torch.equal(model(*given)["score"], model(*given)["score"])
    model = small().train()
    assert torch.equal(model(*given)["score"], model(*given)["score"])


@pytest.mark.parametrize("length", [1, 7])
def test_the_loss_is_the_squared_error_and_reaches_every_parameter(length):
    model = small()
    output = model(*performances(length))
    terms = model.loss(output, LABEL)
    torch.testing.assert_close(terms["mse"], ((output["score"] - LABEL) ** 2).mean())
    assert terms["total"] is terms["mse"]
    terms["total"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ["layer_norm.weight", "layer_norm.bias"]
    assert not model.layer_norm.weight.requires_grad


def test_a_few_steps_lower_the_loss():
    model = small()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss = model.loss(model(*performances()), LABEL)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_it_trains_under_autocast_and_compiles():
    model, given = small(), performances()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(*given)
    torch.testing.assert_close(output["score"].float(), model(*given)["score"], rtol=0, atol=0.05)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*performances(2))["score"], model(*performances(2))["score"])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, v, a: m(v), "SkatingMixer wants visual and audio features; audio is not given"),
        (lambda m, v, a: m(v, a[..., :5]), r"audio is .*give SkatingMixer \(videos, clips, 12\)"),
        (lambda m, v, a: m(v, a[0]), r"audio is .*give SkatingMixer \(videos, clips, 12\)"),
        (lambda m, v, a: m(v[..., :5], a), r"visual is .*give SkatingMixer \(videos, clips, video tokens, 12\)"),
        (lambda m, v, a: m(v[:, :0], a[:, :0]), "at least one clip"),
        (lambda m, v, a: m(v[:, :, 0], a), "visual has 1 tokens a clip and this SkatingMixer mixes 2"),
        (lambda m, v, a: m(v, a[:, :5]), r"as many clips of each modality.*give lengths, \(3, 2\)"),
        (lambda m, v, a: m(v, a[:2]), "as many videos of each modality"),
        (lambda m, v, a: m(v, a, lengths=torch.tensor([7, 8, 1])), "visual lengths go from 1 to 8; .* 1 to 7 real"),
        (lambda m, v, a: m(v, a[:, :5], lengths=torch.tensor([7, 6, 5])), "audio lengths go from 5 to 7; .* 1 to 5"),
        (lambda m, v, a: m(v, a, lengths=torch.tensor([7, 1])), r"lengths are torch.int64 \(2,\)"),
        (lambda m, v, a: m(v, a, lengths=torch.ones(3)), r"lengths are torch.float32 \(3,\)"),
        (lambda m, v, a: m(v, a, clip_mask=torch.ones(3, 7)), r"True or False for each clip, \(3, 7\)"),
        (lambda m, v, a: m(v, a, clip_mask=torch.eye(3, 7).bool()), "a padded clip before a real one"),
        (
            lambda m, v, a: m(v, a, lengths=torch.ones(3).long(), clip_mask=torch.ones(3, 7).bool()),
            "lengths and clip_mask; give one of them",
        ),
        (lambda m, v, a: m.loss(m(v, a), LABEL[:, None]), "one number per video"),
        (lambda m, v, a: small(depth=0), "depth is 0; give 1 or more"),
        (lambda m, v, a: SkatingMixer.from_released({}), "no linear1.weight"),
    ],
)
def test_wrong_input_is_answered_with_what_to_give(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call(small(), *performances())
    assert "\n" not in str(caught.value)
