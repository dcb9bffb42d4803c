"""Scores in real units, with contributions, grades, intervals and seconds; faults in one sentence."""

import json

import numpy as np
import pytest
import torch

from mag2 import MLAVL, SimilarityWeighted, TextFeatures, load_trained
from mag2.adapters import gdlt
from mag2.baselines import GDLT
from mag2.data import Batch, DataError, simulate
from mag2.scoring import calibrate, contributions, score_by
from mag2.scoring.conformal import half_width
from mag2.scoring.scores import Score, Scores
from mag2.training import Recipe, Run, fit, predict, save_trained

TEXTS = TextFeatures.for_sport("figure_skating")
RECIPE = Recipe(lr=3e-3, batch=8)


@pytest.fixture(scope="module")
def simulation():
    widths = {"visual": 384, "audio": 16, "flow": 8}
    return simulate(TEXTS, train=16, test=30, length=(5, 12), widths=widths, aligned=True, top1=0.6)


@pytest.fixture(scope="module")
def dataset(simulation):
    return simulation.dataset("TES", clips=8)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """Two seeds of MLAVL, trained for an epoch."""
    folder = tmp_path_factory.mktemp("trained")
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = MLAVL(TEXTS, visual_dim=384, audio_dim=16, dim=16, n_heads=4)
        fit(model, dataset, RECIPE, Run(epochs=1, seed=seed, folder=folder / f"{seed}"), keep_model=True)
    return [load_trained(folder, seed=seed) for seed in (0, 1)]


def clips_of(simulation, number):
    """All clips of a test video."""
    return {key: part.video(simulation.n_train + number) for key, part in simulation.features.items()}


def test_a_score_is_that_of_the_evaluation(simulation, dataset, trained):
    expected = (predict(trained[0].model, dataset.test) * dataset.test.scale).tolist()
    scores = trained[0].score(dataset.test, explain=())
    assert [each.score for each in scores] == pytest.approx(expected)
    assert [each.name for each in scores] == dataset.test.names
    alone = trained[0].score(clips_of(simulation, 3))
    assert alone[0].score == pytest.approx(expected[3], rel=1e-4)


def test_the_same_performance_from_memory_files_and_a_folder(simulation, trained, tmp_path):
    places = {"visual": "video", "audio": "audio", "flow": "flow", "vision_language": "vision_language"}
    for number in range(2):
        for key, rows in clips_of(simulation, number).items():
            (tmp_path / places[key]).mkdir(exist_ok=True)
            np.save(tmp_path / places[key] / f"video{number}.npy", rows.numpy())
    clips = {"frames": 32, "fps": "25"}
    (tmp_path / "extraction.json").write_text(json.dumps({"format": 1, "clips": clips, "features": {}, "videos": {}}))
    folder = trained[0].score(tmp_path)
    both = [clips_of(simulation, number) for number in range(2)]
    memory = trained[0].score({key: [each[key] for each in both] for key in places}, names=["video0", "video1"])
    files = trained[0].score(
        {key: [tmp_path / place / f"video{n}.npy" for n in (0, 1)] for key, place in places.items()}
    )
    for each in (memory, files):
        assert [(one.name, one.score) for one in each] == [(one.name, one.score) for one in folder]
    assert trained[0].score(tmp_path, names=["video1"])[0].score == pytest.approx(folder["video1"].score, rel=1e-5)
    first = folder["video0"]
    assert first.seconds[0] == pytest.approx((first.first * 1.28, (first.first + 1) * 1.28))
    assert memory[0].seconds is None
    assert trained[0].score(both[0], clip_seconds=2).performances[0].seconds[-1][1] == 2 * (first.first + first.clips)


def test_occlusion_is_leaving_each_clip_out_one_by_one(simulation, trained):
    """Batched as slow: the clip is replaced by the mean of the others, in every modality."""
    video = next(n for n in range(30) if 5 <= simulation.features["visual"].lengths[simulation.n_train + n] < 8)
    clips = clips_of(simulation, video)
    scores = trained[0].score(clips, batch=3)
    whole, model = scores[0].score, trained[0]
    for clip in range(scores[0].clips):
        left = {}
        for key, rows in clips.items():
            left[key] = rows.clone()
            left[key][clip] = torch.cat([rows[:clip], rows[clip + 1 :]]).mean(dim=0)
        expected = whole - model.score(left, explain=())[0].score
        assert scores[0].contributions["occlusion"][clip] == pytest.approx(expected, abs=2e-3)


