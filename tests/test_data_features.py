"""Ragged features and the batches cut from them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mag2.data import Batch, ClipFeatures, Performances


def ragged(lengths, width=3, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((length, width), dtype=np.float32) for length in lengths]


def performances(lengths, clips, audio_lengths=None):
    visual = ragged(lengths, 3)
    audio = ragged(audio_lengths or lengths, 2, seed=1)
    split = Performances(
        [f"v{i}" for i in range(len(lengths))],
        torch.linspace(0, 1, len(lengths)),
        scale=10.0,
        features={"visual": ClipFeatures.stack(visual), "audio": ClipFeatures.stack(audio)},
        clips=clips,
    )
    return split, visual, audio


def slow_crop(videos, index, clips, starts):
    """The same, clip by clip."""
    out = torch.zeros(len(index), clips, videos[0].shape[1])
    for row, (video, start) in enumerate(zip(index, starts, strict=True)):
        for clip in range(clips):
            if start + clip < len(videos[video]):
                out[row, clip] = torch.from_numpy(videos[video][start + clip])
    return out


@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=1, max_side=6), st.integers(1, 9))
def test_a_batch_wise_crop_equals_the_slow_loop(data, shape, clips):
    lengths = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    videos = ragged(lengths)
    index = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, len(videos) - 1)))
    starts = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 10)))
    ours = ClipFeatures.stack(videos).crop(torch.from_numpy(index), clips, torch.from_numpy(starts))
    assert torch.equal(ours, slow_crop(videos, index, clips, starts))


def test_a_memory_map_gives_the_same_crops_as_an_array(tmp_path):
    videos = ragged([4, 9, 2])
    in_memory = ClipFeatures.stack(videos)
    np.save(tmp_path / "rows.npy", np.concatenate(videos))
    mapped = ClipFeatures(np.load(tmp_path / "rows.npy", mmap_mode="r"), [0, 4, 13, 15])
    assert torch.equal(mapped.crop([2, 1, 0], 5, [0, 3, 1]), in_memory.crop([2, 1, 0], 5, [0, 3, 1]))
    assert mapped.digest == in_memory.digest


def test_a_crop_is_a_copy_and_leaves_the_features_alone():
    features = ClipFeatures.stack(ragged([4]))
    before = features.video(0)
    features.crop([0], 4, [0]).fill_(7)
    features.video(0).fill_(7)
    assert torch.equal(features.video(0), before)


def test_a_part_and_a_shortened_view_hold_the_videos_they_name():
    videos = ragged([4, 9, 2])
    features = ClipFeatures.stack(videos)
    part = features.part(1, 3).shortened([5, 2])
    assert (len(part), part.lengths.tolist(), part.width) == (2, [5, 2], 3)
    assert torch.equal(part.video(0), torch.from_numpy(videos[1][:5]))
    assert torch.equal(part.crop([0], 7, [3]), torch.from_numpy(np.pad(videos[1][3:5], ((0, 5), (0, 0))))[None])


def test_the_digest_changes_with_any_number_and_any_border():
    videos = ragged([4, 9, 2])
    digest = ClipFeatures.stack(videos).digest
    assert ClipFeatures(np.concatenate(videos), [0, 5, 13, 15]).digest != digest
    videos[1][3, 2] += 1
    assert ClipFeatures.stack(videos).digest != digest


@pytest.mark.parametrize(
    "wrong",
    [
        lambda f: f.crop([3], 2, [0]),
        lambda f: f.crop([-1], 2, [0]),
        lambda f: f.crop([0], 2, [-1]),
        lambda f: f.crop([0, 1], 2, [0]),
        lambda f: f.crop(torch.tensor([0.5]), 2, [0]),
        lambda f: f.crop([0], 0, [0]),
        lambda f: f.video(3),
        lambda f: f.video(-1),
        lambda f: f.shortened([5, 1, 1]),
        lambda f: ClipFeatures(np.zeros((3, 2)), [0, 3]),
        lambda f: ClipFeatures(np.zeros((3, 2), np.float32), [0, 2, 2]),
        lambda f: ClipFeatures(np.zeros((3, 2), np.float32), [0, 4]),
        lambda f: ClipFeatures.stack([np.zeros((3, 2)), np.zeros((3, 4))]),
    ],
)
def test_a_wrong_request_is_one_plain_sentence(wrong):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        wrong(ClipFeatures.stack(ragged([4, 9, 2])))


@pytest.mark.parametrize("wrong", [torch.tensor([True, False, True]), [0.7, 1.2], [[0, 1]]])
def test_what_is_no_list_of_videos_is_refused(wrong):
    split, _, _ = performances([4, 9, 2], clips=3)
    with pytest.raises(ValueError, match="a list of whole numbers is wanted, got"):
        split.batch(wrong)


def test_a_batch_is_one_clip_long_or_more():
    split, _, _ = performances([4, 9, 2], clips=3)
    with pytest.raises(ValueError, match="clips is the length of a crop, 1 or more, got -2"):
        split.batch([1], clips=-2)


def test_rows_may_be_a_view_that_runs_backwards():
    (rows,) = ragged([6])
    assert torch.equal(ClipFeatures(rows[::-1], [0, 6]).video(0), torch.from_numpy(rows[::-1].copy()))


@pytest.mark.parametrize(("length", "start"), [(5, 0), (6, 0), (7, 0), (8, 1), (9, 1), (10, 2)])
def test_evaluation_takes_the_middle_and_pads_the_end_with_zeros(length, start):
    split, visual, audio = performances([length], clips=6)
    batch = split.batch([0])
    assert torch.equal(batch.visual, slow_crop(visual, [0], 6, [start]))
    assert torch.equal(batch.audio, slow_crop(audio, [0], 6, [start]))
    assert batch.flow is None


def test_training_starts_anywhere_that_fills_the_crop_and_equally_often():
    split, visual, _ = performances([9, 4], clips=6)
    batch = split.batch([0] * 4000 + [1], torch.Generator().manual_seed(0))
    starts = torch.stack([(batch.visual == slow_crop(visual, [0], 6, [s])).all(-1).all(-1) for s in range(4)])
    assert starts[:, :-1].sum() == 4000
    assert (starts[:, :-1].sum(1) - 1000).abs().max() < 120  # 4 standard deviations
    assert torch.equal(batch.visual[-1:], slow_crop(visual, [1], 6, [0]))


def test_all_modalities_of_a_video_use_one_start():
    split, visual, audio = performances([30, 40], clips=6)
    batch = split.batch([0, 1], torch.Generator().manual_seed(3))
    starts = [
        next(s for s in range(35) if torch.equal(batch.visual[i], slow_crop(visual, [i], 6, [s])[0])) for i in (0, 1)
    ]
    assert torch.equal(batch.audio, slow_crop(audio, [0, 1], 6, starts))


def test_a_generator_decides_the_crops_and_no_global_seed_does():
    split, _, _ = performances([30] * 8, clips=6)
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    first = split.batch(range(8), torch.Generator().manual_seed(5))
    torch.manual_seed(2)
    second = split.batch(range(8), torch.Generator().manual_seed(5))
    other = split.batch(range(8), torch.Generator().manual_seed(6))
    torch.random.set_rng_state(state)
    assert torch.equal(first.visual, second.visual)
    assert not torch.equal(first.visual, other.visual)


def test_a_video_ends_where_its_shorter_modality_ends():
    split, visual, audio = performances([9, 4], clips=6, audio_lengths=[7, 8])
    assert split.lengths.tolist() == [7, 4]
    batch = split.batch([0, 1])
    assert torch.equal(batch.visual, slow_crop([visual[0][:7], visual[1]], [0, 1], 6, [0, 0]))
    assert torch.equal(batch.audio, slow_crop([audio[0], audio[1][:4]], [0, 1], 6, [0, 0]))


def test_labels_follow_the_index():
    split, _, _ = performances([5, 6, 7], clips=6)
    assert split.batch(torch.tensor([2, 0])).label.tolist() == [1.0, 0.0]
    assert split.widths == {"visual": 3, "audio": 2}
    assert len(split) == 3


@pytest.mark.parametrize("index", [[3], [-1]])
def test_an_index_outside_the_split_is_refused(index):
    split, _, _ = performances([5, 6, 7], clips=6)
    with pytest.raises(ValueError, match="videos 0 to 2"):
        split.batch(index)


def test_performances_refuse_parts_of_different_size():
    features = {"visual": ClipFeatures.stack(ragged([4, 4]))}
    with pytest.raises(ValueError, match="one entry for each of the 3 names"):
        Performances(["a", "b", "c"], torch.zeros(3), scale=1.0, features=features, clips=2)
    with pytest.raises(ValueError, match="visual always"):
        Performances(["a"], torch.zeros(1), scale=1.0, features={}, clips=2)
    with pytest.raises(ValueError, match="1 or more"):
        Performances(["a", "b"], torch.zeros(2), scale=1.0, features=features, clips=0)


def test_a_batch_in_half_precision_keeps_its_labels_exact():
    batch = Batch(torch.zeros(1, 2, 3), None, torch.zeros(1, 2, 3), torch.tensor([0.7654321]))
    half, double = batch.to("cpu", torch.bfloat16), batch.to("cpu", torch.float64)
    assert (half.visual.dtype, half.audio, half.flow.dtype) == (torch.bfloat16, None, torch.bfloat16)
    assert torch.equal(half.label, batch.label)
    assert double.label.dtype == torch.float64
    assert batch.to("cpu").visual.dtype == torch.float32
    assert len(batch) == 1
