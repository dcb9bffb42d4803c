"""The simulator: what it plants is there, and it reads back exactly as it was."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from mag2.data import TARGETS, DataError, read_fs1000, simulate

M, WIDTH = 20, 24
SMALL = {"visual": 48, "audio": 32, "flow": 40}


def random_texts(actions=M, seed=0):
    generator = torch.Generator().manual_seed(seed)
    # A common part, as the prompts of one sport have, and a part of each action's own.
    common = 2 * torch.randn(2, 1, WIDTH, generator=generator)
    visual, audio = common + torch.randn(2, actions, WIDTH, generator=generator)
    return SimpleNamespace(visual=visual, audio=audio)


@pytest.fixture(scope="module")
def simulation():
    return simulate(random_texts(), train=40, test=15, length=(30, 50), widths=SMALL)


@pytest.fixture(scope="module")
def large():
    return simulate(random_texts(), train=300, test=150, length=(40, 60), widths=SMALL, aligned=True, seed=3)


@pytest.fixture(scope="module")
def written(simulation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    simulation.write_fs1000(folder)
    return folder


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data(simulation):
    options = {"train": 40, "test": 15, "length": (30, 50), "widths": SMALL}
    again, other = simulate(random_texts(), **options), simulate(random_texts(), **options, seed=1)
    for key in SMALL:
        assert again.features[key].digest == simulation.features[key].digest != other.features[key].digest
    assert again.scores == simulation.scores != other.scores
    assert again.dataset("TES").fingerprint == simulation.dataset("TES").fingerprint


def test_global_random_states_are_neither_read_nor_changed():
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    texts = random_texts()
    simulate(texts, train=2, test=1, widths=SMALL)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("target", TARGETS["FS1000"])
def test_what_is_written_reads_back_bit_for_bit(simulation, written, target):
    ours, read = simulation.dataset(target, clips=40), read_fs1000(written, target, clips=40)
    assert ours.fingerprint == read.fingerprint
    for a, b in ((ours.train, read.train), (ours.test, read.test)):
        assert (a.names, a.scale, a.widths) == (b.names, b.scale, b.widths)
        for generator in (None, 7):
            left, right = (
                split.batch(range(len(a)), generator and torch.Generator().manual_seed(generator)) for split in (a, b)
            )
            for key in ("visual", "audio", "flow", "label"):
                bits = [getattr(batch, key).view(torch.int32) for batch in (left, right)]
                assert torch.equal(*bits)


def test_the_written_folder_says_that_it_is_simulated_and_so_does_everything_read_from_it(simulation, written):
    assert "SIMULATED" in (written / "SIMULATED.txt").read_text()
    assert "prove nothing" in (written / "SIMULATED.txt").read_text()
    assert read_fs1000(written, "TES").simulated
    assert simulation.dataset("TES").simulated


def test_the_written_files_are_the_released_ones(simulation, written):
    rows = [line.split() for line in (written / "val_fs1000_new.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == simulation.names[40:]
    assert {len(row) for row in rows} == {9}
    crops = np.load(written / "video" / f"{rows[0][0]}.npy")
    assert crops.ndim == 3
    assert crops.shape[1] >= 2
    assert not np.array_equal(crops[:, 0], crops[:, 1])
    assert np.array_equal(crops.mean(1), simulation.features["visual"].video(40).numpy())
    assert np.load(written / "audio" / f"{rows[0][0]}.npy").shape == (len(crops), SMALL["audio"])


def test_a_simulation_is_never_written_over_other_data(simulation, written, tmp_path):
    (tmp_path / "train_fs1000_new.txt").write_text("real")
    with pytest.raises(DataError, match="new or empty folder"):
        simulation.write_fs1000(tmp_path)
    assert (tmp_path / "train_fs1000_new.txt").read_text() == "real"
    simulation.write_fs1000(written)  # over an older simulation it is


def test_without_a_width_for_flow_there_is_no_flow(tmp_path):
    bare = simulate(random_texts(), train=3, test=2, widths={"visual": 8, "audio": 8})
    bare.write_fs1000(tmp_path / "new")
    assert not (tmp_path / "new" / "flow").exists()
    assert read_fs1000(tmp_path / "new", "TES").train.batch([0]).flow is None


def test_lengths_vary_and_stay_within_the_requested_ones(simulation):
    lengths = [len(action) for action in simulation.action]
    assert (min(lengths) >= 30, max(lengths) <= 50, len(set(lengths)) > 10) == (True, True, True)
    for key in SMALL:
        assert simulation.features[key].lengths.tolist() == lengths
    assert [len(part) for part in (*simulation.fit, *simulation.q)] == lengths * 2


def test_every_performance_has_7_to_12_different_elements_of_similar_length(simulation):
    for action, fit, q in zip(simulation.action, simulation.fit, simulation.q, strict=True):
        borders = np.flatnonzero(np.diff(action)) + 1
        elements = [part for part in np.split(np.arange(len(action)), borders) if action[part[0]] >= 0]
        names = [action[part[0]] for part in elements]
        assert 7 <= len(set(names)) == len(names) <= 12
        assert {len(part) for part in elements} <= {1, 2, 3}
        for part in elements:
            assert len({(fit[i], q[i]) for i in part}) == 1
        rest = action < 0
        assert rest.any()
        assert set(fit[rest]) == {-1}
        assert set(fit[~rest]) <= {0, 1}
        assert np.isnan(q[rest]).all()
        assert ((q[~rest] >= 0) & (q[~rest] <= 1)).all()


@pytest.mark.parametrize("clips", [1, 5, 12, 19, 20, 39, 95, 300])
def test_performances_of_any_length_hold_together(clips):
    planted = simulate(random_texts(), train=20, test=1, length=(clips, clips), widths=SMALL)
    for action in planted.action:
        assert len(action) == clips
        assert 1 <= len(set(action[action >= 0])) <= min(12, clips)


def test_scores_lie_in_their_ranges_and_are_written_as_judges_write_them(large):
    for target in TARGETS["FS1000"]:
        for split in (large.dataset(target).train, large.dataset(target).test):
            assert split.label.min() > 0.05
            assert split.label.max() < 1
        assert all(float(f"{score:.2f}") == score for score in large.scores[target])
    marks = np.array([large.scores[key] for key in ("SS", "TR", "PE", "CO", "IN")])
    assert np.abs(marks.sum(0) * large.factor - large.scores["PCS"]).max() < 0.0051
    assert set(large.factor) == {0.8, 1.0, 1.6, 2.0}


def test_scores_follow_the_planted_execution_by_rank(large):
    """Marks are noisy views of one score, so they agree with its causes and with one another."""
    q = [np.nanmean(q) for q in large.q]
    fit = [fit[fit >= 0].mean() for fit in large.fit]
    assert spearmanr(q, large.scores["SS"]).statistic > 0.8
    assert spearmanr(fit, large.scores["SS"]).statistic > 0.4
    assert 0.85 < spearmanr(large.scores["SS"], large.scores["IN"]).statistic < 0.99
    # Every mark has the quantiles of its distribution, whatever the ranks: the same ones for any seed.
    other = simulate(random_texts(seed=5), train=300, test=150, length=(8, 8), widths={"visual": 2, "audio": 2})
    for target in ("TES", "SS", "TR", "PE", "CO", "IN"):
        assert sorted(large.scores[target]) == sorted(other.scores[target])


def test_technical_and_component_scores_correlate_as_in_real_competitions():
    correlations = []
    for seed in range(3):
        s = simulate(random_texts(seed=seed), seed=seed, length=(40, 40), widths={"visual": 2, "audio": 2})
        correlations.append(np.corrcoef(s.scores["TES"], np.divide(s.scores["PCS"], s.factor))[0, 1])
    assert 0.72 < np.mean(correlations) < 0.88


@pytest.mark.parametrize("target", ["TES", "PCS"])
@pytest.mark.parametrize("key", ["visual", "flow"])
def test_ridge_regression_on_mean_features_predicts_held_out_scores(large, key, target):
    data = large.dataset(target, clips=60)
    x, z = (getattr(split.batch(range(len(split))), key).mean(1).double() for split in (data.train, data.test))
    y = data.train.label.double()
    centre = x.mean(0)
    x = x - centre
    weight = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1]), x.T @ (y - y.mean()))
    assert spearmanr((z - centre) @ weight, data.test.label).statistic > 0.5


def test_the_music_tells_whether_it_fits_only_with_the_action(large):
    """Audio clips sound like the action when the music fits, and like another one when not."""
    clips = np.concatenate([large.features["audio"].video(i).numpy() for i in range(450)])
    action, fit = np.concatenate(large.action), np.concatenate(large.fit)
    sound = np.stack([clips[(action == k) & (fit == 1)].mean(0) for k in range(M)])
    sound -= sound.mean(0)
    agree = (clips * sound[action]).sum(1)
    assert agree[fit == 1].mean() > agree[fit == 0].mean() + 5


def test_an_aligned_map_is_orthonormal_and_names_the_planted_actions(large):
    torch.testing.assert_close(large.visual_map.T @ large.visual_map, torch.eye(WIDTH), atol=1e-5, rtol=0)
    texts = random_texts()
    batch, planted = (
        large.dataset("TES", clips=45).test.batch(range(150)),
        large.planted_actions("test", clips=45),
    )
    assert planted.shape == batch.visual.shape[:2]
    seen = (batch.visual @ large.visual_map)[:, :, None]
    for candidates in (large.texts, texts.visual):
        found = torch.cosine_similarity(seen, candidates, dim=-1).argmax(-1)
        assert (found == planted)[planted >= 0].float().mean() > 0.6  # chance is 0.05
    torch.testing.assert_close(large.texts.norm(dim=1), torch.ones(M))


def test_alignment_changes_the_map_and_nothing_else():
    options = {"train": 20, "test": 5, "length": (40, 40), "widths": SMALL}
    free, aligned = simulate(random_texts(), **options), simulate(random_texts(), **options, aligned=True)
    assert free.visual_map is None
    assert free.scores == aligned.scores
    assert free.features["audio"].digest == aligned.features["audio"].digest
    assert all(np.array_equal(a, b) for a, b in zip(free.action, aligned.action, strict=True))


def test_planted_actions_are_those_of_the_centre_crop():
    planted = simulate(random_texts(), train=2, test=1, length=(30, 30), widths=SMALL)
    assert planted.planted_actions("train", clips=20).tolist() == [a[5:25].tolist() for a in planted.action[:2]]
    assert planted.planted_actions("test", clips=32).tolist() == [[*planted.action[2].tolist(), -1, -1]]
    with pytest.raises(ValueError, match="'train' or 'test'"):
        planted.planted_actions("val")


def test_clips_of_one_video_share_a_nuisance_of_rank_8():
    planted = simulate(random_texts(), train=300, test=1, length=(60, 60), widths=SMALL)
    rest = np.stack([planted.features["visual"].video(i).numpy()[planted.action[i] < 0].mean(0) for i in range(300)])
    spectrum = np.linalg.svd(rest - rest.mean(0), compute_uv=False)
    assert spectrum[7] > 2.5 * spectrum[8]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train": 0}, "1 or more videos"),
        ({"length": (9, 8)}, "fewest and most"),
        ({"length": (0, 8)}, "fewest and most"),
        ({"widths": {"visual": 8}}, "visual and audio"),
        ({"widths": {"visual": 8, "audio": 8, "smell": 8}}, "visual and audio"),
        ({"widths": {"visual": WIDTH - 1, "audio": 8}, "aligned": True}, f"as wide as the texts, {WIDTH}"),
        ({"texts": SimpleNamespace(visual=torch.ones(5, 4), audio=torch.ones(5, 4))}, "differ"),
        (
            {"texts": SimpleNamespace(visual=torch.randn(5, 4), audio=torch.randn(6, 4))},
            "same 2 or more actions",
        ),
        ({"texts": SimpleNamespace(visual=torch.randn(5), audio=torch.randn(5))}, "finite visual texts"),
    ],
)
def test_what_cannot_be_simulated_is_one_plain_sentence(options, said):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        simulate(**{"texts": random_texts(), "train": 2, "test": 1, "widths": SMALL, **options})
    assert said in str(caught.value)


def test_an_unknown_target_is_refused_with_the_seven_names(simulation):
    with pytest.raises(DataError, match="TES, PCS, SS, TR, PE, CO, IN"):
        simulation.dataset("total")


def test_a_released_size_is_made_whole():
    made = simulate(random_texts(42), train=150, test=50, length=(95, 95)).dataset("TES", clips=95)
    assert made.train.batch(range(150)).visual.shape == (150, 95, 768)
    assert made.test.batch(range(50)).audio.shape == (50, 95, 768)