def test_gradient_times_input_is_the_derivative_along_the_clip(simulation, trained):
    clips, model = clips_of(simulation, 1), trained[0]
    found = model.score(clips, explain=["gradient times input"])[0]
    values, start, step = found.contributions["gradient times input"], found.first, 1e-2
    for clip in (0, found.clips - 1):
        up, down = ({k: v.clone() for k, v in clips.items()} for _ in range(2))
        for key in clips:
            up[key][start + clip] *= 1 + step
            down[key][start + clip] *= 1 - step
        slope = (model.score(up, explain=())[0].score - model.score(down, explain=())[0].score) / (2 * step)
        assert values[clip] == pytest.approx(slope, abs=2e-2)


def test_a_clip_that_a_model_does_not_read_contributes_nothing():
    class First(torch.nn.Module):
        def forward(self, visual, audio, flow):
            return {"score": visual[:, 0].mean(dim=-1)}

    batch = Batch(torch.rand(1, 5, 4), None, None, torch.zeros(1))
    for method in ("occlusion", "gradient times input"):
        values = contributions(method, First(), batch, 5)
        assert values[0] != 0
        assert not values[1:].any()


def test_grades_and_their_weights_stand_in_the_score(simulation, trained, dataset, tmp_path):
    grades = trained[0].score(clips_of(simulation, 0), explain=())[0].grades
    assert {kind: len(weights) for kind, weights in grades.items()} == {"visual": 6, "audio_visual": 12}
    assert sum(grades["visual"]) == pytest.approx(1, abs=1e-4)
    save_trained(GDLT(in_dim=384, dim=16), tmp_path, dataset)
    assert list(load_trained(tmp_path).score(dataset.test, explain=())[0].grades) == ["grades"]


def test_several_seeds_give_their_mean_and_spread(simulation, trained):
    clips = clips_of(simulation, 2)
    both = score_by(trained, clips)
    each = [one.score(clips) for one in trained]
    assert both[0].by_seed == tuple(one[0].score for one in each)
    assert both[0].score == pytest.approx(np.mean(both[0].by_seed))
    assert both[0].spread == pytest.approx(np.std(both[0].by_seed, ddof=1))
    mean = np.mean([one[0].contributions["occlusion"] for one in each], axis=0)
    np.testing.assert_allclose(both[0].contributions["occlusion"], mean)
    errors = np.abs(
        np.mean([one.own_predictions.predicted for one in trained], axis=0) - trained[0].own_predictions.score
    )
    assert both.interval.half_width == half_width(errors, 0.9)
    assert both[0].high - both[0].score == pytest.approx(both.interval.half_width)
    assert "seeds 0, 1" in str(both)


def test_actions_are_named_only_by_an_outside_similarity(simulation, dataset, trained, tmp_path):
    guided = SimilarityWeighted(gdlt.with_mag2(GDLT(in_dim=384, dim=16), TEXTS), TEXTS)
    save_trained(guided, tmp_path, dataset, texts=TEXTS, top1=simulation.top1)
    scores = load_trained(tmp_path).score(dataset.test, explain=())
    planted = simulation.planted_actions("test", 8)
    named = [[TEXTS.prompts.visual.index(a.action) for a in each.actions] for each in scores]
    # The crop ends with padding where a video is short; its planted action is -1.
    pairs = [pair for row, truth in zip(named, planted.tolist(), strict=True) for pair in zip(row, truth, strict=False)]
    right = [name == action for name, action in pairs if action >= 0]
    assert np.mean(right) == pytest.approx(0.6, abs=0.15)
    assert any(f"names {simulation.top1:.0%} of the planted actions" in note for note in scores.notes)
    without = trained[0].score({k: v for k, v in clips_of(simulation, 0).items() if k != "vision_language"})
    assert without[0].actions is None
    assert any("Actions of clips are not named" in note for note in without.notes)
    save_trained(guided, tmp_path, dataset, texts=TEXTS)
    assert any(
        "accuracy was not measured: it is unknown" in n for n in load_trained(tmp_path).score(dataset.test).notes
    )


def test_split_conformal_takes_the_right_error():
    errors = np.arange(1.0, 20.0)  # 19: the 90 % interval is the 18th
    assert half_width(errors, 0.9) == 18
    assert half_width(errors, 0.5) == 10
    assert half_width(errors[:8], 0.9) == np.inf
    assert calibrate(errors[:8]) is None
    assert half_width(errors[:9], 0.9) == 9
    assert np.isnan(calibrate(errors[:12]).coverage)
    assert "not measured" in str(calibrate(errors[:12]))


