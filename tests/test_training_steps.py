"""Twelve training steps of each released model, in float64: ours takes the same ones."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2 import MLAVL
from mag2.baselines import GDLT, PAMFN, QTD, CoFInAl, ModalityBranch
from mag2.mlavl import released_name
from mag2.training.recipe import Recipe
from mag2.training.recipes import find_recipe
from mag2.training.steps import Steps
from tests.golden import Golden, golden

EXACT = {"rtol": 1e-9, "atol": 0.0}  # of numbers that are measured at every step
NORMS = {"rtol": 1e-9, "atol": 1e-7}
WEIGHTS = {"rtol": 0.0, "atol": 1e-6}  # the files hold them in float32

# Our names of the released terms, and what ours multiplies a term by.
TERMS: dict[str, dict[str, tuple[str, ...]]] = {
    "mlavl": {
        "mse10": ("mse",),
        "triplet/embed": ("triplet/grades_audio_visual",),
        "triplet/embed2": ("triplet/grades_visual",),
        "triplet/embed3": ("triplet/texts_visual",),
        "triplet/embed4": ("triplet/texts_audio",),
        "triplet/embed5": ("triplet/texts_audio_visual_grades",),
        "triplet/embed6": ("triplet/texts_grades",),
        "ce/logits1": ("agreement/audio_visual",),
        "ce/logits2": ("agreement/visual",),
    },
    "gdlt": {"mse": ("mse",), "triplet": ("triplet",)},
    "cofinal": {
        "int": ("coarse",),
        "int_revert": ("coarse_reversed",),
        "dec": ("fine",),
        "dr": ("coarse", "coarse_reversed", "fine"),
        "triplet": ("triplet",),
    },
    "cofinal_2": {"int": ("coarse",), "dec": ("fine",), "dr": ("coarse", "fine"), "triplet": ("triplet",)},
    "qtd": {"mse": ("mse",), "kld": ("consistency",)},
}
WEIGHED = {"ce/logits1": 0.01, "ce/logits2": 0.01}


# Whose recipe each file was made with: model, dataset, target.
FILES = {
    "mlavl": ("MLAVL", "FS1000", "TES"),
    "gdlt": ("GDLT", "RG", "Ball"),
    "cofinal": ("CoFInAl", "RG", "Clubs"),
    "cofinal_2": ("CoFInAl", "RG", "Ribbon"),
    "qtd": ("QTD", "RG", "Ball"),
    "pamfn_branch": ("PAMFN", "RG", "Ball"),
    "pamfn_fused": ("PAMFN", "RG", "Ball"),
}
KINDS: dict[str, type] = {
    "gdlt": GDLT,
    "cofinal": CoFInAl,
    "cofinal_2": CoFInAl,
    "qtd": QTD,
    "pamfn_branch": ModalityBranch,
    "pamfn_fused": PAMFN,
}


def build(g: Golden) -> nn.Module:
    """Our class on the weights before the first step, in float64, without dropout."""
    if g.meta["model"] == "mlavl":
        texts, n_text = g.input("text_feature"), g.meta["config"]["n_text"]
        model = MLAVL.from_released(g.state_dict, text_features=texts, n_text=n_text, **g.args)
    else:
        kind = KINDS[g.meta["model"]]
        loss = g.meta["loss"] if kind in (GDLT, CoFInAl) else {}
        model = kind.from_released(g.state_dict, **g.args, **loss)
    return without_dropout(model.double()).train()


def without_dropout(model: nn.Module) -> nn.Module:
    """Every dropout at 0, those that the released code fixes too: so were the files made."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
    return model


def recipe_of(g: Golden) -> Recipe:
    """The library's recipe of the system and the dataset that a file was made with, the stage that it is of."""
    model, dataset, target = FILES[g.meta["model"]]
    found = find_recipe(model, dataset, target)
    if g.meta["model"] == "pamfn_branch":
        assert found.branches is not None
        return found.branches
    return found.recipe


