"""Recipes: what the released scripts run, by model, dataset and target."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from mag2 import MLAVL, TextFeatures
from mag2.baselines import GDLT, PAMFN, QTD, SGN, CoFInAl, MBertLate, SkatingMixer
from mag2.data import DATASETS, TARGETS
from mag2.training.recipe import PAMFN_RECIPE, QTD_RECIPE, Recipe
from mag2.training.recipes import RECIPES, find_recipe
from mag2.training.recipes.model_recipe import ModelRecipe
from mag2.training.recipes.page import PUBLISHED, main, recipes_page

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
ALL_TARGETS = [(name, target) for name in PUBLISHED for target in TARGETS[name]]
CLASSES = {
    "MLAVL": lambda **settings: MLAVL(TextFeatures.for_sport("figure_skating"), **settings),
    "SGN": lambda **settings: SGN(TextFeatures.for_sport("figure_skating").visual, **settings),
    "GDLT": GDLT,
    "CoFInAl": CoFInAl,
    "QTD": QTD,
    "PAMFN": PAMFN,
    "Skating-Mixer": SkatingMixer,
    "M-BERT": MBertLate,
}


def rates_of(recipe: Recipe, steps: int, epochs: int = 10) -> list[list[float]]:
    """The rates of all groups before each of so many steps of the schedule."""
    model = nn.ModuleDict({"fc": nn.Linear(2, 2), "body": nn.Linear(2, 2)})
    optimizer = recipe.make_optimizer(model)
    schedule = recipe.make_schedule(optimizer, epochs)
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return rates


def test_the_page_is_what_the_command_prints():
    command = [sys.executable, "-m", "mag2.training.recipes"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PAGE.parents[1]).stdout
    assert PAGE.read_text(encoding="utf-8") == printed, f"{' '.join(command[1:])} > docs/recipes.md"


def test_the_command_prints_some_models_and_any_dataset(capsys):
    assert main(RECIPES, ["--models", "QTD", "--datasets", "LOGO"]) == 0
    printed = capsys.readouterr().out
    assert "## QTD" in printed
    assert "| LOGO |" in printed
    assert "## GDLT" not in printed
    assert "| RG |" not in printed
    with pytest.raises(ValueError, match="unknown dataset 'nowhere'"):
        recipes_page(RECIPES, ["nowhere"])


@pytest.mark.parametrize("model", RECIPES)
@pytest.mark.parametrize(("dataset", "target"), ALL_TARGETS)
def test_every_recipe_says_where_it_is_from_and_what_is_our_choice(model, dataset, target):
    recipe = find_recipe(model, dataset, target)
    assert recipe.source != ModelRecipe.source
    known = {"QTD": ("LOGO", "RG", "Fis-V"), "GDLT": ("RG",), "Skating-Mixer": ("FS1000",)}
    known |= dict.fromkeys(["CoFInAl", "PAMFN"], ("RG", "Fis-V"))
    if model in known:
        assert bool(recipe.chosen) == (dataset not in known[model])


@pytest.mark.parametrize("model", RECIPES)
def test_settings_are_arguments_of_the_model_at_its_papers_size_and_narrow(model):
    built = set()
    for target in ALL_TARGETS:
        recipe = find_recipe(model, *target)
        for settings in (recipe.settings, recipe.narrowed().settings):
            if str(settings) not in built:
                CLASSES[model](**settings)
                built.add(str(settings))


def test_epochs_are_those_of_each_models_own_scripts():
    def epochs(model, dataset):
        return [find_recipe(model, dataset, target).epochs for target in TARGETS[dataset]]

    assert epochs("MLAVL", "RG") == [620, 340, 450, 710]
    assert epochs("GDLT", "RG") == [250, 400, 500, 150]
    assert epochs("CoFInAl", "RG") == [250, 400, 300, 150]
    assert epochs("CoFInAl", "Fis-V") == [200, 200]
    assert epochs("QTD", "LOGO") == epochs("QTD", "RG")[:1] == [1000]
    assert epochs("PAMFN", "RG") == [400, 500, 300, 500]
    assert epochs("PAMFN", "Fis-V") == [500, 500]
    assert {find_recipe("PAMFN", *target).branch_epochs for target in ALL_TARGETS} == {250}
    assert epochs("Skating-Mixer", "FS1000") == [500] * 7


def test_cofinal_has_coarse_weights_alignment_and_size_by_target():
    settings = {target: find_recipe("CoFInAl", *target).settings for target in ALL_TARGETS}
    told = {
        ("RG", "Ball"): (2, 1, True),
        ("RG", "Clubs"): (3, 1, True),
        ("RG", "Hoop"): (2, 2, True),
        ("RG", "Ribbon"): (3, 1, False),
        ("Fis-V", "TES"): (3, 1, True),
    }
    for target, expected in told.items():
        own = settings[target]
        assert (own["coarse_weights"], own["loss_align"], own.get("reversed_branch", True)) == expected
    skating = settings["Fis-V", "PCS"]
    assert (skating["dim"], skating["n_heads"], skating["alpha"]) == (448, 7, 0.5)
    assert settings["FS1000", "TES"] == skating
    assert {own["fine_dropout"] for own in settings.values()} == {0.3}


def test_qtd_has_queries_deviation_noise_and_batch_by_dataset():
    told = {"LOGO": (48, 0.5, 0.0, 48), "RG": (68, 2.0, 0.05, 48), "Fis-V": (136, 5.0, 0.05, 32)}
    for dataset, expected in told.items():
        recipe = find_recipe("QTD", dataset, TARGETS[dataset][0])
        own = recipe.settings
        assert (own["n_queries"], own["query_var"], own["noise"], recipe.recipe.batch) == expected
        assert (own["dropout"], own["positional"]) == (0.7, "query")


def test_qtds_rate_falls_to_a_tenth_with_every_400th_batch():
    rates = [rate for (rate,) in rates_of(QTD_RECIPE, 801)]
    # The script steps the schedule before the optimizer: batch 400 is the first at the lower rate.
    assert rates[:399] == pytest.approx([1e-4] * 399)
    assert rates[399:799] == pytest.approx([1e-5] * 400)
    assert rates[799] == pytest.approx(1e-6)
    assert QTD_RECIPE.by_iteration
    assert not Recipe(schedule="step").by_iteration


def test_pamfns_head_learns_at_a_tenth_and_both_rates_end_at_one_floor():
    first, *_, last = rates_of(PAMFN_RECIPE, 11)
    assert first == pytest.approx([5e-4, 5e-5])
    assert last == pytest.approx([5e-6, 5e-6])
    skating = find_recipe("PAMFN", "Fis-V", "TES")
    assert rates_of(skating.recipe, 11)[-1] == pytest.approx([8e-4, 8e-5])
    assert skating.recipe.weight_decay == 0.01
    assert skating.settings["n_kinds"] == 6
    assert skating.recipe.clips == skating.branches.clips == 130
    gymnastics = find_recipe("PAMFN", "RG", "Ball")
    assert gymnastics.settings["n_kinds"] == 10
    assert gymnastics.recipe.clips == 70
    assert gymnastics.branches.optimizer == "sgd"
    assert gymnastics.branches.floor == 5e-6
    assert gymnastics.recipe.grad_clip == gymnastics.branches.grad_clip == 2.0


def test_skating_mixers_recipe_is_that_of_its_script():
    own = find_recipe("Skating-Mixer", "FS1000", "PCS")
    recipe = own.recipe
    assert (recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.schedule) == ("adam", 1e-4, 5e-6, "constant")
    assert (recipe.batch, own.epochs, own.chosen) == (16, 500, "")
    assert (own.settings["dim"], own.settings["depth"], own.settings["dropout"]) == (512, 2, 0.0)


def test_rates_by_name_hold_inside_wrappers_and_a_name_that_no_parameter_has_is_refused():
    recipe = Recipe("sgd", lr=1.0, rates=(("fc.", 0.1),))
    model = nn.ModuleDict({"fc": nn.Linear(2, 2), "body": nn.Linear(2, 2)})
    wrapped = nn.Module()
    wrapped.module = model
    for each in (model, wrapped):
        groups = recipe.make_optimizer(each).param_groups
        assert [group["lr"] for group in groups] == [1.0, 0.1]
        assert set(groups[1]["params"]) == set(model["fc"].parameters())
    with pytest.raises(ValueError, match=r"has a rate for 'head.' and ModuleDict has no parameter"):
        Recipe(rates=(("head.", 0.1),)).make_optimizer(model)


def test_settings_that_mean_nothing_are_refused():
    for fault, said in (
        ({"schedule": "linear"}, "unknown schedule 'linear'"),
        ({"step_unit": "week"}, "unknown step_unit 'week'"),
        ({"batch": 0}, "batch is 0"),
        ({"clips": -1}, "clips is -1"),
        ({"rates": (("fc.", 0.0),)}, "the share of the rate for 'fc.'"),
    ):
        with pytest.raises(ValueError, match=said):
            Recipe(**fault)
    with pytest.raises(ValueError, match="at least one epoch"):
        ModelRecipe(Recipe(), 0)
    with pytest.raises(ValueError, match="unknown evaluation 'half'"):
        ModelRecipe(Recipe(), 1, evaluation="half")
    with pytest.raises(ValueError, match="no recipe of 'nothing'; there are those of MLAVL"):
        find_recipe("nothing", "RG", "Ball")


def test_a_dataset_that_no_script_has_is_trained_as_the_most_alike_one():
    assert "FS1000" in DATASETS
    assert find_recipe("QTD", "FS1000", "TES").settings == find_recipe("QTD", "Fis-V", "TES").settings
    unknown = find_recipe("CoFInAl", "a dataset of one's own", "points")
    assert unknown.settings == find_recipe("CoFInAl", "RG", "Ball").settings
    assert "as RG, since no script has this dataset" in unknown.chosen