def test_the_measured_coverage_is_that_of_videos_held_out():
    errors = np.abs(np.random.default_rng(0).standard_normal(400))
    for level in (0.8, 0.9):
        interval = calibrate(errors, level)
        assert interval.coverage == pytest.approx(level, abs=0.02)
        assert 0 < interval.spread < 0.05
    # A calibration half says nothing of another kind of videos: mixed kinds show in the spread.
    assert f"{interval.coverage:.1%}" in str(interval)


def test_scores_are_chosen_by_number_or_name_and_another_says_what_there_is():
    every = [Score(name, 1.0, (1.0,), None, None, 4, 4, 0) for name in ("v1", "v2", "free skating")]
    scores = Scores("MLAVL", "FS1000", "TES", 130.0, (0,), tuple(every), None)
    assert scores["v2"] is scores[1] is scores[np.int64(1)] is scores[-2]
    with pytest.raises(KeyError, match="there is no performance 'unknown'; there are 'v1', 'v2', 'free skating'"):
        scores["unknown"]
    with pytest.raises(KeyError, match="the nearest is 'free skating'"):
        scores["free_skating"]
    for number in (3, -4):
        with pytest.raises(IndexError, match=f"there is no performance {number}; there are 3, from 0 to 2"):
            scores[number]
    for odd, kind in ((slice(0, 2), "slice"), (1.0, "float"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"is chosen by number or name, got a {kind}"):
            scores[odd]


def test_scores_are_plain_values_and_sentences(simulation, trained):
    scores = trained[0].score(clips_of(simulation, 0))
    plain = json.loads(json.dumps(scores.plain))
    assert plain["performances"][0]["score"] == scores[0].score
    assert plain["interval"]["videos"] == 30
    text = str(scores)
    assert "by occlusion" in text
    assert "SIMULATED" in text
    assert "on held-out halves" in text
    assert "points" in text


@pytest.mark.parametrize(
    ("given", "options", "sentence"),
    [
        ({"visual": torch.rand(8, 7)}, {}, "visual features are 7 wide and the model was trained on 384"),
        ({"visual": torch.rand(384, 8)}, {}, r"8 wide .* on 384: their axes look exchanged, give \(clips, width\)"),
        ({"visual": torch.rand(8)}, {}, r"want shape \(clips, width\), got shape \(8,\)"),
        ({"visual": torch.ones(8, 384) > 0}, {}, r"want shape \(clips, width\), got a Tensor of bool"),
        ({"visual": torch.ones(8, 384) * 1j}, {}, "got a Tensor of complex64"),
        ({"visual": np.ones((8, 384), object)}, {}, "got a ndarray of object"),
        ({"visual": [[["a", "b"]]]}, {}, "got a list of <U1"),
        ({"visual": torch.full((8, 384), torch.nan)}, {}, "NaN or infinite features"),
        ({"visual": "nowhere.npy"}, {}, "there is no feature file nowhere.npy"),
        ("nowhere", {}, "there is no file or folder nowhere"),
        ({"sound": torch.rand(8, 16)}, {}, "there is no modality 'sound'"),
        ({"audio": torch.rand(8, 16)}, {}, "visual features are missing"),
        ({"visual": {"a": torch.rand(8, 384)}, "audio": {"b": torch.rand(8, 16)}}, {}, "video 'a' does not have both"),
        ({"visual": torch.rand(8, 384)}, {}, "wants audio features"),
        ({"visual": []}, {}, "there is no video among the visual features"),
        ({"visual": torch.rand(8, 384)}, {"names": ["a", "b"]}, "got shape|want as many different names"),
        ({"visual": torch.rand(8, 384), "audio": torch.rand(8, 16)}, {"explain": ["saliency"]}, "unknown method"),
        ({"visual": torch.rand(8, 384), "audio": torch.rand(8, 16)}, {"level": 1}, "between 0 and 1, got 1"),
    ],
)
def test_faults_get_one_sentence(trained, given, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        trained[0].score(given, **options)


def test_models_of_several_targets_are_not_averaged(simulation, trained, tmp_path):
    model = MLAVL(TEXTS, visual_dim=384, audio_dim=16, dim=16, n_heads=4)
    save_trained(model, tmp_path, simulation.dataset("PCS", clips=8))
    with pytest.raises(ValueError, match="score those of each apart"):
        score_by([trained[0], load_trained(tmp_path)], clips_of(simulation, 0))


def test_a_folder_without_videos_says_so(trained, tmp_path):
    with pytest.raises(DataError, match="give the folder that mag2 extract wrote"):
        trained[0].score(tmp_path)
