"""M-BERT (Late): a third transformer joins what two say of sight and sound; all three share a factor of each matrix."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mag2.baselines.mbert import Bert, MBertLate, shared_factors

LABEL = torch.tensor([0.2, 0.5, 0.9])
SMALL = {"visual_dim": 12, "audio_dim": 10, "dim": 16, "n_heads": 2, "n_layers": 2, "n_joint": 2}


def small(**options) -> MBertLate:
    torch.manual_seed(0)
    return MBertLate(**{**SMALL, "rank": 6, "dropout": 0.0, **options})


def performances(length: int = 7, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, 12, generator=generator), torch.randn(batch, length, 10, generator=generator)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_a_transformer_is_torchs_with_the_composed_matrices_in_every_layer(n_layers):
    bert = Bert(dim=16, n_heads=2, n_layers=n_layers, feed_forward=24, rank=6, dropout=0.0)
    shared = shared_factors(16, 24, 6)
    for parameter in bert.parameters():
        nn.init.normal_(parameter, mean=0.5, std=0.2)

    def matrix(name):
        return shared[name] @ torch.diag(bert.scales[name]) @ bert.factors[name].T

    layer = nn.TransformerEncoderLayer(16, 2, 24, 0.0, "gelu", batch_first=True, norm_first=True)
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([matrix("query"), matrix("key"), matrix("value")]),
            "self_attn.in_proj_bias": torch.cat([bert.biases["query"], torch.zeros(16), bert.biases["value"]]),
            "self_attn.out_proj.weight": matrix("out"),
            "self_attn.out_proj.bias": bert.biases["out"],
            "linear1.weight": matrix("up"),
            "linear1.bias": bert.biases["up"],
            "linear2.weight": matrix("down"),
            "linear2.bias": bert.biases["down"],
            **{f"norm1.{name}": value for name, value in bert.attention_norm.state_dict().items()},
            **{f"norm2.{name}": value for name, value in bert.feed_forward_norm.state_dict().items()},
        }
    )
    tokens = torch.randn(3, 5, 16)
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True] + [False] * 4])
    for mask in (None, real):
        expected = tokens
        for _ in range(n_layers):
            expected = layer(expected, src_key_padding_mask=None if mask is None else ~mask)
        torch.testing.assert_close(bert(tokens, shared, mask), bert.norm(expected), rtol=1e-4, atol=1e-4)


def test_layers_share_a_transformers_parameters_and_transformers_share_one_factor():
    total = {n: sum(p.numel() for p in small(n_layers=n, n_joint=n).parameters()) for n in (1, 6)}
    assert total[1] == total[6]
    model = small()
    berts = (model.encode_visual, model.encode_audio, model.encode_both)
    assert not any(name.startswith("shared") for bert in berts for name, _ in bert.named_parameters())
    (berts[0](torch.randn(1, 4, 16), model.shared).sum()).backward()
    assert all(p.grad.any() for p in model.shared.values())
    assert all(p.grad is None for bert in berts[1:] for p in bert.parameters())


def test_the_three_transformers_have_the_size_of_the_paper():
    """128 million without sharing, some 4 million with it."""
    torch_layer = nn.TransformerEncoderLayer(768, 12, 3072)
    assert round(3 * 6 * sum(p.numel() for p in torch_layer.parameters()) / 1e6) == 128
    model = MBertLate()
    shared = [model.shared, model.encode_visual, model.encode_audio, model.encode_both]
    assert round(sum(p.numel() for part in shared for p in part.parameters()) / 1e6) == 4
    assert sum(p.numel() for p in model.parameters()) == 5_152_513


def test_modalities_meet_in_the_joint_transformer_and_without_it_at_the_score_alone():
    visual, audio = performances()
    other = audio.flip(0)
    joint, apart = small().eval(), small(n_joint=0).eval()
    assert (joint(visual, audio)["visual_summary"] - joint(visual, other)["visual_summary"]).abs().max() > 1e-4
    assert torch.equal(apart(visual, audio)["visual_summary"], apart(visual, other)["visual_summary"])
    for model in (joint, apart):
        first, second = model(visual, audio)["score"], model(visual, other)["score"]
        assert (first - second)[[0, 2]].abs().min() > 1e-6  # the middle one has kept its sound


@pytest.mark.parametrize("n_joint", [0, 2])
@pytest.mark.parametrize("modality", [0, 1])
@pytest.mark.parametrize("length", [1, 7])
def test_every_clip_and_every_sound_reaches_the_score(n_joint, modality, length):
    given = [clips.requires_grad_() for clips in performances(length)]
    small(n_joint=n_joint).eval()(*given)["score"].sum().backward()
    assert given[modality].grad.abs().sum(dim=-1).min() > 0


def test_the_order_of_clips_matters_by_the_codes_of_place_alone():
    visual, audio = performances()
    model = small().eval()
    turned = visual.flip(1), audio.flip(1)
    assert (model(visual, audio)["score"] - model(*turned)["score"]).abs().min() > 1e-6
    nn.init.zeros_(model.places)
    torch.testing.assert_close(model(visual, audio)["score"], model(*turned)["score"])


@pytest.mark.parametrize("length", [1, 4])
def test_padding_changes_nothing_whatever_stands_in_it(length):
    model = small().eval()
    visual, audio = performances()
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[:, :length] = True
    expected = model(visual[:, :length], audio[:, :length])
    for rubbish in (0.0, 7.0, float("nan")):
        padded = [clips.masked_fill(~mask[..., None], rubbish) for clips in (visual, audio)]
        output = model(*padded, clip_mask=mask)
        for name, value in expected.items():
            torch.testing.assert_close(output[name], value)


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


@pytest.mark.parametrize("n_joint", [0, 2])
@pytest.mark.parametrize("length", [1, 7])
def test_the_loss_is_the_squared_error_and_reaches_every_parameter(n_joint, length):
    model = small(n_joint=n_joint)
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


def test_layers_that_share_a_matrix_start_by_adding_together_what_one_would():
    model = MBertLate(dim=96, n_heads=4, n_layers=5)
    for name, matrix in model.encode_visual.matrices(model.shared).items():
        expected = 0.2 if name in ("out", "down") else 1.0
        assert matrix.std().item() * matrix.shape[1] ** 0.5 == pytest.approx(expected, rel=0.2), name


def test_save_and_load_give_the_same_scores():
    source, target = small(), MBertLate(**SMALL, rank=6)
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


def test_the_score_is_read_from_the_two_summaries():
    model = small().eval()
    output = model(*performances())
    read = torch.cat([output["visual_summary"], output["audio_summary"]], dim=-1)
    expected = torch.sigmoid(F.linear(read, model.regressor.weight, model.regressor.bias))
    torch.testing.assert_close(output["score"][:, None], expected)


def test_wrong_input_is_answered_with_what_to_give():
    model = small(max_len=7).eval()
    visual, audio = performances()
    with pytest.raises(ValueError, match="MBertLate wants visual and audio features; audio is not given"):
        model(visual)
    with pytest.raises(ValueError, match=r"audio is .*give MBertLate \(videos, clips, 10\)"):
        model(visual, audio[..., :5])
    with pytest.raises(ValueError, match="as many clips of each modality"):
        model(visual, audio[:, :5])
    with pytest.raises(ValueError, match="got 8 clips and knows 7 places; give max_len"):
        model(*performances(8))
    with pytest.raises(ValueError, match="one number per video"):
        model.loss(model(visual, audio), LABEL[:, None])
    with pytest.raises(ValueError, match="does not divide into 3 heads"):
        small(n_heads=3)
    with pytest.raises(ValueError, match="n_joint is -1"):
        small(n_joint=-1)
    with pytest.raises(ValueError, match="rank is 0; give 1 or more"):
        small(rank=0)
