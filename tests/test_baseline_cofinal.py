"""CoFInAl: the released numbers in released mode, and no neighbour, arg-max or rounding leaks by default."""

import math

import pytest
import torch

from mag2.baselines.cofinal import CoFInAl, equiangular_frame
from tests.golden import Golden, golden, names

LOSSES = names("cofinal*_loss_align*")
MODELS = sorted(set(names("cofinal*_arr*") + names("cofinal2_*")) - set(LOSSES))
RELEASED_NAMES = {"int": "coarse", "int_revert": "coarse_reversed", "dec": "fine", "embed": "grades"}


def small(**options) -> CoFInAl:
    torch.manual_seed(0)
    return CoFInAl(**{"in_dim": 12, "dim": 16, **options})


def clips(batch: int = 3, length: int = 7) -> torch.Tensor:
    return torch.randn(batch, length, 12, generator=torch.Generator().manual_seed(1))


def restored(g: Golden, **options) -> CoFInAl:
    return CoFInAl.from_released(g.state_dict, **g.args, **options)


@pytest.mark.parametrize("case", MODELS)
def test_outputs_and_targets_are_the_released_ones(case):
    g = golden(case)
    model = restored(g)
    assert model.reversed_branch == ("regressor_revert.weight" in g.parameters)

    for batch in ("b1", "b3"):
        output = model(g.input(f"x_{batch}"))
        for theirs, ours in RELEASED_NAMES.items():
            if ours in output:
                g.check(f"out/{batch}/{theirs}", output[ours])
        g.check(f"out/{batch}/score", output["score"])
        assert output["fine_class"].unique().numel() == 1
        g.check(f"out/{batch}/argmax_flat", output["fine_class"][0])

        nearness = output["fine"] @ model.etf_vec1
        g.check(f"out/{batch}/argmax_per_sample", nearness.argmax(dim=1))
        flat, per_sample = nearness.flatten().topk(2).values, nearness.topk(2, dim=1).values
        margins = [flat[0] - flat[1], (per_sample[:, 0] - per_sample[:, 1]).min()]
        g.check(f"out/{batch}/argmax_margin", torch.stack(margins))

    coarse, fine_class = model.targets(g.input("labels"))
    g.check("out/proj_class/int_target", coarse)
    if model.reversed_branch:
        g.check("out/proj_class/int_revert_target", 1 - coarse)
    g.check("out/proj_class/class_index", fine_class)
    g.check("out/proj_class/dec_target", model.etf_vec1.T[fine_class])
    assert g.uncompared() == []


@pytest.mark.parametrize("case", LOSSES)
def test_losses_and_their_gradients_are_the_released_ones(case):
    g = golden(case)
    model = restored(golden(g.meta["model_file"].removesuffix(".npz")), **g.args)
    leaves = {name: g.input(name).requires_grad_() for name in RELEASED_NAMES if f"in/{name}" in g.arrays}
    output = {RELEASED_NAMES[name]: leaf for name, leaf in leaves.items()}

    loss = model.loss({**output, "score": leaves["int"]}, g.input("labels"))
    loss["total"].backward()

    g.check("out/total", loss["total"])
    g.check("out/triplet", loss["triplet"])
    g.check("out/dr", sum(loss.get(term, 0) for term in ("coarse", "coarse_reversed", "fine")))
    for name, leaf in leaves.items():
        g.check(f"grad/{name}", leaf.grad)
    assert g.uncompared() == []


