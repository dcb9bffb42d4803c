"""How results are measured: which epoch is reported, what is scored, and that the page and the files say so."""

import csv
import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from mag2 import load_trained
from mag2.baselines import GDLT, PAMFN, QTD, CoFInAl
from mag2.data import simulate
from mag2.training import Run, command, fit, predict
from mag2.training.cells import Cell, Outcome
from mag2.training.history import Epoch, History
from mag2.training.prediction import whole_videos
from mag2.training.recipe import GDLT_RECIPE, Recipe
from mag2.training.recipes.model_recipe import SMALL_BATCH
from mag2.training.report import PROTOCOLS, page_notes, table_page
from mag2.training.tables import Heading
from mag2.training.target import Target
from tests.few import few_performances
from tests.test_data_rg import random_texts

ROOT = Path(__file__).parents[1]
WIDTHS = {"visual": 24, "audio": 16, "flow": 8}


@pytest.fixture(scope="module")
def dataset():
    return simulate(random_texts(), train=14, test=9, length=(6, 12), widths=WIDTHS).dataset("TES", clips=8)


def small_gdlt():
    torch.manual_seed(0)
    return GDLT(in_dim=24, dim=16, n_heads=2)


def test_three_protocols_report_three_epochs():
    """The last epoch; the best Spearman; and, apart, the least MSE: neither of these is ever nan."""
    measured = [(0.1, 3.0), (0.7, 5.0), (math.nan, 2.0), (0.6, math.nan), (0.4, 4.0)]
    history = History([Epoch(i + 1, 0.0, 0.0, rho, mse, 1.0, 0.0) for i, (rho, mse) in enumerate(measured)])
    assert history.last.epoch == 5
    assert history.best_on_test.epoch == 2
    assert history.best_mse_on_test.epoch == 3
    assert set(PROTOCOLS) == {"last_epoch", "best_on_test", "best_mse_on_test"}


def test_whole_videos_are_scored_from_their_first_to_their_last_clip_alone(dataset):
    model, videos = small_gdlt().eval(), dataset.test
    scores = predict(model, videos, evaluation="whole")
    lengths = videos.lengths.tolist()
    assert len(set(lengths)) > 1
    with torch.no_grad():
        for i, length in enumerate(lengths):
            clips = videos.batch([i], clips=length).visual
            assert clips.shape[1] == length
            assert clips.abs().sum(dim=2).min() > 0, "nothing is padded"
            torch.testing.assert_close(model(clips)["score"][0], scores[i])
    assert not torch.allclose(scores, predict(model, videos)), "crops of 8 clips leave something out"


def test_a_video_that_is_too_short_for_a_model_is_padded_up_to_what_it_takes(dataset):
    class Five(nn.Module):
        min_clips = 9

    shapes = [batch.visual.shape[1] for batch in whole_videos(nn.Sequential(Five()), dataset.test)]
    assert shapes == [max(9, length) for length in dataset.test.lengths.tolist()]
    assert PAMFN().branches["visual"].min_clips == 4


def test_a_video_that_is_too_long_for_a_model_is_refused_with_its_name(dataset):
    longest = dataset.test.names[int(dataset.test.lengths.argmax())]
    model = QTD(in_dim=24, dim=16, feed_forward=16, n_queries=3, n_heads=2, max_len=7, positional="query_memory")
    with pytest.raises(ValueError, match=rf"QTD takes 7 clips at most and video '{longest}' has 12"):
        fit(model, dataset, Recipe(batch=8), Run(epochs=1, evaluation="whole"))
    unbounded = QTD(in_dim=24, dim=16, feed_forward=16, n_queries=3, n_heads=2, max_len=7, positional="query")
    assert len(predict(unbounded, dataset.test, evaluation="whole")) == 9


def test_with_one_video_a_batch_cofinals_released_attention_across_it_does_nothing(dataset):
    torch.manual_seed(0)
    model = CoFInAl(in_dim=24, dim=16, n_heads=2, released=True)
    scores = predict(model, dataset.test, evaluation="whole")
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0)).tolist()
    model.eval()
    with torch.no_grad():
        for i in order:
            alone = model(dataset.test.batch([i], clips=int(dataset.test.lengths[i])).visual)["score"]
            torch.testing.assert_close(alone[0], scores[i])


def test_training_measures_what_its_run_says_and_a_checkpoint_knows_it(dataset, tmp_path):
    whole = fit(small_gdlt(), dataset, GDLT_RECIPE, Run(epochs=1, evaluation="whole", folder=tmp_path))
    crops = fit(small_gdlt(), dataset, GDLT_RECIPE, Run(epochs=1))
    assert whole.last.loss == crops.last.loss, "training is the same"
    assert whole.last.mse != crops.last.mse
    with pytest.raises(ValueError, match="of another training"):
        fit(small_gdlt(), dataset, GDLT_RECIPE, Run(epochs=1, folder=tmp_path))
    with pytest.raises(ValueError, match="unknown evaluation 'half'; there are crops, whole"):
        Run(epochs=1, evaluation="half")


