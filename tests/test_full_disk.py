"""A full disk is one sentence with the path; nothing is left half-written, and the run goes on after room is made."""

import contextlib
import errno
import io
import json
import os
import resource
import subprocess
from pathlib import Path

import numpy as np
import pytest
import table4
import torch
from torch import nn

from mag2 import TextFeatures
from mag2.data import DataError, simulate
from mag2.data.fs1000 import FS1000
from mag2.saving import full_disk as full_disk_module
from mag2.saving.atomic_io import save_atomically, write_atomically
from mag2.saving.full_disk import DiskFullError, append_whole, naming_full_disk
from mag2.training.command import main
from tests.few import few_performances

RUN = ["--datasets", "FS1000", "--rows", "10", "--targets", "TES", "--epochs", "2", "--workers", "1"]
RUN += ["--device", "cpu", "--keep-weights"]
TEXTS = TextFeatures.for_sport("figure_skating")
NARROW = {"visual": 64, "audio": 64, "flow": 64}
CELL = Path("cells/row-10/FS1000/TES/seed-0")


class Full(io.RawIOBase):
    """A file on a disk that takes so many bytes more."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        data = bytes(data)
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken, self.room = data[: self.room], max(self.room - len(data), 0)
        self.file.write(taken)
        self.file.flush()
        return len(taken)

    def fileno(self):
        return self.file.fileno()

    def writable(self):
        return True

    def close(self):
        self.file.close()
        super().close()


@contextlib.contextmanager
def full_disk(monkeypatch, name, room=10):
    """Inside a `with`, files whose names begin so take a few bytes."""
    plain = Path.open

    def opened(self, mode="r", *arguments, **options):
        if not self.name.startswith(name) or mode[0] not in "wa":
            return plain(self, mode, *arguments, **options)
        raw = Full(plain(self, mode[0] + "b", buffering=0), room)
        if options.get("buffering", arguments[0] if arguments else -1) == 0:
            return raw
        buffered = io.BufferedWriter(raw, 1)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, "utf-8", write_through=True)

    def opened_without_links(path, *arguments, **options):
        file = open(path, *arguments, **options)  # noqa: SIM115
        return Full(file, room) if Path(path).name.startswith(name) else file

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", opened)
        patched.setattr(full_disk_module, "open", opened_without_links, raising=False)
        yield


@contextlib.contextmanager
def file_limit(size):
    """Inside a `with`, no file of this process grows above so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 200 kB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def partials(folder):
    return [path for path in folder.rglob("*") if "partial" in path.name]


def numbers(folder):
    result = json.loads((folder / CELL / "result.json").read_text())["result"]
    return {key: value for key, value in result.items() if key != "seconds"}


@pytest.fixture(scope="module", autouse=True)
def few_videos():
    with pytest.MonkeyPatch.context() as patched:
        few_performances(patched, train=32, test=10, clips=4)
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken")
    assert main(table4.TABLE4, [*RUN, "--out", str(out)]) == 0
    return numbers(out)