@pytest.mark.parametrize("case", MODELS)
def test_by_default_the_released_weights_give_a_video_the_score_it_has_alone(case):
    g = golden(case)
    released = restored(g)
    ours = CoFInAl(
        in_dim=g.args["in_dim"],
        n_decoder=g.args["n_decoder"],
        coarse_weights=g.args["activate_regular_restrictions"],
        reversed_branch=released.reversed_branch,
    ).eval()
    ours.load_state_dict(g.state_dict)
    x = g.input("x_b3")

    theirs_moves = (released(x)["fine"][:1] - released(x[:1])["fine"]).abs().max()
    ours_moves = (ours(x)["fine"][:1] - ours(x[:1])["fine"]).abs().max()
    assert theirs_moves > 0.01
    assert ours_moves < 1e-6
    torch.testing.assert_close(ours(x)["score"][:1], ours(x[:1])["score"])


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize(("reversed_branch", "total"), [(True, 3_715_692), (False, 3_714_664)])
def test_the_parameter_total_at_paper_size_is_the_released_one(released, reversed_branch, total):
    model = CoFInAl(released=released, reversed_branch=reversed_branch)
    assert sum(p.numel() for p in model.parameters()) == total


def test_a_score_does_not_depend_on_its_batch():
    model = small().eval()
    together = model(clips())
    for i in range(3):
        alone = model(clips()[i : i + 1])
        assert together["fine_class"][i] == alone["fine_class"][0]
        torch.testing.assert_close(together["score"][i : i + 1], alone["score"])
        torch.testing.assert_close(together["fine"][i : i + 1], alone["fine"])


def test_released_a_score_does_depend_on_its_batch():
    model = small(released=True).eval()
    together, alone = model(clips()), model(clips()[:1])
    assert not torch.allclose(together["fine"][:1], alone["fine"], atol=1e-3)
    torch.testing.assert_close(together["coarse"][:1], alone["coarse"])


def test_released_the_attention_across_the_batch_does_nothing_with_one_video():
    """As the authors test: its one weight is 1, whatever queries and keys are, so that values go through unmixed."""
    g = golden("cofinal_arr3")
    model, other = restored(g), restored(g)
    torch.nn.init.normal_(other.regi[0].in_proj_weight[:512], std=5.0)
    one, three = g.input("x_b1"), g.input("x_b3")
    torch.testing.assert_close(model(one)["fine"], other(one)["fine"])
    assert not torch.allclose(model(three)["fine"], other(three)["fine"], atol=1e-3)
    attention, grades = model.regi[0], model(one)["grades"]
    value = torch.nn.functional.linear(grades, attention.in_proj_weight[512:], attention.in_proj_bias[512:])
    torch.testing.assert_close(attention(grades, grades, grades)[0], attention.out_proj(value))


def test_the_attention_over_grades_has_a_dropout_of_its_own():
    assert small().regi[0].dropout == 0.3
    assert CoFInAl.from_released(small().state_dict(), dropout=0.0).regi[0].dropout == 0.3
    model = small(dropout=0.0).train()
    assert not torch.equal(model(clips())["fine"], model(clips())["fine"])
    model = small(dropout=0.0, fine_dropout=0.0).train()
    assert torch.equal(model(clips())["fine"], model(clips())["fine"])


def test_released_one_arg_max_over_the_batch_goes_to_every_score():
    model = small(released=True).eval()
    output = model(clips(64))
    index = (output["fine"] @ model.etf_vec1).flatten().argmax()
    assert index >= 100  # a single video could never reach it
    coarse = (output["coarse"] + 1 - output["coarse_reversed"]) / 2
    torch.testing.assert_close(output["score"], coarse + index / 10_000)


def test_the_score_is_put_together_video_by_video():
    model = small().eval()
    output = model(clips())
    for video in range(3):
        cosine = [(output["fine"][video] @ model.etf_vec1[:, c]).item() for c in range(100)]
        fine_class = max(range(100), key=cosine.__getitem__)
        assert output["fine_class"][video] == fine_class
        coarse = (output["coarse"][video] + 1 - output["coarse_reversed"][video]) / 2
        torch.testing.assert_close(output["score"][video], coarse + fine_class / 10_000)


def test_evaluation_twice_gives_the_same_score():
    model = small().eval()
    assert torch.equal(model(clips())["score"], model(clips())["score"])


