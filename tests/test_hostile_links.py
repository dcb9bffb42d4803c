"""Nothing that the library writes goes through a link that was put there before, and no temporary name is guessable."""

import os

import pytest
import torch

from mag2 import ActionGraphGuidance, TextFeatures, attach, save_plugin
from mag2.baselines import GDLT
from mag2.data import simulate
from mag2.saving import atomic_io
from mag2.saving.full_disk import append_whole
from mag2.training import Recipe, Run, fit

TEXTS = TextFeatures.for_sport("figure_skating")


def saved_plugin(folder):
    model = torch.nn.Sequential(torch.nn.Linear(4, 8))
    attach(model, ActionGraphGuidance(8, TEXTS.visual[:4]), at="0")
    save_plugin(model, folder)


def trained(folder):
    data = simulate(TEXTS, train=6, test=2, length=(2, 3), widths={"visual": 6, "audio": 5}).dataset("TES", clips=2)
    fit(GDLT(in_dim=6, dim=8), data, Recipe(batch=4), Run(epochs=1, folder=folder), keep_model=True)


def simulated(sport):
    def write(folder):
        narrow = {"visual": 6} if sport == "artistic_swimming" else {"visual": 6, "audio": 5}
        texts = TextFeatures.for_sport(sport)
        simulation = simulate(texts, sport=sport, train=4, test=4, length=(2, 3), widths=narrow)
        folder.mkdir(exist_ok=True)
        if not (folder / "SIMULATED.txt").is_file():  # else it would refuse a folder with other files
            (folder / "SIMULATED.txt").unlink(missing_ok=True)
            (folder / "SIMULATED.txt").touch()
        simulation.write(folder)

    return write


WRITERS = {
    "a module": lambda folder: GDLT(in_dim=6, dim=8).save_pretrained(folder),
    "a plug-in": saved_plugin,
    "texts": TEXTS.save,
    "a training": trained,
    "simulated skating": simulated("figure_skating"),
    "simulated gymnastics": simulated("rhythmic_gymnastics"),
    "simulated swimming": simulated("artistic_swimming"),
}


@pytest.mark.parametrize("kind", ["a link", "a link to nothing", "a hard link"])
@pytest.mark.parametrize("name", WRITERS)
def test_no_writer_follows_a_link(name, kind, tmp_path):
    WRITERS[name](tmp_path / "first")
    files = [path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file()]
    assert files
    for file in files:
        precious, there = tmp_path / "precious" / file, tmp_path / "second" / file
        for path in (precious, there):
            path.parent.mkdir(parents=True, exist_ok=True)
        if file.name == "checkpoint.pt" or file.name.startswith(".") or ".tfevents." in file.name:
            continue  # read before it is written, and locks
        if kind != "a link to nothing":
            precious.write_text("precious")
        if kind == "a hard link":
            os.link(precious, there)
        else:
            there.symlink_to(precious)
    (tmp_path / "second").mkdir(exist_ok=True)
    WRITERS[name](tmp_path / "second")
    for path in (tmp_path / "precious").rglob("*"):
        assert path.is_dir() or path.read_text() == "precious", path
    if kind == "a link to nothing":
        assert not [path for path in (tmp_path / "precious").rglob("*") if path.is_file()]


def test_a_line_is_not_added_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "soft").symlink_to(tmp_path / "precious")
    (tmp_path / "nowhere").symlink_to(tmp_path / "new")
    for name in ("soft", "nowhere"):
        with pytest.raises(ValueError, match="is a link to another file; move it away"):
            append_whole(b"line\n", tmp_path / name)
    os.link(tmp_path / "precious", tmp_path / "hard")
    with pytest.raises(ValueError, match="is a link to another file; move it away"):
        append_whole(b"line\n", tmp_path / "hard")
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "new").exists()
    append_whole(b"a\n", tmp_path / "own")
    append_whole(b"b\n", tmp_path / "own")
    assert (tmp_path / "own").read_text() == "a\nb\n"


def test_temporary_names_are_not_to_be_guessed(tmp_path, monkeypatch):
    names = set()
    for _ in range(50):
        with atomic_io.replacing(tmp_path / "file") as partial:
            names.add(partial.name)
            partial.write_text("whole")
    assert len(names) == 50
    monkeypatch.setattr(atomic_io.secrets, "token_hex", lambda _: "guessed")
    (tmp_path / "file.guessed.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(FileExistsError), atomic_io.replacing(tmp_path / "file") as partial:
        partial.write_text("elsewhere")
    assert not (tmp_path / "precious").exists()
