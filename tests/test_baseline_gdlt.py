"""GDLT: equal to the released code number for number, and to the formula of its paper."""

import pytest
import torch

from mag2.baselines.gdlt import GDLT
from tests.golden import golden, names

CASES = names("gdlt_*") + names("cofinal_gdlt")


def small(**options) -> GDLT:
    torch.manual_seed(0)
    return GDLT(**{"in_dim": 12, "dim": 16, "n_heads": 2, **options})


def clips(batch: int = 3, length: int = 7) -> torch.Tensor:
    return torch.randn(batch, length, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", CASES)
def test_outputs_losses_and_gradients_are_the_released_ones(case):
    g = golden(case)
    model = GDLT.from_released(g.state_dict, **g.args, **g.meta["loss"])
    model.train(g.meta["mode"].startswith("train"))

    output = model(g.input("x"))
    loss = model.loss(output, g.input("label"))
    loss["total"].backward()

    g.check("out/output", output["score"])
    g.check("out/embed", output["grades"])
    if "s" in g.under("out"):
        g.check("out/s", model.regressor(output["grades"]))
    g.check("out/loss_total", loss["total"])
    g.check("out/loss_mse", loss["mse"])
    g.check("out/loss_triplet", loss["triplet"])
    g.check_parameter_gradients({name: p.grad for name, p in model.named_parameters()})
    for key in g.under("after"):
        g.check(f"after/{key}", model.state_dict()[key])
    assert g.uncompared() == []


def test_there_are_golden_cases_wherever_the_first_one_is():
    golden("gdlt_dec1")
    assert {"gdlt_dec1", "gdlt_dec2", "gdlt_train", "cofinal_gdlt"} <= set(CASES)


@pytest.mark.parametrize("released", [False, True])
def test_the_parameter_total_at_paper_size_is_the_released_one(released):
    assert sum(p.numel() for p in GDLT(released=released).parameters()) == 3_163_396


def test_the_score_is_the_formula_of_the_paper_video_by_video():
    model = small().eval()
    output = model(clips())
    for video in range(3):
        s = [
            torch.sigmoid(model.regressor.weight[n] @ output["grades"][video, n] + model.regressor.bias[n])
            for n in range(4)
        ]
        score = sum(n / 3 * s[n] for n in range(4)) / sum(s)
        torch.testing.assert_close(output["score"][video], score)
        torch.testing.assert_close(output["weights"][video], torch.stack(s) / sum(s))


@pytest.mark.parametrize("bias", [-1000.0, 0.0, 1000.0])
def test_scores_stay_on_the_scale_however_sure_the_regressor_is(bias):
    model = small().eval()
    torch.nn.init.constant_(model.regressor.bias, bias)
    for scale in (1.0, 1000.0):
        torch.nn.init.normal_(model.regressor.weight, std=scale)
        score = model(clips(64))["score"]
        assert (score >= 0).all()
        assert (score <= 1).all()


def test_rounding_does_not_lift_a_score_above_the_scale():
    model = small(n_grades=20).eval()
    torch.nn.init.zeros_(model.regressor.weight)
    # Shares near the resolution of float32 next to a share of 1: their weighted sum rounds to 1.0000001.
    model.regressor.bias.data = torch.tensor([-60.0] * 17 + [-17.2, -17.2, 8.0])
    assert (model(clips())["score"] <= 1).all()


def test_released_changes_nothing_since_the_released_code_is_sound():
    ours, theirs = small().eval(), small(released=True).eval()
    torch.testing.assert_close(ours(clips())["score"], theirs(clips())["score"], rtol=0, atol=0)


@pytest.mark.parametrize("n_grades", [2, 3, 6])
def test_the_number_of_grades_is_free(n_grades):
    output = small(n_grades=n_grades).eval()(clips())
    assert output["grades"].shape == (3, n_grades, 16)
    torch.testing.assert_close(output["weights"].sum(dim=1), torch.ones(3))


def test_the_total_is_the_sum_of_the_weighted_terms():
    label = torch.tensor([0.2, 0.5, 0.9])
    output = small().eval()(clips())
    once, thrice = (small(alpha=alpha).loss(output, label) for alpha in (1, 3))
    torch.testing.assert_close(thrice["triplet"], 3 * once["triplet"])
    torch.testing.assert_close(thrice["total"], thrice["mse"] + thrice["triplet"])


def test_a_released_checkpoint_loads_with_the_prefix_of_data_parallel():
    source = small()
    loaded = GDLT.from_released({f"module.{k}": v for k, v in source.state_dict().items()}, n_head=2)
    assert loaded.released
    assert not loaded.training
    torch.testing.assert_close(loaded(clips())["score"], source.eval()(clips())["score"])


def test_sizes_are_read_off_the_weights_whatever_the_arguments_say():
    source = small(n_encoder=2, n_decoder=3, n_grades=5)
    wrong = {"in_dim": 1, "hidden_dim": 1, "n_encoder": 9, "n_decoder": 9, "n_query": 9}
    loaded = GDLT.from_released(source.state_dict(), n_head=2, **wrong)
    torch.testing.assert_close(loaded(clips())["score"], source.eval()(clips())["score"])


def test_a_checkpoint_that_does_not_fit_is_named_key_by_key():
    weights = small().state_dict()
    bias = weights.pop("regressor.bias")
    with pytest.raises(ValueError, match=r"does not fit GDLT \(missing: regressor.bias\)$"):
        GDLT.from_released(weights)
    with pytest.raises(ValueError, match=r"\(missing: regressor.bias; unexpected: head.bias\)$"):
        GDLT.from_released({**weights, "head.bias": bias})
    with pytest.raises(ValueError, match=r"\(of another shape: regressor.bias\)$"):
        GDLT.from_released({**weights, "regressor.bias": bias[:2]})
    with pytest.raises(ValueError, match=r"has no in_proj.0.weight"):
        GDLT.from_released({"state_dict": bias})


def test_wrong_input_is_answered_with_what_to_give():
    model = small().eval()
    for wrong in (torch.zeros(3, 7, 5), torch.zeros(7, 12), torch.zeros(3, 0, 12)):
        with pytest.raises(ValueError, match=r"give \(videos, clips, 12\)"):
            model(wrong)
    with pytest.raises(ValueError, match="one number per video"):
        model.loss(model(clips()), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="does not divide into 3 heads"):
        small(n_heads=3)
    with pytest.raises(ValueError, match="at least two grades"):
        small(n_grades=1)
    model.prototype = torch.nn.Embedding(6, 16)
    with pytest.raises(ValueError, match="6 grades meet a regressor for 4"):
        model(clips())
