"""What killed runs left half-written is removed by the next run that holds the folder, and nothing else is."""

import os
import signal
import subprocess
import sys

import pytest
import table4

from mag2 import TextFeatures
from mag2.data import simulate
from mag2.data.fs1000 import FS1000
from mag2.saving.atomic_io import alone_in, remove_leftovers
from mag2.training import Recipe, Run, fit
from mag2.training.command import main
from tests.few import few_performances

TEXTS = TextFeatures.for_sport("figure_skating")
NARROW = {"visual": 64, "audio": 64, "flow": 64}
TOKEN = "0123456789abcdef"
RUN = ["--rows", "10", "--targets", "TES", "--epochs", "1", "--workers", "1", "--device", "cpu"]


@pytest.fixture(autouse=True)
def few_videos(monkeypatch):
    few_performances(monkeypatch, train=32, test=10, clips=4)


def put(path, content="half"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_table_clears_all_of_its_folder(tmp_path):
    cell = tmp_path / "cells" / "row-1" / "FS1000" / "PCS" / "seed-9"  # of a cell that this run does not train
    left = [put(folder / f"{name}.{TOKEN}.partial") for folder in (tmp_path, cell) for name in ("checkpoint.pt", "x")]
    users = [put(tmp_path / "notes.partial"), put(cell / "a.0123.partial"), put(tmp_path / f"b.{TOKEN}.partial.txt")]
    outside = put(tmp_path.with_name(f"{tmp_path.name}-outside") / f"weights.{TOKEN}.partial")
    (tmp_path / "cells" / "link").symlink_to(outside.parent)
    assert main(table4.TABLE4, [*RUN, "--out", str(tmp_path)]) == 0
    assert [path.exists() for path in left] == [False] * 4
    assert all(path.exists() for path in [*users, outside])


def test_a_table_that_is_refused_clears_nothing(tmp_path):
    left = put(tmp_path / f"checkpoint.pt.{TOKEN}.partial")
    with alone_in(tmp_path), pytest.raises(SystemExit):  # a live neighbour, who may be writing it
        main(table4.TABLE4, [*RUN, "--out", str(tmp_path)])
    assert left.exists()


def training():
    from mag2 import MLAVL

    return MLAVL(TEXTS, visual_dim=64, audio_dim=64, dim=32)


def test_a_training_clears_its_folder_and_shares_it_with_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["mag2.training.fit"], "HANDOVER", 0.1)
    dataset = simulate(TEXTS, spec=FS1000(), train=8, test=4, length=(4, 6), widths=NARROW).dataset("TES", clips=4)
    left = put(tmp_path / "mine" / f"checkpoint.pt.{TOKEN}.partial")
    neighbours = put(tmp_path / "other" / f"checkpoint.pt.{TOKEN}.partial")
    fit(training(), dataset, Recipe(batch=8), Run(1, folder=tmp_path / "mine"))
    assert not left.exists()
    with alone_in(tmp_path / "other"), pytest.raises(ValueError, match="another run is at work in"):
        fit(training(), dataset, Recipe(batch=8), Run(1, folder=tmp_path / "other"))
    assert neighbours.exists()


def test_a_store_and_a_simulation_clear_theirs(tmp_path):
    simulation = simulate(TEXTS, spec=FS1000(), train=8, test=4, length=(4, 6), widths=NARROW)
    simulation.write(tmp_path / "data")
    left = [
        put(tmp_path / "data" / f"train.txt.{TOKEN}.partial"),
        put(next(path for path in (tmp_path / "data").iterdir() if path.is_dir()) / f"a.npy.{TOKEN}.partial"),
    ]
    simulation.write(tmp_path / "data")
    assert [path.exists() for path in left] == [False] * 2
    stored = put(tmp_path / "data" / ".mag2-cache" / f"FS1000-visual.npy.{TOKEN}.partial")
    FS1000().read(tmp_path / "data", "TES")
    assert not stored.exists()


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path):
    remove_leftovers(tmp_path / "missing")
    remove_leftovers(tmp_path / "missing", below=True)
    assert not list(tmp_path.iterdir())


WRITE = """
import sys, time
from pathlib import Path
from mag2.saving.atomic_io import alone_in, replacing
folder = Path(sys.argv[1])
with alone_in(folder), replacing(folder / "weights.pt") as partial:
    partial.write_bytes(bytes(1000))
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_kill_in_the_middle_of_a_write_frees_the_lock_and_is_cleared(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "writing\n"
    with pytest.raises(ValueError, match="another run is at work in"), alone_in(tmp_path):
        pass
    assert len(list(tmp_path.glob("*.partial"))) == 1
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    with alone_in(tmp_path):
        remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == [".lock"]
    assert (tmp_path / ".lock").stat().st_size == 0


def test_extraction_clears_the_folders_of_every_modality(tmp_path):
    pytest.importorskip("av")
    from mag2.extraction import extract
    from tests.videos import flat, write_video

    video = tmp_path / "a.mp4"
    write_video(video, [flat(20)] * 50, fps=25)
    left = [put(tmp_path / "out" / place / f"a.npy.{TOKEN}.partial") for place in ("video", "audio", "vision_language")]
    extract(video, tmp_path / "out", visual=lambda pictures: pictures.float().mean((1, 2, 3)), audio=None)
    assert [path.exists() for path in left] == [False] * 3