def test_a_recipe_may_crop_to_a_length_of_its_own(dataset):
    lengths = []

    class Watched(GDLT):
        def forward(self, visual, audio=None, flow=None):
            lengths.append(visual.shape[1])
            return super().forward(visual)

    fit(Watched(in_dim=24, dim=16, n_heads=2), dataset, Recipe("sgd", lr=1e-2, batch=8, clips=5), Run(epochs=1))
    assert set(lengths) == {5}


def test_a_rate_by_iterations_falls_within_an_epoch(dataset):
    recipe = Recipe("sgd", lr=1.0, batch=4, schedule="step", step=2, step_unit="iteration")
    history = fit(small_gdlt(), dataset, recipe, Run(epochs=2))
    # Fourteen videos are three batches of four, or four: the second epoch begins at a tenth or less.
    assert history.epochs[0].lr == 1.0
    assert history.epochs[1].lr in (pytest.approx(0.1), pytest.approx(0.01))


def outcome(row, evaluation, **measured):
    numbers = {"spearman": 0.5, "mse": 1.0, "rl2": 2.0}
    result = {
        "last_epoch": numbers,
        "best_on_test": numbers | measured,
        "best_mse_on_test": numbers,
        "epochs": 3,
        "evaluation": evaluation,
        "train": 4,
        "test": 2,
        "clips": 8,
        "texts": "shipped",
        "top1": None,
        "data": "FS1000",
    }
    return Outcome(Cell(row, Target("FS1000", "TES"), 0), result)


def test_the_page_says_which_rows_are_scored_on_what():
    outcomes = [outcome("1", "whole"), outcome("2", "whole"), outcome("3", "crops")]
    notes = "\n".join(page_notes([0], outcomes, "narrow", simulated=False))
    assert "- Scored on whole videos, one at a time: rows 1, 2; on the middle crop of a video: row 3." in notes


def test_the_least_mse_stands_apart_and_the_mse_of_the_best_spearman_has_a_note():
    headings, targets = [Heading("1", "GDLT", "")], [Target("FS1000", "TES")]
    page = table_page("Title", [], headings, targets, [outcome("1", "crops", mse=900.0)], ("spearman", "mse"))
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    assert len(titles) == 5
    assert sum("least MSE on the test set" in title for title in titles) == 1
    assert page.count("may be far from their scale and this error absurdly large") == 1


@pytest.fixture(scope="module")
def table4():
    spec = importlib.util.spec_from_file_location("table4_of_protocols", ROOT / "examples" / "table4.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TABLE4


def test_the_command_records_what_was_really_used(table4, tmp_path, monkeypatch, capsys):
    """Batches, epochs, sizes and what is scored, by row and target: of narrow models too."""
    few_performances(monkeypatch, train=20, test=10, length=(6, 10), clips=8)
    given = ["--datasets", "FS1000", "--targets", "TES", "--epochs", "1", "--workers", "1", "--device", "cpu"]
    given += ["--out", str(tmp_path)]
    assert command.main(table4, ["--rows", "1", "4", "10", "10r", *given]) == 0
    page = capsys.readouterr().out
    assert "whole videos, one at a time: row 1; on the middle crop of a video: rows 4, 10, 10r." in page
    recorded = json.loads((tmp_path / "settings.json").read_text())["runs"][0]["recipes"]
    used = {row: next(iter(recipes.values())) for row, recipes in recorded.items()}
    assert {recipe["batch"] for recipe in used.values()} == {SMALL_BATCH}
    assert {recipe["epochs"] for recipe in used.values()} == {1}
    assert {row: recipe["evaluation"] for row, recipe in used.items()} == {
        "1": "whole",
        "4": "crops",
        "10": "crops",
        "10r": "crops",
    }
    assert used["4"]["model"]["n_queries"] == 16
    assert used["4"]["step_unit"] == "iteration"
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert len(rows) == 4 * 3
    with pytest.raises(SystemExit):
        command.main(table4, ["--rows", "1", "--evaluation", "crops", *given])
    assert "holds results of row 1 on FS1000/TES with evaluation whole, this run has crops" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(table4, ["--rows", "3", "--start", "replace", *given])
    assert "holds results with start residual, this run has replace" in capsys.readouterr().err


def test_a_trained_model_scores_whole_videos_as_it_was_tested(dataset, tmp_path):
    fit(small_gdlt(), dataset, GDLT_RECIPE, Run(epochs=1, evaluation="whole", folder=tmp_path), keep_model=True)
    trained = load_trained(tmp_path)
    assert trained.whole
    assert "whole videos" in repr(trained)
    own = torch.as_tensor(trained.own_predictions.predicted, dtype=torch.float32)
    torch.testing.assert_close(trained.predict(dataset.test), own, rtol=1e-4, atol=1e-4)
    length = int(dataset.test.lengths.max())
    scores = list(trained.score(dataset.test))
    assert max(score.clips for score in scores) == length > dataset.test.clips
    for score, expected in zip(scores, own.tolist(), strict=True):
        assert (score.clips, score.first) == (score.of, 0)
        assert score.score == pytest.approx(expected, rel=1e-4)