@pytest.mark.parametrize("reversed_branch", [True, False])
def test_evaluation_scores_stay_on_the_scale_where_the_coarse_score_does_not(reversed_branch):
    model, released = (small(released=r, reversed_branch=reversed_branch).eval() for r in (False, True))
    for grade, beyond in ((0, torch.lt), (3, torch.gt)):  # all in the worst grade, then all in the best
        for m in (model, released):
            torch.nn.init.zeros_(m.regressor.weight)
            m.regressor.bias.data = torch.where(torch.arange(4) == grade, 20.0, -20.0)
            if reversed_branch:
                m.regressor_revert.load_state_dict(m.regressor.state_dict())
        assert beyond(released(clips())["score"], grade / 3).all()
        assert torch.equal(model(clips())["score"], torch.full((3,), grade / 3))
        assert beyond(model.train()(clips())["score"], grade / 3).all()  # a clamp would stop its gradient
        model.eval()


def test_labels_keep_their_class_on_the_whole_scale():
    model, released = small(), small(released=True)
    steps = torch.arange(10_001)
    label = (steps.double() / 10_000).float()
    coarse, fine_class = model.targets(label)
    torch.testing.assert_close(coarse, (steps // 100).float() / 100)
    assert torch.equal(fine_class, steps % 100)
    # The released truncation puts hundreds of them one class too low.
    assert 500 < int((released.targets(label)[1] != steps % 100).sum()) < 700


@pytest.mark.parametrize("scale", [45, 40, 130, 60, 25, 10])
def test_real_labels_get_the_class_of_exact_arithmetic(scale):
    hundredths = range(100 * scale + 1)
    label = torch.tensor([h / 100 / scale for h in hundredths])
    exact = [h * 100 // scale for h in hundredths]  # the label times 10000, rounded down, in integers
    coarse, fine_class = small().targets(label)
    assert ((100 * coarse).round().long() * 100 + fine_class).tolist() == exact


def test_the_frame_is_equiangular_and_comes_from_its_seed_alone():
    frame = equiangular_frame(100, seed=3)
    cosines = torch.full((100, 100), -1 / 99).fill_diagonal_(1)
    torch.testing.assert_close(frame.T @ frame, cosines, rtol=0, atol=1e-6)

    before = torch.random.get_rng_state()
    assert torch.equal(equiangular_frame(100, seed=3), frame)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.allclose(equiangular_frame(100, seed=4), frame)
    assert torch.equal(small(etf_seed=3).etf_vec1, frame)
    assert not small().etf_vec1.requires_grad


def test_the_frame_is_the_one_of_gram_schmidt_whatever_signs_a_library_prefers():
    gauss = torch.randn(8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    basis: list[torch.Tensor] = []
    for column in gauss.T:
        rest = column - sum((column @ b) * b for b in basis)
        basis.append(rest / rest.norm())
    u = torch.stack(basis, dim=1)
    frame = math.sqrt(8 / 7) * u @ (torch.eye(8, dtype=torch.float64) - 1 / 8)
    torch.testing.assert_close(equiangular_frame(8, seed=3), frame.float())


@pytest.mark.parametrize("reversed_branch", [True, False])
def test_the_loss_reaches_every_parameter(reversed_branch):
    model = small(reversed_branch=reversed_branch)
    loss = model.loss(model(clips()), torch.tensor([0.2, 0.5, 0.9]))
    loss["total"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert set(loss) == {"total", "coarse", "fine", "triplet"} | ({"coarse_reversed"} if reversed_branch else set())


def test_the_total_is_the_sum_of_the_weighted_terms():
    label = torch.tensor([0.2, 0.5, 0.9])
    output = small().eval()(clips())
    once, thrice = (small(alpha=alpha).loss(output, label) for alpha in (1, 3))
    torch.testing.assert_close(thrice["triplet"], 3 * once["triplet"])
    torch.testing.assert_close(thrice["total"], sum(v for k, v in thrice.items() if k != "total"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_dtype_follows_the_input(dtype):
    model = small().eval()
    single, output = model(clips()), model.to(dtype)(clips().to(dtype))
    assert output.pop("fine_class").dtype == torch.int64
    assert {value.dtype for value in output.values()} == {dtype}
    tolerance = 4 * torch.finfo(dtype).eps ** 0.75 if dtype != torch.float64 else 1e-5
    torch.testing.assert_close(output["coarse"].float(), single["coarse"], rtol=0, atol=tolerance)
    terms = model.loss(output, torch.tensor([0.2, 0.5, 0.9]))
    assert {value.dtype for value in terms.values()} == {dtype}


@pytest.mark.parametrize("reversed_branch", [True, False])
def test_checkpoints_of_both_released_classes_load_with_the_prefix_of_data_parallel(reversed_branch):
    source = small(reversed_branch=reversed_branch, released=True, etf_seed=5, n_decoder=1).eval()
    loaded = CoFInAl.from_released({f"module.{k}": v for k, v in source.state_dict().items()}, in_dim=1)
    assert loaded.released
    assert not loaded.training
    assert loaded.reversed_branch == reversed_branch
    torch.testing.assert_close(loaded(clips())["score"], source(clips())["score"])


def test_a_checkpoint_that_does_not_fit_is_named_key_by_key():
    weights = small().state_dict()
    bias = weights.pop("regressor_revert.bias")
    with pytest.raises(ValueError, match=r"does not fit CoFInAl \(missing: regressor_revert.bias\)$"):
        CoFInAl.from_released(weights)
    with pytest.raises(ValueError, match=r"unexpected: head.bias\)$"):
        CoFInAl.from_released({**weights, "head.bias": bias})
    with pytest.raises(ValueError, match=r"of another shape: prototype.weight\)$"):
        CoFInAl.from_released({**weights, "regressor_revert.bias": bias, "prototype.weight": torch.zeros(6, 16)})
    with pytest.raises(ValueError, match=r"missing: .* and \d+ more\)$"):
        CoFInAl.from_released({k: v for k, v in weights.items() if "encoder" not in k})


def test_coarse_weights_that_are_given_are_those_of_a_setting(tmp_path):
    weights = small(coarse_weights=2, released=True).state_dict()
    lists = ((0.1, 0.2, 0.8, 1.0), (1.0, 1.0, -1.0, -1.0))
    named, given = (CoFInAl.from_released(weights, activate_regular_restrictions=each) for each in (2, lists))
    torch.testing.assert_close(given(clips()), named(clips()), rtol=0, atol=0)
    given.save_pretrained(tmp_path)
    torch.testing.assert_close(CoFInAl.from_pretrained(tmp_path).eval()(clips()), named(clips()), rtol=0, atol=0)


def test_wrong_input_is_answered_with_what_to_give():
    model = small().eval()
    with pytest.raises(ValueError, match=r"give \(videos, clips, 12\)"):
        model(torch.zeros(3, 12, 7))
    with pytest.raises(ValueError, match="one number per video"):
        model.loss(model(clips()), torch.tensor(0.5))
    for setting in (0, 1):
        with pytest.raises(ValueError, match="no source at hand: the known released settings are 2 and 3"):
            small(coarse_weights=setting)
    with pytest.raises(ValueError, match="there is no such setting"):
        small(coarse_weights=7)
    with pytest.raises(ValueError, match="two lists of 4 numbers"):
        small(coarse_weights=[[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="give 0, 1 or 2"):
        small(loss_align=3)
    with pytest.raises(ValueError, match="give a multiple of 4"):
        small(dim=18)
    with pytest.raises(ValueError, match="etf_head is False"):
        CoFInAl.from_released(model.state_dict(), etf_head=False)


def test_a_default_score_survives_saving_and_loading():
    source, other = small(etf_seed=1).eval(), small(etf_seed=2).eval()
    assert not torch.equal(source(clips())["fine_class"], other(clips())["fine_class"])
    other.load_state_dict(source.state_dict())
    assert torch.equal(source(clips())["score"], other(clips())["score"])
    assert math.isclose(float(other.etf_vec1.norm()), 10, rel_tol=1e-5)  # 100 unit vectors