def library_steps(g: Golden, model: nn.Module) -> Steps:
    """The library's way to take training steps."""
    recipe = recipe_of(g)
    optimizer = recipe.make_optimizer(model)
    return Steps(model, recipe, optimizer, recipe.make_schedule(optimizer, epochs=100))


def pin(g: Golden, model: nn.Module, step: int) -> None:
    """Replace what the released code draws by what the file has in its place."""
    if isinstance(model, QTD):
        model.noise = 1.0  # any but 0: the draw itself is fixed
        model.draw_queries = lambda queries: g.input(f"draw_{step}/query").double()
        model.draw_noise = lambda score: g.input(f"draw_{step}/noise").double()
    if isinstance(model, PAMFN):
        model.choose = lambda logits: F.one_hot(logits.argmax(dim=1), logits.shape[1]).transpose(1, 2).to(logits)


def forward(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(model, MLAVL):
        return model(batch["visual"], batch["audio"])
    if isinstance(model, PAMFN):
        return model(batch["V"], batch["A"], batch["F"])
    return model(batch["x"])


def steps(g: Golden, model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Train as the released scripts do; what is measured at every step, before its update."""
    taken = library_steps(g, model)
    predicted = "coarse" if isinstance(model, CoFInAl) else "score"
    for step, number in enumerate(g.meta["batch_of_step"]):
        batch = {name: x.double() for name, x in g.under(f"in/batch_{number}").items()}
        pin(g, model, step)
        output = forward(model, batch)
        terms = model.loss(output, batch["label"])
        reached = torch.autograd.grad(terms["total"], learning(model), retain_graph=True, allow_unused=True)
        norm = torch.nn.utils.get_total_norm([gradient for gradient in reached if gradient is not None])
        taken.take(terms["total"])
        yield {"loss": terms["total"], "pred": output[predicted], "grad_norm": norm, "terms": terms, "output": output}


def learning(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def released_state(g: Golden, model: nn.Module) -> dict[str, Tensor]:
    """Our state by the released names, and whatever the released model has as an alias or as a constant."""
    if not isinstance(model, MLAVL):
        return model.state_dict()
    ours = {released_name(key): value for key, value in model.state_dict().items() if key != "owned_texts.texts"}
    aliases = {other: ours[key] for key, other in g.meta["aliases"].items() if key in ours}
    # Their position table is not used without `use_pe`, and ours is made where it is.
    return {"pos_encoder.pe": g.buffers["pos_encoder.pe"], **ours, **aliases}


def check_steps(g: Golden, taken: list[dict]) -> None:
    def column(read: Callable[[dict], Tensor]) -> Tensor:
        return torch.stack([read(step).detach() for step in taken])

    for key in ("loss", "pred", "grad_norm"):
        g.check(f"out/{key}", column(lambda step, key=key: step[key]), **EXACT)
    for theirs, ours in TERMS.get(g.meta["model"], {}).items():
        total = column(lambda step, ours=ours: sum(step["terms"][name] for name in ours))
        g.check(f"out/terms/{theirs}", total / WEIGHED.get(theirs, 1.0), **EXACT)
    if g.meta["model"] == "pamfn_fused":
        for i in range(3):
            index = column(lambda step, i=i: step["output"][f"actions_{i}"].argmax(dim=1))
            g.check(f"out/action_index/{i}", index, rtol=0, atol=0)


def check_weights(g: Golden, before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    for key, theirs in g.under("out/final").items():
        g.check(f"out/final/{key}", after[key].reshape(theirs.shape), **WEIGHTS)
    for key in g.under("out/final_norm"):
        g.check(f"out/final_norm/{key}", after[key].double().norm(), **NORMS)
        moved = after[key].double() - before[key].double()
        g.check(f"out/moved_norm/{key}", moved.norm(), **NORMS)


CASES = ("mlavl", "gdlt", "cofinal", "cofinal_2", "qtd", "pamfn_branch", "pamfn_fused")


@pytest.mark.parametrize("case", CASES)
def test_twelve_training_steps_are_the_released_ones(case):
    """Losses, their terms, predictions, gradients, and every weight and statistic after the last step."""
    g = golden(f"train_{case}")
    model = build(g)
    before = {key: value.clone() for key, value in released_state(g, model).items()}
    check_steps(g, list(steps(g, model)))
    check_weights(g, before, released_state(g, model))
    without = [key for key, p in model.named_parameters() if p.grad is None]
    assert sorted(without) == sorted(g.meta["params_without_grad"])
    assert not g.uncompared()


@pytest.mark.parametrize("case", CASES)
def test_the_recipe_is_the_optimizer_that_the_released_script_made(case):
    """Class, rates by parameter, decay, momentum and clipping, as the file says they came out."""
    g = golden(f"train_{case}")
    model, theirs = build(g), g.meta["optimizer"]
    optimizer = recipe_of(g).make_optimizer(model)
    assert type(optimizer).__name__ == theirs["class"]
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates.keys() == set(learning(model))
    head = theirs["groups"][0]["lr"] if "groups" in theirs else theirs["lr"]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[parameter] == pytest.approx(head if name.startswith("fc.") else theirs["lr"], rel=1e-12)
    told = {name: value for name, value in theirs.items() if name in optimizer.defaults and name != "lr"}
    assert {"weight_decay"} < set(told)
    for group in optimizer.param_groups:
        assert {name: list(v) if isinstance(v := group[name], tuple) else v for name in told} == told
    assert recipe_of(g).grad_clip == g.meta["clip_grad_norm"]


@pytest.mark.parametrize("case", ["cofinal", "cofinal_2"])
def test_the_targets_of_those_steps_are_the_released_ones(case):
    g = golden(f"train_{case}")
    model = build(g)
    for number in range(g.meta["n_batches"]):
        batch = g.under(f"in/batch_{number}")
        coarse, fine_class = model.targets(batch["label"].double())
        assert torch.equal(coarse, batch["int_target"])
        assert torch.equal(fine_class, batch["class_index"])


def test_the_fixed_values_of_grades_are_those_that_were_used():
    mlavl, gdlt, cofinal = (golden(f"train_{case}") for case in ("mlavl", "gdlt", "cofinal"))
    grading = build(mlavl).grading
    assert torch.equal(grading.audio_visual.worth, mlavl.under("const")["weight_AV"])
    assert torch.equal(grading.visual.worth, mlavl.under("const")["weight_V"])
    assert torch.equal(build(cofinal).coarse_values, cofinal.under("const")["weight"])
    assert torch.equal(build(cofinal).reversed_values, cofinal.under("const")["weight_revert"])
    model = build(gdlt)
    output = model(gdlt.input("batch_0/x").double())
    torch.testing.assert_close((output["weights"] * gdlt.under("const")["weight"]).sum(dim=1), output["score"])


def test_fusion_is_trained_as_the_script_does_with_and_without_frozen_flags():
    """`start_fusion` marks what does not learn, for optimizers and DDP; the steps are the same."""
    g = golden("train_pamfn_fused")
    plain, frozen = build(g), build(g)
    frozen.start_fusion()
    losses = [torch.stack([step["loss"].detach() for step in steps(g, model)]) for model in (plain, frozen)]
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    ("case", "depart"),
    [
        ("pamfn_fused", lambda model: (setattr(model, "frozen_branches", "eval"), model.start_fusion())),
        ("cofinal", lambda model: setattr(model.regi[0], "batch_first", True)),
        ("qtd", lambda model: setattr(model, "released", False)),
    ],
)
def test_what_ours_does_otherwise_by_default_is_seen_in_the_first_step(case, depart):
    g = golden(f"train_{case}")
    model = build(g)
    depart(model)
    loss = next(steps(g, model))["loss"].detach()
    assert abs(loss / g.under("out")["loss"][0] - 1) > 1e-4