STAGES = {
    "settings.json": "settings.json",
    "metrics.jsonl": CELL / "metrics.jsonl",
    "events.out": CELL / "events.out",
    "checkpoint.pt": CELL / "checkpoint.pt",
    "result.json": CELL / "result.json",
    "results.csv": "results.csv",
    "table4.md": "table4.md",
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_file_of_a_table(stage, unbroken, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboard")
    out = tmp_path / "out"
    with full_disk(monkeypatch, stage):
        try:
            status = main(table4.TABLE4, [*RUN, "--out", str(out)])
        except SystemExit as ended:
            status = ended.code
    shown = capsys.readouterr()
    assert status in (1, 2)
    assert f"no space is left on the disk for {out / STAGES[stage]}" in shown.err
    assert ": make room, and run again" in shown.err
    assert "Traceback" not in shown.err + shown.out
    assert "Errno" not in shown.err + shown.out
    assert not partials(out)
    assert not [path for path in out.rglob(f"{stage}*") if 0 < path.stat().st_size <= 10], "nothing is half-written"
    assert main(table4.TABLE4, [*RUN, "--out", str(out)]) == 0
    assert numbers(out) == unbroken


def test_a_full_disk_fails_cells_in_other_processes_by_the_same_sentence(tmp_path):
    from mag2.training.process_pool import error_line

    with pytest.raises(DiskFullError) as fault, naming_full_disk(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    import pickle

    again = pickle.loads(pickle.dumps(fault.value))  # as it comes from another process
    assert error_line(again) == f"no space is left on the disk for {tmp_path / 'x'}: make room, and run again"
    assert again.errno == errno.ENOSPC


def test_a_table_on_a_small_disk(unbroken, small_disk, capsys):
    filler = small_disk / "filler"
    for spare in (0, 8, 60):  # kB: not for a lock, for settings, for the begin of a cell
        filler.write_bytes(b"")
        left = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
        filler.write_bytes(bytes(max(left - spare * 1024, 0)))
        try:
            status = main(table4.TABLE4, [*RUN, "--out", str(small_disk / "out")])
        except SystemExit as ended:
            status = ended.code
        shown = capsys.readouterr()
        assert status in (1, 2)
        assert f"no space is left on the disk for {small_disk / 'out'}" in shown.err
        assert not partials(small_disk)
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert main(table4.TABLE4, [*RUN, "--out", str(small_disk / "out")]) == 0
    assert numbers(small_disk / "out") == unbroken


def test_saves_keep_the_old_file(tmp_path):
    file = tmp_path / "weights.pt"
    save_atomically({"weights": torch.zeros(10)}, file)
    before = file.read_bytes()
    with (
        file_limit(20_000),
        pytest.raises(DiskFullError, match=r"weights\.pt becomes larger than its disk or the limit"),
    ):
        save_atomically({"weights": torch.zeros(100_000)}, file)
    assert file.read_bytes() == before
    assert not partials(tmp_path)
    save_atomically({"weights": torch.zeros(100_000)}, file)
    assert torch.load(file, weights_only=True)["weights"].shape == (100_000,)


def test_a_line_is_added_whole_or_not_at_all(tmp_path):
    file = tmp_path / "metrics.jsonl"
    append_whole(b"x" * 90, file)
    with file_limit(100), pytest.raises(DiskFullError, match="metrics"):
        append_whole(b"y" * 50, file)
    assert file.read_bytes() == b"x" * 90
    append_whole(b"y" * 50, file)
    assert file.stat().st_size == 140


def test_a_save_of_a_module(tmp_path):
    from mag2.saving.folders import write_folder

    names, small, large = ("w.safetensors", "w.json"), {"a": torch.zeros(5)}, {"a": torch.zeros(50_000)}
    write_folder(tmp_path, names, small, {"format": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with file_limit(20_000), pytest.raises(DiskFullError, match=r"w\.safetensors becomes larger"):
        write_folder(tmp_path, names, large, {"format": 1})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_numpy_drops_the_reason_and_we_do_not(small_disk):
    with (
        pytest.raises(DiskFullError, match=r"features\.npy: make room"),
        naming_full_disk(small_disk / "features.npy"),
        (small_disk / "features.npy").open("wb") as file,
    ):
        np.save(file, np.zeros(100_000))


@pytest.fixture(scope="module")
def dataset_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulation = simulate(
        TextFeatures.for_sport("figure_skating"), spec=FS1000(), train=8, test=4, length=(4, 6), widths=NARROW
    )
    simulation.write(folder)
    return folder


def test_a_store(dataset_folder, small_disk):
    filler = small_disk / "filler"
    filler.write_bytes(bytes(196 * 1024))
    cache = small_disk / "cache"
    with pytest.raises(DataError, match=f"no space is left for the feature store in {cache}: make room, or give"):
        FS1000().read(dataset_folder, "TES", cache=cache)
    assert not partials(small_disk)
    filler.unlink()
    assert len(FS1000().read(dataset_folder, "TES", cache=cache).train) == 8


def test_a_simulation(small_disk):
    simulation = simulate(
        TextFeatures.for_sport("figure_skating"), spec=FS1000(), train=40, test=20, length=(20, 30), widths=NARROW
    )
    with pytest.raises(DiskFullError, match=r"no space is left on the disk for .*\.npy: make room"):
        simulation.write(small_disk / "data")
    assert not partials(small_disk)
    for path in (small_disk / "data").rglob("*.npy"):
        np.load(path)  # whole


def test_other_faults_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), naming_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(FileNotFoundError):
        write_atomically("x", tmp_path / "missing" / "file")


class Unpicklable(nn.Module):
    def __reduce__(self):
        raise RuntimeError("no copy of this")


def test_a_fault_of_saving_that_is_not_the_disks(tmp_path):
    with pytest.raises(RuntimeError, match="no copy of this"):
        save_atomically({"module": Unpicklable()}, tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())
