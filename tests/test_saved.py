"""What earlier versions saved still loads, and computes what it computed."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mag2 import MLAVL, ActionGraphGuidance, attached, load_plugin, load_trained
from mag2.guidance import FoldedGuidance
from mag2.mlavl import FoldedMLAVL
from mag2.training.cells import Cell, finished_results
from mag2.training.target import Target
from tests.saved import CASES, SETS, TRAINED, TRAINING, Scorer, score, small_training, two_places, weighted

WHOLE = {
    "whole_guide": ActionGraphGuidance,
    "whole_folded_guide": FoldedGuidance,
    "whole_mlavl": MLAVL,
    "whole_folded_mlavl": FoldedMLAVL,
}


def expected(folder: Path) -> dict[str, torch.Tensor]:
    with np.load(folder / "expected.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def inputs(arrays) -> list[torch.Tensor]:
    return [arrays[name] for name in sorted(arrays) if name.startswith("input/")]


def base(name: str, arrays) -> nn.Module:
    model = CASES[name].base()
    weights = {key.removeprefix("base/"): value for key, value in arrays.items() if key.startswith("base/")}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(key.startswith("evaluator.") for key in missing)
    return model.eval()


def same(output, arrays) -> None:
    torch.testing.assert_close(score(output), arrays["output"], atol=1e-6, rtol=1e-5)


def test_a_set_is_kept_for_every_format():
    assert [folder.name for folder in SETS][:2] == ["0.1.0", "0.2.0"]


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.plug is not None and case.compared])
def test_a_plugin_loads_into_a_bare_model_and_gives_the_kept_outputs(name, folder):
    arrays = expected(folder / name)
    model = load_plugin(base(name, arrays), folder / name)
    with torch.no_grad():
        same(model(*inputs(arrays)), arrays)


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.compared])
def test_a_plugin_of_a_model_that_computes_otherwise_now_loads_with_every_weight(name, folder):
    model = load_plugin(CASES[name].base(), folder / name)
    kept = load_file(folder / name / "plugin.safetensors")
    loaded = [value for place in attached(model) for value in place.module.state_dict().values()]
    assert sum(value.numel() for value in loaded) == sum(value.numel() for value in kept.values())


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", WHOLE)
def test_a_pretrained_folder_loads_and_gives_the_kept_outputs(name, folder):
    arrays = expected(folder / name)
    model = WHOLE[name].from_pretrained(folder / name)
    with torch.no_grad():
        same(model(*inputs(arrays)), arrays)


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
def test_the_state_dicts_of_whole_models_load(folder):
    arrays = expected(folder / "two_places")
    model = Scorer().eval()
    two_places(model)
    model.load_state_dict(torch.load(folder / "two_places" / "state.pt"))
    same(model.eval()(*inputs(arrays)), arrays)
    arrays = expected(folder / "whole_mlavl")
    whole = CASES["whole_mlavl"].base().eval()
    whole.load_state_dict(torch.load(folder / "whole_mlavl" / "state.pt"))
    same(whole(*inputs(arrays)), arrays)


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
def test_a_plugin_saved_from_inside_weighted_edges_loads_there_again(folder):
    arrays = expected(folder / "gdlt")
    model = weighted(load_plugin(base("gdlt", arrays), folder / "gdlt"))
    (clips,) = inputs(arrays)
    # A clip of zeros resembles no text: its weights are those of the complete graph.
    with torch.no_grad():
        same(model(clips, vision_language=clips.new_zeros(*clips.shape[:2], 6)), arrays)


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
def test_a_stopped_training_goes_on_to_the_numbers_of_an_unbroken_one(folder, tmp_path):
    shutil.copytree(folder / TRAINING, tmp_path / "stopped")
    continued, unbroken = small_training(tmp_path / "stopped"), small_training(tmp_path / "unbroken")
    assert continued.last.loss == pytest.approx(unbroken.last.loss, rel=1e-6)
    assert continued.last.mse == pytest.approx(unbroken.last.mse, rel=1e-6)


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
def test_the_results_of_a_table_are_read(folder):
    done = finished_results(folder / "table")
    assert set(done) == {Cell(row, Target("FS1000", "TES"), 0) for row in ("1", "3")}
    assert all(0 <= result["last_epoch"]["epoch"] <= 1 for result in done.values())


@pytest.mark.parametrize("folder", SETS[1:], ids=lambda folder: folder.name)
def test_a_trained_model_predicts_what_it_predicted(folder, tmp_path):
    small_training(tmp_path, keep_model=True)
    trained, now = load_trained(folder / TRAINED), load_trained(tmp_path)
    then, today = trained.predictions["last_epoch"], now.predictions["last_epoch"]
    assert then.names == today.names
    assert list(then.predicted) == pytest.approx(list(today.predicted), rel=1e-4)
    clips = {"visual": torch.linspace(-1, 1, 4 * trained.widths["visual"]).view(4, -1).numpy()}
    score = trained.score(clips, names=["performance"])["performance"].score
    assert score == pytest.approx(now.score(clips, names=["performance"])["performance"].score, rel=1e-4)
