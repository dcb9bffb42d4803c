"""`Dataset.from_arrays`: features and scores of one's own are a dataset like any other."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mag2.baselines import GDLT
from mag2.data import ClipFeatures, DataError, Dataset, Performances, TorchDataset, collate
from mag2.data.pooling import pooled
from mag2.training import Recipe, Run, fit, predict

LENGTHS = (3, 5, 4, 6, 3, 7, 4, 5)
N = len(LENGTHS)
SCORES = [9.5, 12.0, 11.25, 14.0, 8.0, 13.5, 10.0, 15.5]


def videos(width=4, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(length, width)).astype(np.float32) for length in LENGTHS]


def made(features=None, scores=SCORES, **options):
    return Dataset.from_arrays(videos() if features is None else features, scores, **({"scale": 16.0} | options))


def tiny():
    torch.manual_seed(0)
    return GDLT(in_dim=4, dim=8, n_heads=2)


def everything(dataset):
    """All features of all videos, by name."""
    return {
        name: split.batch([number]).visual[0, : split.lengths[number]]
        for split in (dataset.train, dataset.test)
        for number, name in enumerate(split.names)
    }


def files_of(arrays, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for number, array in enumerate(arrays):
        np.save(folder / f"take-{number}.npy", array)
    return [folder / f"take-{number}.npy" for number in range(len(arrays))]


# Features


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    "form",
    [
        lambda arrays: arrays,
        lambda arrays: tuple(arrays),
        lambda arrays: (each for each in arrays),
        lambda arrays: [torch.from_numpy(each) for each in arrays],
        lambda arrays: [torch.from_numpy(each).requires_grad_() for each in arrays],
        lambda arrays: [each.astype(np.float64) for each in arrays],
        lambda arrays: [each.tolist() for each in arrays],
        lambda arrays: [np.asfortranarray(each) for each in arrays],
        lambda arrays: [np.stack([each - 1, each + 1], axis=1) for each in arrays],
        lambda arrays: {"visual": arrays, "audio": None},
        lambda arrays: np.array([*arrays, None], dtype=object)[:-1],
        lambda arrays: torch.nested.nested_tensor([torch.from_numpy(each) for each in arrays]),
    ],
)
def test_every_form_of_the_same_features_gives_the_same_dataset(form):
    expected = everything(made())
    given = everything(made(form(videos())))
    assert list(given) == list(expected)
    for name in expected:
        torch.testing.assert_close(given[name], expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8, np.uint64, np.float16, np.longdouble])
def test_numbers_of_any_kind_become_float32(dtype):
    dataset = made([np.arange(12).reshape(3, 4).astype(dtype)] * N)
    assert dataset.train.batch([0]).visual.dtype == torch.float32
    assert dataset.train.batch([0]).visual[0, 2].tolist()[:4] == [8, 9, 10, 11]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.int64])
def test_tensors_of_any_numbers_are_read(dtype):
    dataset = made([torch.ones(3, 4).to(dtype)] * N)
    assert (dataset.train.batch([0]).visual == 1).all()


def test_features_are_copied():
    arrays = videos()
    dataset = made(arrays)
    before = dataset.train.batch([0]).visual.clone()
    for array in arrays:
        array[:] = 7
    assert torch.equal(dataset.train.batch([0]).visual, before)


def test_files_give_the_features_and_names_of_the_videos(tmp_path):
    files = files_of(videos(), tmp_path / "video")
    dataset = made([str(file) for file in files])
    assert sorted(dataset.train.names + dataset.test.names) == [f"take-{number}" for number in range(N)]
    from_memory = made(names=[f"take-{number}" for number in range(N)])
    assert dataset.fingerprints == from_memory.fingerprints
    assert (tmp_path / "video" / ".mag2-cache").is_dir()
    assert made(files).fingerprints == dataset.fingerprints  # from the store


def test_a_changed_file_changes_the_dataset(tmp_path):
    files = files_of(videos(), tmp_path)
    before = made(files, cache=tmp_path / "cache").fingerprint
    np.save(files[2], videos()[2] + 1)
    assert made(files, cache=tmp_path / "cache").fingerprint != before
    assert not (tmp_path / ".mag2-cache").exists()


def test_files_of_two_folders_do_not_share_a_store(tmp_path):
    first = files_of(videos(), tmp_path / "a")
    second = files_of(videos(seed=1), tmp_path / "b")
    both = [made(each, cache=tmp_path / "cache") for each in (first, second, first)]
    assert both[0].fingerprint == both[2].fingerprint != both[1].fingerprint


def test_files_of_two_modalities_need_not_have_the_same_names(tmp_path):
    visual, audio = files_of(videos(), tmp_path / "video"), files_of(videos(), tmp_path / "audio")
    named = made({"visual": visual, "audio": [file.rename(file.with_stem(f"{file.stem}-ast")) for file in audio]})
    assert torch.equal(named.train.batch([0]).visual, named.train.batch([0]).audio)


def test_one_file_of_all_videos_is_mapped_and_not_copied(tmp_path):
    whole = np.random.default_rng(0).normal(size=(N, 5, 4)).astype(np.float32)
    np.save(tmp_path / "all.npy", whole)
    mapped = made(tmp_path / "all.npy")
    assert mapped.fingerprints["visual"] == made(list(whole)).fingerprints["visual"]
    assert list(tmp_path.iterdir()) == [tmp_path / "all.npy"]  # no store


def test_modalities_of_different_length_end_with_the_shortest_and_say_so():
    longer = [np.concatenate([each, each[:1]]) for each in videos()]
    with pytest.warns(UserWarning, match="8 of 8 videos of own have visual, audio features of different length"):
        dataset = made({"visual": videos(), "audio": longer})
    assert sorted([*dataset.train.lengths, *dataset.test.lengths]) == sorted(LENGTHS)
    assert dataset.train.batch([0]).audio.shape == dataset.train.batch([0]).visual.shape


# Scores


def test_labels_are_scores_less_the_minimum_over_the_scale():
    dataset = made(minimum=6.0, scale=10.0, split=[range(6), [6, 7]])
    assert dataset.train.label.tolist() == pytest.approx([(score - 6) / 10 for score in SCORES[:6]])
    assert dataset.train.in_units(dataset.train.label).tolist() == pytest.approx(SCORES[:6])


@pytest.mark.parametrize(
    "form", [tuple, np.array, torch.tensor, iter, lambda scores: [torch.tensor(each) for each in scores], np.float32]
)
def test_scores_of_every_form_give_the_same_labels(form):
    assert torch.equal(made(scores=form(SCORES)).train.label, made().train.label)


def test_whole_scores_are_scores():
    assert made(scores=range(N), scale=N).train.label.max() <= 1


def test_without_a_scale_the_best_training_score_is_it_and_says_so_once():
    with pytest.warns(
        UserWarning, match=r"no scale was given: scores are divided by 15\.5, which .* best .* training"
    ) as said:
        dataset = made(scale=None, split=[[1, 7, 3, 5], [0, 2, 4, 6]])
    assert len(said) == 1
    assert said[0].filename == __file__.replace(".pyc", ".py")
    assert dataset.train.scale == 15.5
    assert dataset.train.label.max() == 1


# Splits


def test_a_share_is_drawn_with_the_seed():
    names = [made(split=0.25, seed=seed).test.names for seed in (0, 0, 1, 2, 3)]
    assert names[0] == names[1]
    assert len({tuple(each) for each in names}) > 1
    assert all(len(each) == 2 for each in names)


def test_lists_masks_and_names_of_parts_give_the_same_split():
    test = [1, 4, 6]
    train = [0, 2, 3, 5, 7]
    mask = [number in test for number in range(N)]
    forms = [
        (train, test),
        [np.array(train), torch.tensor(test)],
        mask,
        np.array(mask),
        torch.tensor(mask),
        {"train": train, "test": test},
        (~np.array(mask), mask),
    ]
    prints = {made(split=each).fingerprint for each in forms}
    assert len(prints) == 1
    assert made(split=mask).test.names == ["video-1", "video-4", "video-6"]


def test_the_order_of_lists_is_kept():
    assert made(split=[[5, 0, 2, 3, 4, 6], [7, 1]]).test.names == ["video-7", "video-1"]


def test_three_parts_make_a_validation_split():
    dataset = made(split={"train": [0, 1, 2], "validation": [3, 4], "test": [5, 6, 7]})
    assert dataset.validation.names == ["video-3", "video-4"]
    assert "validation: Performances(2 videos" in repr(dataset)
    drawn = made(split=(0.5, 0.25, 0.25))
    assert [len(drawn.train), len(drawn.validation), len(drawn.test)] == [4, 2, 2]
    assert made().validation is None


def test_videos_in_no_part_are_left_out_and_this_is_said():
    with pytest.warns(UserWarning, match="3 of 8 videos are in no part of the split and are left out") as said:
        dataset = made(split=[[0, 1, 2], [3, 4]])
    assert said[0].filename == __file__
    assert len(pooled(dataset)) == 5


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_never_torn_apart(seed):
    groups = ["Ann", "Bo", "Ann", "Cy", "Bo", "Di", "Di", "Cy"]
    dataset = made(split=0.5, groups=groups, seed=seed)
    assert not set(dataset.train.groups) & set(dataset.test.groups)
    assert len(dataset.test) == 4
    assert dataset.test.groups == [groups[int(name.rpartition("-")[2])] for name in dataset.test.names]


def test_groups_may_be_numbers_arrays_or_tensors():
    numbers = [0, 0, 1, 1, 2, 2, 3, 3]
    prints = {made(groups=each).fingerprint for each in (numbers, np.array(numbers), torch.tensor(numbers))}
    assert len(prints) == 1


# Fingerprints


def dataset_of(seed=0, label=(0.25, 0.5)):
    split = Performances(
        ["a", "b"],
        torch.tensor(label),
        scale=16.0,
        features={"visual": ClipFeatures.stack(videos(seed=seed)[:2])},
        clips=3,
    )
    return Dataset("own", "score", split, split, simulated=False, fingerprints={})


def test_fingerprints_are_computed_also_where_none_are_given():
    assert set(dataset_of().fingerprints) == {"videos", "visual"}
    assert dataset_of().fingerprint == dataset_of().fingerprint
    assert dataset_of(seed=1).fingerprints["visual"] != dataset_of().fingerprints["visual"]
    assert dataset_of(label=(0.25, 0.75)).fingerprints["videos"] != dataset_of().fingerprints["videos"]


def test_a_hash_of_ones_own_is_kept_beside_them():
    dataset = replace(dataset_of(), fingerprints={"camera": "abc", "visual": "made up"})
    assert dataset.fingerprints == {"camera": "abc"} | dataset_of().fingerprints


def test_another_dataset_does_not_get_the_history_of_the_first_one(tmp_path):
    run = Run(epochs=1, folder=tmp_path)
    fit(tiny(), dataset_of(), Recipe(), run)
    with pytest.raises(ValueError, match="data"):
        fit(tiny(), dataset_of(seed=1), Recipe(), run)
    with pytest.raises(ValueError, match="data"):
        fit(tiny(), dataset_of(label=(0.25, 0.75)), Recipe(), run)


@pytest.mark.parametrize("changed", ["scale", "minimum", "names", "clips", "target", "split", "audio"])
def test_whatever_changes_a_batch_changes_the_fingerprint(changed):
    plain = {"split": [range(5), [5, 6, 7]]}
    other = {
        "scale": {"scale": 17.0},
        "minimum": {"minimum": 1.0},
        "names": {"names": list("abcdefgh")},
        "clips": {"clips": 3},
        "target": {"target": "difficulty"},
        "split": {"split": [range(4), [4, 5, 6, 7]]},
        "audio": {"features": {"visual": videos(), "audio": videos(seed=1)}},
    }[changed]
    assert made(**(plain | other)).fingerprint != made(**plain).fingerprint


# Use


def test_fit_and_predict_take_it_and_a_killed_run_goes_on(tmp_path):
    dataset = made(split=0.4)
    whole = fit(tiny(), dataset, Recipe(lr=1e-2), Run(epochs=3))
    half = Run(epochs=3, folder=tmp_path, checkpoint_seconds=0)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), dataset, Recipe(lr=1e-2), half, on_epoch=lambda epoch: _stop_after(2, epoch))
    again = fit(tiny(), made(split=0.4), Recipe(lr=1e-2), half)
    assert [epoch.loss for epoch in again.epochs] == [epoch.loss for epoch in whole.epochs]
    assert predict(tiny(), dataset.test).shape == (len(dataset.test),)


def _stop_after(number, epoch):
    if epoch.epoch == number:
        raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_takes_it(workers):
    dataset = made({"visual": videos(), "audio": videos(width=3)}, split=[range(6), [6, 7]], clips=5)
    loader = DataLoader(
        TorchDataset(dataset.train, random_crops=False), batch_size=4, num_workers=workers, collate_fn=collate
    )
    batches = list(loader)
    assert [tuple(batch["visual"].shape) for batch in batches] == [(4, 5, 4), (2, 5, 4)]
    assert batches[0]["audio"].shape == (4, 5, 3)
    assert torch.equal(torch.cat([batch["label"] for batch in batches]), dataset.train.label)


def test_nothing_else_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(names=list("abcdefgh"), groups=[0, 0, 1, 1, 2, 2, 3, 3], clips=4, simulated=True)


def test_data_that_was_drawn_is_marked():
    assert made(simulated=True).simulated
    assert "simulated" in repr(made(simulated=True))
    assert not made().simulated


# All videos as one split


def test_pooled_videos_are_in_the_order_of_their_arrays():
    dataset = made(split=[[7, 0, 5, 2], [6, 1, 3, 4]])
    assert pooled(dataset).names == [f"video-{number}" for number in range(N)]
    assert pooled(dataset).in_units(pooled(dataset).label).tolist() == pytest.approx(SCORES)


def test_pooled_splits_that_were_made_apart_follow_each_other():
    one, other = dataset_of().train, dataset_of(seed=1).train
    other.names = ["c", "d"]
    joined = pooled(Dataset("own", "score", one, other))
    assert joined.names == ["a", "b", "c", "d"]
    assert torch.equal(joined.batch([3]).visual, other.batch([1]).visual)
    with pytest.raises(DataError, match="'a' is in own 2 times: give every video its own name"):
        pooled(dataset_of())


def test_a_subset_shares_the_features_and_refuses_what_is_not_there():
    train = made(split=[range(6), [6, 7]]).train
    part = train.subset([4, 1])
    assert part.names == ["video-4", "video-1"]
    assert torch.equal(part.batch([0]).visual, train.batch([4]).visual)
    with pytest.raises(ValueError, match="there are videos 0 to 5 in this split, got"):
        train.subset([6])
