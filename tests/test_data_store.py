"""The feature store: when it is used, when it is built anew, and where."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mag2.data import DataError, raw_features, read_fs1000, store
from tests.test_data_fs1000 import write_folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return write_folder(tmp_path / "fs1000")


@pytest.fixture
def read_files(monkeypatch):
    """The feature files whose numbers were read."""
    seen = []

    def mean_over_views(raw):
        seen.append(raw.file)
        return raw_features.mean_over_views(raw)

    monkeypatch.setattr(store, "mean_over_views", mean_over_views)
    return seen


def everything(folder, **options):
    data = read_fs1000(folder, "TES", clips=6, **options)
    batches = [data.train.batch(range(3)), data.test.batch([0])]
    return torch.cat([part.flatten() for batch in batches for part in (batch.visual, batch.audio, batch.flow)])


def test_features_are_read_once(folder, read_files):
    first = everything(folder)
    assert len(read_files) == len(set(read_files)) == 12
    assert torch.equal(everything(folder), first)
    assert torch.equal(everything(folder), first)
    assert len(read_files) == 12


def test_another_target_and_other_scores_use_the_same_store(folder, read_files):
    everything(folder)
    read_fs1000(folder, "PCS", clips=3)
    path = folder / "val_fs1000_new.txt"
    path.write_text(path.read_text().replace("97.50", "98.00"))
    everything(folder)
    assert len(read_files) == 12


def test_a_changed_file_rebuilds_its_modality_only(folder, read_files):
    everything(folder)
    path = folder / "audio/b.npy"
    stat = path.stat()
    np.save(path, np.load(path) + 1)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))  # same size, the smallest step in time
    del read_files[:]
    after = everything(folder)
    assert {file.parent.name for file in read_files} == {"audio"}
    assert torch.equal(after, everything(folder, cache=folder / "fresh"))


def test_other_videos_rebuild_the_store(folder, read_files):
    everything(folder)
    path = folder / "train_fs1000_new.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[::-1]))
    del read_files[:]
    assert torch.equal(everything(folder), everything(folder, cache=folder / "fresh"))
    assert [file.stem for file in read_files[:4]] == ["c", "b", "a", "d"]


def test_a_newer_version_rebuilds_the_store(folder, read_files, monkeypatch):
    everything(folder)
    monkeypatch.setattr(store, "STORE_VERSION", store.STORE_VERSION + 1)
    everything(folder)
    assert len(read_files) == 24


def truncate(file):
    file.write_bytes(file.read_bytes()[:-4])


def flip_a_bit(file):
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)


def rename_a_field(file):
    file.write_text(file.read_text().replace("lengths", "length"))


DAMAGE = {
    "data truncated": (".npy", truncate),
    "data emptied": (".npy", lambda file: file.write_bytes(b"")),
    "data missing": (".npy", lambda file: file.unlink()),
    "data with a flipped bit": (".npy", flip_a_bit),
    "data of another kind": (".npy", lambda file: np.save(file, np.zeros(3))),
    "note truncated": (".json", truncate),
    "note missing": (".json", lambda file: file.unlink()),
    "note of another kind": (".json", lambda file: file.write_text("[1]")),
    "note of nothing": (".json", lambda file: file.write_text("null")),
    "note that is no text": (".json", lambda file: file.write_bytes(b"\xff\xfe")),
    "note without a field": (".json", rename_a_field),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_store_is_built_anew(folder, read_files, damage):
    whole = everything(folder)
    suffix, harm = DAMAGE[damage]
    (victim,) = (folder / ".mag2-cache").glob(f"*visual*{suffix}")
    harm(victim)
    del read_files[:]
    assert torch.equal(everything(folder), whole)
    assert {file.parent.name for file in read_files} == {"video"}
    del read_files[:]
    everything(folder)
    assert read_files == []


def test_a_build_that_is_killed_leaves_no_valid_store_and_no_litter(folder, monkeypatch):
    def killed(raw):
        if raw.name == "c":
            raise KeyboardInterrupt
        return raw_features.mean_over_views(raw)

    monkeypatch.setattr(store, "mean_over_views", killed)
    with pytest.raises(KeyboardInterrupt):
        everything(folder)
    assert [file.name for file in (folder / ".mag2-cache").iterdir()] == ["lock"]
    # What a process leaves that is killed at once; of version 0.1.0, then of this one.
    for ending in ("part-0123456789abcdef", "0123456789abcdef.partial"):
        (folder / ".mag2-cache" / f"fs1000-visual-0123456789abcdef.npy.{ending}").write_bytes(b"half of the features")
    monkeypatch.undo()
    everything(folder, cache=folder / ".mag2-cache")
    suffixes = {file.suffix for file in (folder / ".mag2-cache").iterdir()}
    assert suffixes == {".npy", ".json", ""}


def test_data_without_its_note_is_half_written(folder, read_files, monkeypatch):
    """The note is moved into place last: whatever was killed before has none, or an old one."""
    moved = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append(b.suffix), replace(a, b)))
    everything(folder)
    assert moved == [".npy", ".json"] * 3


def test_builders_at_the_same_time_build_once(folder, read_files):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: everything(folder), range(4)))
    assert all(torch.equal(result, results[0]) for result in results)
    assert len(read_files) == 12


def test_a_faulty_rebuild_keeps_no_trace_of_the_fault(folder):
    before = everything(folder)
    good = np.load(folder / "video/b.npy")
    np.save(folder / "video/b.npy", np.full_like(good, np.nan))
    for _ in range(2):
        with pytest.raises(DataError, match="NaN"):
            everything(folder)
    np.save(folder / "video/b.npy", good)
    assert torch.equal(everything(folder), before)


def test_without_room_beside_the_data_the_store_lies_in_the_users_cache(folder, read_files, tmp_path):
    (folder / ".mag2-cache").write_text("a file, so no folder can be made here")
    first = everything(folder)
    assert torch.equal(everything(folder), first)
    assert len(read_files) == 12
    (place,) = (tmp_path / "user-cache" / "mag2").iterdir()
    assert len(list(place.glob("*.npy"))) == 3


def test_a_finished_store_is_used_where_nothing_can_be_written(folder, read_files, monkeypatch):
    first = everything(folder)
    monkeypatch.setattr(store, "_only_builder", None)  # would fail if it were needed
    assert torch.equal(everything(folder), first)
    assert len(read_files) == 12


def test_a_chosen_cache_is_the_only_one_and_must_be_writable(folder, tmp_path):
    everything(folder, cache=tmp_path / "here" / "deep")
    assert len(list((tmp_path / "here" / "deep").glob("*.npy"))) == 3
    assert not (folder / ".mag2-cache").exists()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written in .*file \(.*give a writable cache folder"):
        everything(folder, cache=tmp_path / "file")


def test_a_full_disk_is_one_sentence_and_leaves_no_litter(folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        DataError, match=r"no space is left for the feature store in .*: make room, or give another cache"
    ):
        everything(folder)
    assert not list(tmp_path.rglob("*.partial"))


def test_two_feature_sets_of_one_dataset_keep_their_own_stores(folder, read_files):
    shutil.copytree(folder / "video", folder / "c3d")
    everything(folder)
    everything(folder, video="c3d")
    del read_files[:]
    everything(folder)
    everything(folder, video="c3d")
    assert read_files == []


def test_a_moved_dataset_keeps_its_store(folder, read_files):
    first = everything(folder)
    moved = folder.rename(folder.with_name("moved"))
    assert torch.equal(everything(moved), first)
    assert len(read_files) == 12


def test_the_store_is_one_float32_map_per_modality(folder):
    everything(folder)
    for key, width in (("visual", 6), ("audio", 4), ("flow", 5)):
        (file,) = (folder / ".mag2-cache").glob(f"fs1000-{key}-*.npy")
        rows = np.load(file, mmap_mode="r")
        assert (rows.dtype, rows.shape) == (np.float32, (18, width))
        note = json.loads(file.with_suffix(".json").read_text())
        assert [name for name, *_ in note["sources"]] == ["a", "b", "c", "d"]


def test_features_stay_on_disk_and_are_not_held_in_memory(folder):
    data = read_fs1000(folder, "TES")
    (file,) = (folder / ".mag2-cache").glob("fs1000-visual-*.npy")
    np.load(file, mmap_mode="r+")[:] = 7
    assert set(data.train.batch([0], clips=1).visual.flatten().tolist()) == {7.0}


def test_files_of_the_users_own_stay_in_a_chosen_cache(folder, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "features.tar.part-aa").write_text("x")
    (mine / "fs1000.npy.part-01").write_text("x")
    (mine / "download.partial").write_text("x")
    everything(folder, cache=mine)
    assert (mine / "features.tar.part-aa").exists()
    assert (mine / "fs1000.npy.part-01").exists()
    assert (mine / "download.partial").exists()


def a_file(lock, precious):
    lock.write_text("a lock of the user's own")


def a_link(lock, precious):
    lock.symlink_to(precious)


def a_link_to_nothing(lock, precious):
    lock.symlink_to(precious.with_name("nothing"))


def a_folder(lock, precious):
    lock.mkdir()


@pytest.mark.parametrize("kind", [a_file, a_link, a_link_to_nothing, a_folder])
def test_a_lock_that_is_not_ours_is_left_alone_and_the_store_is_built(folder, read_files, tmp_path, kind):
    (tmp_path / "precious").write_text("results")
    cache = tmp_path / "cache"
    cache.mkdir()
    kind(cache / "lock", tmp_path / "precious")
    before = [(cache / "lock").lstat().st_size, (tmp_path / "precious").read_text()]
    first = everything(folder, cache=cache)
    assert torch.equal(everything(folder, cache=cache), first)
    assert len(read_files) == 12
    assert [(cache / "lock").lstat().st_size, (tmp_path / "precious").read_text()] == before
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "fault", [OSError(37, "No locks available"), OSError(38, "Not implemented"), NotImplementedError()]
)
def test_a_file_system_without_locks_holds_a_store_all_the_same(folder, read_files, monkeypatch, fault):
    def no_locks(path, timeout=-1):
        raise fault

    monkeypatch.setattr(store, "holding", no_locks)
    first = everything(folder)
    assert torch.equal(everything(folder), first)
    assert len(read_files) == 12


def test_a_store_of_version_0_1_0_is_used_as_it_is(folder, read_files):
    """Its fields and names are those of today: nothing is read again."""
    first = everything(folder)
    (note,) = (folder / ".mag2-cache").glob("fs1000-visual-*.json")
    written = json.loads(note.read_text())
    assert set(written) == {"layout", "sources", "itself", "lengths", "width", "digest"}
    assert written["layout"] == 1
    assert note.name == f"fs1000-visual-{store.short_hash('video')}.json"
    assert torch.equal(everything(folder), first)


def test_folders_that_share_a_cache_do_not_share_features(folder, tmp_path):
    """Names, sizes and times of the files may all be equal: those of a reproducible archive are."""
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    for file in other.rglob("*.npy"):
        np.save(file, np.load(file) + 1)
    for file in (*folder.rglob("*.npy"), *other.rglob("*.npy")):
        os.utime(file, (315532800, 315532800))
    first, second = (everything(place, cache=tmp_path / "cache") for place in (folder, other))
    assert torch.equal(second, everything(other, cache=tmp_path / "own"))
    assert not torch.equal(second, first)


def test_a_store_that_is_exchanged_while_it_is_opened_is_not_taken(folder, monkeypatch):
    everything(folder)
    load, exchanged = store.map_npy, []

    def late(file):
        if "fs1000-visual" in str(file) and not exchanged:
            exchanged.append(file)
            other = np.flip(np.load(file), axis=0)
            np.save(file.with_name("other.npy"), other)
            os.replace(file.with_name("other.npy"), file)
        return load(file)

    expected = everything(folder)
    monkeypatch.setattr(store, "map_npy", late)
    assert torch.equal(everything(folder), expected)
    assert exchanged


def test_linked_features_of_a_simulation_are_simulated(folder, tmp_path):
    (folder / "SIMULATED.txt").write_text("")
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            (linked / path.name).symlink_to(path)
        elif path.name.endswith("_new.txt"):
            shutil.copy(path, linked)
    assert read_fs1000(linked, "TES").simulated


def test_a_real_folder_beside_a_simulation_is_real(folder):
    (folder.parent / "SIMULATED.txt").write_text("")
    assert not read_fs1000(folder, "TES").simulated


def test_progress_counts_every_file_up_to_the_total(folder):
    calls = []
    everything(folder, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 12) for done in range(1, 13)]
    del calls[:]
    everything(folder, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(4, 12), (8, 12), (12, 12)]
