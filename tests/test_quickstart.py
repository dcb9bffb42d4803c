"""The first example: what it says of itself, prints and draws."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "quickstart.py"


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["quickstart.py", *map(str, arguments)])
        status = None
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


def test_it_trains_saves_loads_and_detaches_and_draws_what_it_prints(run, tmp_path):
    pytest.importorskip("matplotlib")
    status, out, _ = run("--steps", 4, "--figure", tmp_path / "made" / "figure.png")
    assert status is None
    assert out.count(": loss ") == 4
    assert "outputs equal: True" in out
    assert "weights as before: True True" in out
    assert (tmp_path / "made" / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_so_and_draws_nothing(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    status, out, _ = run("--figure", tmp_path / "figure.png")
    assert status is None
    assert "no figure: pip install matplotlib" in out
    assert not (tmp_path / "figure.png").exists()


def test_its_help_says_what_it_does_with_an_example(run):
    status, out, _ = run("--help")
    assert status == 0
    assert "Attach a guide to a model in two lines" in out
    assert "python examples/quickstart.py" in out


def test_bad_options_get_one_sentence(run, tmp_path):
    status, _, err = run("--steps", 0)
    assert (status, err.count("\n")) == (2, 1)
    assert "--steps is 0; give 1 or more" in err
    (tmp_path / "file").write_text("")
    status, _, _ = run("--figure", tmp_path / "file" / "figure.png")
    assert "cannot be written" in status
