"""A split in a DataLoader of torch's: the batches are those of `Performances.batch`, in any worker."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from mag2.data import ClipFeatures, Performances, TorchDataset, collate

KEYS = ("visual", "audio", "flow", "vision_language")
LENGTHS = (9, 4, 30, 12, 7, 15, 22)
CLIPS = 6


def split(lengths=LENGTHS, modalities=("visual", "audio")):
    """Every number names its video and clip: clip c of video v is 100 v + c, in every modality another sign."""
    features = {}
    for sign, (modality, width) in enumerate(zip(modalities, (3, 2, 4, 5), strict=False)):
        videos = [np.tile(100.0 * v + np.arange(n)[:, None] + 1, (1, width)) for v, n in enumerate(lengths)]
        features[modality] = ClipFeatures.stack([(-1) ** sign * video for video in videos])
    label = torch.linspace(0, 1, len(lengths))
    return Performances([f"v{i}" for i in range(len(lengths))], label, scale=1.0, features=features, clips=CLIPS)


def loader(performances, *, random_crops, seed=0, **options):
    """Shuffling and workers' seeds come from a generator, so that crops in this process are the global one's alone."""
    options = {"batch_size": 3, "collate_fn": collate, "generator": torch.Generator().manual_seed(seed)} | options
    return DataLoader(TorchDataset(performances, random_crops=random_crops), **options)


def same(ours, batch):
    assert set(ours) == {name for name, part in vars(batch).items() if part is not None}
    for name, part in ours.items():
        assert torch.equal(part, getattr(batch, name))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("modalities", [KEYS[:1], KEYS[:2], KEYS])
def test_evaluation_gives_the_centre_crops_of_batch(workers, modalities):
    performances = split(modalities=modalities)
    batches = list(loader(performances, random_crops=False, num_workers=workers))
    for ours, index in zip(batches, torch.arange(len(LENGTHS)).split(3), strict=True):
        same(ours, performances.batch(index))


def test_training_gives_the_random_crops_of_batch():
    performances = split()
    torch.manual_seed(7)
    batches = list(loader(performances, random_crops=True))
    torch.manual_seed(7)
    for ours, index in zip(batches, torch.arange(len(LENGTHS)).split(3), strict=True):
        same(ours, performances.batch(index, torch.default_generator))


def starts(batch):
    """(video, first clip) of each crop."""
    first = batch["visual"][:, 0, 0].long() - 1
    return [divmod(int(value), 100) for value in first]


def test_shuffled_training_in_workers_has_every_video_once_with_a_whole_crop_of_it():
    performances = split()
    seen = []
    for batch in loader(performances, random_crops=True, shuffle=True, num_workers=2):
        assert torch.equal(batch["audio"][..., 0], -batch["visual"][..., 0]), "one start for all modalities"
        for row, (video, start) in enumerate(starts(batch)):
            seen.append(video)
            assert batch["label"][row] == performances.label[video]
            assert 0 <= start <= max(LENGTHS[video] - CLIPS, 0)
            expected = torch.zeros(CLIPS)
            length = min(CLIPS, LENGTHS[video])
            expected[:length] = 100.0 * video + start + torch.arange(length) + 1
            assert torch.equal(batch["visual"][row, :, 0], expected)
    assert sorted(seen) == list(range(len(LENGTHS)))


def test_workers_draw_crops_of_their_own_and_a_seed_repeats_them():
    performances = split(lengths=[90] * 12)

    def drawn(seed):
        batches = loader(performances, random_crops=True, seed=seed, batch_size=6, num_workers=2)
        return [[start for _, start in starts(batch)] for batch in batches]

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert first == again != other
    assert first[0] != first[1], "two workers do not draw the same"


def test_the_global_generator_decides_the_crops_and_evaluation_reads_none():
    items = TorchDataset(split(lengths=[90]), random_crops=True)
    torch.manual_seed(1)
    first, second = items[0]["visual"], items[0]["visual"]
    torch.manual_seed(1)
    assert torch.equal(items[0]["visual"], first)
    assert not torch.equal(first, second)
    state = torch.random.get_rng_state()
    TorchDataset(split(), random_crops=False)[2]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_item_is_a_dict_of_tensors_and_indices_are_a_sequences():
    items = TorchDataset(split(), random_crops=False, clips=4)
    assert {name: tuple(part.shape) for name, part in items[0].items()} == {
        "visual": (4, 3),
        "audio": (4, 2),
        "label": (),
    }
    assert torch.equal(items[-1]["visual"], items[len(LENGTHS) - 1]["visual"])
    assert len(list(items)) == len(items) == len(LENGTHS)
    for index in (len(LENGTHS), -len(LENGTHS) - 1):
        with pytest.raises(IndexError, match="videos 0 to 6 in this split"):
            items[index]
    with pytest.raises(ValueError, match="1 or more, got 0"):
        TorchDataset(split(), random_crops=False, clips=0)


def test_subsets_and_torchs_own_collate_work_as_with_any_dataset():
    items = TorchDataset(split(), random_crops=False)
    (ours,) = DataLoader(Subset(items, [4, 0]), batch_size=2)
    same(ours, items.performances.batch([4, 0]))
    same(collate([items[4], items[0]]), items.performances.batch([4, 0]))


def test_a_pickled_dataset_gives_the_same_items(tmp_path):
    """As a fresh worker process gets it, from memory and from a memory map."""
    rows = np.arange(60, dtype=np.float32).reshape(20, 3)
    np.save(tmp_path / "rows.npy", rows)
    mapped = ClipFeatures(np.load(tmp_path / "rows.npy", mmap_mode="r"), [0, 8, 20])
    on_disk = Performances(["a", "b"], torch.rand(2), scale=1.0, features={"visual": mapped}, clips=CLIPS)
    for performances in (split(), on_disk):
        items = TorchDataset(performances, random_crops=False)
        copied = pickle.loads(pickle.dumps(items))
        assert torch.equal(copied[1]["visual"], items[1]["visual"])


@pytest.mark.slow
def test_fresh_processes_give_the_batches_of_this_one():
    performances = split()
    batches = list(loader(performances, random_crops=False, num_workers=2, multiprocessing_context="spawn"))
    for ours, index in zip(batches, torch.arange(len(LENGTHS)).split(3), strict=True):
        same(ours, performances.batch(index))
