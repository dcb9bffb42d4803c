"""What a training records of its early epochs, and the folder of a run read back."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from mag2 import MLAVL, TextFeatures
from mag2.data import simulate
from mag2.training import Recipe, Run, fit, train
from mag2.training.outputs import outputs
from mag2.training.recording import read_recorded, recorded_epochs
from mag2.training.run_folder import read_run

RECIPE = Recipe(lr=3e-3, batch=8)


@pytest.fixture(scope="module")
def dataset():
    texts = TextFeatures.for_sport("figure_skating")
    return simulate(texts, train=12, test=6, length=(4, 6), widths={"visual": 12, "audio": 12, "flow": 8}).dataset(
        "TES", clips=5
    )


def small_model():
    torch.manual_seed(0)
    return MLAVL(TextFeatures.for_sport("figure_skating"), visual_dim=12, audio_dim=12, dim=8, n_heads=2)


def test_what_is_recorded_is_what_the_model_returns_after_that_epoch(dataset, tmp_path):
    model = small_model()
    fit(model, dataset, RECIPE, Run(epochs=2, folder=tmp_path, record=(1, 2)))
    assert recorded_epochs(tmp_path) == [1, 2]
    found = read_recorded(tmp_path, 2)
    expected = outputs(model, dataset.test, lambda name: name.startswith(("grades", "weights")))
    assert set(found) == {*expected, "label"}
    assert set(expected) == {"grades_visual", "grades_audio_visual", "weights_visual", "weights_audio_visual"}
    for name, value in expected.items():
        assert torch.equal(found[name], value)
    assert torch.equal(found["label"], dataset.test.label)
    assert not torch.equal(read_recorded(tmp_path, 1)["grades_visual"], found["grades_visual"])


def test_recording_changes_no_number(dataset, tmp_path):
    plain = fit(small_model(), dataset, RECIPE, Run(epochs=3))
    recorded = fit(small_model(), dataset, RECIPE, Run(epochs=3, folder=tmp_path, record=(1, 2)))
    assert [epoch.loss for epoch in plain.epochs] == [epoch.loss for epoch in recorded.epochs]


class Mean(nn.Module):
    """Scores by a linear map of the mean clip; decodes nothing."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(12, 1)

    def forward(self, visual, audio=None, flow=None):
        return {"score": self.head(visual.mean(dim=1)).squeeze(1)}

    def loss(self, output, label):
        return {"total": (output["score"] - label).square().mean()}


def test_a_model_without_grades_says_so_once(dataset, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(Mean(), dataset, RECIPE, Run(epochs=2, folder=tmp_path, record=(1, 2)))
    said = [str(each.message) for each in caught if "recorded" in str(each.message)]
    assert said == ["Mean returns no grades: nothing of its epochs is recorded"]
    assert recorded_epochs(tmp_path) == []


def test_an_epoch_beyond_the_last_is_refused():
    with pytest.raises(ValueError, match="a training of 3 epochs cannot record epoch 4; give 1 to 3"):
        Run(epochs=3, record=(4,))
    with pytest.raises(ValueError, match="cannot record epoch 0"):
        Run(epochs=3, record=(0,))


def test_a_damaged_record_is_one_sentence(dataset, tmp_path):
    fit(small_model(), dataset, RECIPE, Run(epochs=1, folder=tmp_path, record=(1,)))
    (tmp_path / "recorded" / "epoch-0001.safetensors").write_bytes(b"not a record")
    with pytest.raises(ValueError, match=r"epoch-0001.safetensors is damaged; train again with --record 1"):
        read_recorded(tmp_path, 1)
    with pytest.raises(ValueError, match=r"has no record of epoch 2"):
        read_recorded(tmp_path, 2)


def test_the_folder_of_one_training_is_read(dataset, tmp_path):
    history = fit(small_model(), dataset, RECIPE, Run(epochs=2, folder=tmp_path))
    run = read_run(tmp_path)
    assert (run.grid, run.simulated, len(run.trainings)) == (False, True, 1)
    assert [epoch["loss"] for epoch in run.trainings[0].metrics] == [epoch.loss for epoch in history.epochs]
    assert run.trainings[0].result["last_epoch"]["spearman"] == history.last.spearman


def test_a_line_that_a_kill_cut_off_is_left_out_and_another_is_damage(dataset, tmp_path):
    fit(small_model(), dataset, RECIPE, Run(epochs=2, folder=tmp_path))
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"epoch": 3, "lo')
    assert len(read_run(tmp_path).trainings[0].metrics) == 2
    path.write_text('{"epoch": 3, "lo\n' + whole)
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1, is damaged"):
        read_run(tmp_path)


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no results; give the folder of a run"):
        read_run(tmp_path)
    (tmp_path / "cells").mkdir()
    with pytest.raises(ValueError, match=r"no training in .* is finished"):
        read_run(tmp_path)


def test_a_folder_of_an_earlier_version_is_read_with_its_names():
    folder = Path(__file__).parent / "saved" / "0.1.0" / "table"
    run = read_run(folder)
    assert [heading.key for heading in run.headings] == ["1", "3"]
    assert run.headings[1].name == "CoFInAl +MAG2"
    assert not run.published_known
    assert json.loads((folder / "settings.json").read_text())["settings"] == run.settings
