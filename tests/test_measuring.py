"""The scripts that measure: they train what they say, compare seed by seed, and do not mix results."""

import csv
import sys

import language
import measuring
import programmes
import pytest
import starts

from mag2.data import read_isu
from mag2.programmes import read_performances, train_and_test
from mag2.texts import CONTROLS
from tests.few import few_performances


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a script in this process: (exit status, stdout, stderr)."""

    def call(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script.__name__, "--workers", "1", *map(str, arguments)])
        status = script.main()
        return status, *capsys.readouterr()

    return call


def test_differences_are_those_of_pairs():
    assert measuring.mean_and_spread([0.5, 0.7]) == "0.600 ± 0.141"
    assert measuring.mean_and_spread([0.5]) == "0.500"
    assert measuring.paired([0.5, 0.7], [0.4, 0.6]) == "+0.100 ± 0.000"
    assert measuring.markdown(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_every_row_of_the_programmes_has_one_that_it_is_compared_with():
    rows = programmes.variants(list(programmes.BUILDERS), list(programmes.BUILDERS))
    assert len(rows) == 3 * (2 + len(programmes.STARTS) + 1 + len(CONTROLS))
    plain = {name for name, variant in rows.items() if not variant.compared}
    assert plain == set(programmes.BUILDERS)
    assert all(variant.compared in rows for variant in rows.values() if variant.compared)
    fewer = programmes.variants(["GDLT"], [])
    assert len(fewer) == 3 + len(programmes.STARTS)


def test_real_scores_stand_beside_sober_baselines(run, tmp_path, monkeypatch):
    chosen = {"discipline": "pairs", "segment": "short"}
    monkeypatch.setattr(programmes, "data", lambda target: read_isu(target, **chosen))
    monkeypatch.setattr(programmes, "split", lambda: train_and_test(read_performances(**chosen)))
    few = ("--targets", "TES", "--models", "GDLT", "--controls", "--seeds", "0", "1", "--out", tmp_path)
    status, out, _ = run(programmes, *few, "--epochs", "1")
    assert status == 0
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3 + 6
    assert "| sum of the base values |" in out
    written = list(csv.DictReader((tmp_path / "programmes.csv").open()))
    assert len(written) == 6 * 2
    assert (tmp_path / "programmes.md").read_text().strip() in out
    status, _, err = run(programmes, *few, "--epochs", "2")
    assert status == 1
    assert "holds results of {'epochs': 1}, this run has {'epochs': 2}; give another --out" in err


def test_each_way_of_entering_stands_beside_the_plain_model(run, tmp_path, monkeypatch):
    few_performances(monkeypatch, train=16, test=8, length=(6, 10), clips=8)
    given = ("--epochs", "1", "--seeds", "0", "1", "--out", tmp_path)
    status, out, _ = run(starts, "--models", "PAMFN", "--datasets", "FS1000", *given)
    assert status == 0
    assert len([line for line in out.splitlines() if line.startswith("| PAMFN")]) == 1
    status, out, _ = run(starts, "--models", "GDLT", *given)
    assert status == 0
    assert len([line for line in out.splitlines() if line.startswith("| GDLT")]) == 2
    assert out.count("SIMULATED") == 2
    rows = list(csv.DictReader((tmp_path / "starts.csv").open()))
    assert len(rows) == 4 * 2 * 2
    at_first = {row["start"]: row["spearman"] for row in rows if (row["model"], row["seed"]) == ("GDLT", "0")}
    assert len(set(at_first.values())) > 1, "a guide changes what is learned"


def test_controls_are_measured_on_real_scores_too(run, tmp_path, monkeypatch):
    rows = {name: settings for name, settings in language.variants().items() if "level" not in settings}
    rows = dict(list(rows.items())[:2]) | {"weighted edges at 80 %, texts": {"values": "texts", "level": 80}}
    monkeypatch.setattr(language, "variants", lambda: rows)
    status, out, _ = run(language, "--programmes", "--seeds", "0", "--epochs", "1", "--out", tmp_path)
    assert status == 0
    assert out.startswith("Real programmes and scores (ISU), SIMULATED features, TES")
    assert "| weighted edges at 80 %, texts | 0.8" in out
    assert {row["data"] for row in csv.DictReader((tmp_path / "language.csv").open())} == {"programmes"}


def test_a_training_that_fails_is_one_line(run, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("this model cannot be built")

    monkeypatch.setitem(programmes.BUILDERS, "GDLT", broken)
    few = ("--targets", "TES", "--models", "GDLT", "--controls", "--seeds", "0", "--out", tmp_path)
    status, out, err = run(programmes, *few)
    assert (status, out) == (1, "")
    assert err.strip().splitlines()[-1].endswith("this model cannot be built")
