"""The table that a visitor sees first, and the pages of real programmes: what is real is said, and so is what fails."""

import csv
import json
from pathlib import Path

import pytest
from table4 import TABLE4

from mag2.data import read_isu
from mag2.data.isu_simulated import SimulatedISU
from mag2.training import command
from mag2.training.cells import Cell, Outcome
from mag2.training.first_look import FIRST_LOOK, first_look_epochs, first_look_recipe
from mag2.training.recipes.model_recipe import SMALL_BATCH
from mag2.training.recipes.qtd import qtd
from mag2.training.sober_notes import guided_notes, ridge_notes
from mag2.training.tables import Table
from mag2.training.target import Target
from tests.few import few_performances

TINY = {"spec": SimulatedISU(), "train": 24, "test": 12, "length": (16, 20), "clips": 8}
REAL = Path(__file__).parents[2] / "shared" / "fisv"
ROWS = {row.heading.key: row for row in TABLE4.rows}


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a table's command in this process on tiny simulations: (exit status, stdout, stderr)."""
    few_performances(monkeypatch, train=24, test=12, length=(6, 10), clips=8)

    def call(table, *arguments):
        common = ["--epochs", "1", "--workers", "1", "--device", "cpu"]
        try:
            status = command.main(table, [str(each) for each in (*common, *arguments)])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


def results(folder) -> list[dict]:
    return list(csv.DictReader((folder / "results.csv").open()))


def test_without_data_the_programmes_and_scores_are_real_and_the_page_says_so(run, tmp_path):
    status, out, _ = run(TABLE4, "--rows", "1", "3", "--out", tmp_path)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "# Table 4: real programmes and scores (ISU), SIMULATED features"
    assert lines[2].startswith("**Real programmes and scores of ISU, simulated features. Real are the elements")
    assert "Mean ± spread of seeds 0, 1, 2" in out
    assert {(row["dataset"], row["target"]) for row in results(tmp_path)} == {("ISU-simulated", "TES")}
    assert {row["data"] for row in results(tmp_path)} == {"ISU: real programmes and scores, simulated features"}
    assert json.loads((tmp_path / "settings.json").read_text())["settings"]["simulated"] is True
    assert "Ridge regression on mean features, Spearman's rho for ISU-simulated TES: " in out
    assert "+MAG2 below the same model without it by more than the spread over seeds (last epoch): " in out


def test_a_requested_dataset_or_seed_is_what_is_trained(run, tmp_path):
    status, out, _ = run(TABLE4, "--rows", "1", "--seeds", "5", "--out", tmp_path / "seed")
    assert status == 0
    assert "- Seed 5;" in out
    status, out, _ = run(TABLE4, "--rows", "1", "--datasets", "FS1000", "--targets", "TES", "--out", tmp_path / "other")
    assert status == 0
    assert "- Seed 0;" in out
    assert out.startswith("# Table 4: SIMULATED data, not FS1000 itself")


def test_the_words_of_the_programmes_are_real_data(run, tmp_path):
    table = Table("table4", "Table 4", (ROWS["1"], ROWS["7"]), TABLE4.targets)
    status, out, _ = run(table, "--datasets", "ISU", "--targets", "IN", "--out", tmp_path)
    assert status == 0
    assert out.startswith("# Table 4: ISU\n")
    assert "SIMULATED" not in out
    assert "**ISU: real programmes and scores, the words of the programme as features.** A clip is" in out
    assert "Rows 7 are left out: ISU has no audio and flow features." in out
    assert {row["row"] for row in results(tmp_path)} == {"1"}
    status, _, err = run(TABLE4, "--datasets", "ISU", "--rows", "7", "--out", tmp_path / "named")
    assert status == 2
    assert "row 7 (PAMFN) needs audio features" in err
    status, _, err = run(TABLE4, "--datasets", "ISU", "FS1000", "--rows", "1", "--out", tmp_path / "both")
    assert status == 2
    assert "simulated and real data do not stand in one table" in err


@pytest.mark.skipif(not (REAL / "elements.csv").is_file(), reason="no real elements in ../shared/fisv")
def test_fis_v_has_its_real_programmes_where_the_folder_has_their_elements(run, tmp_path):
    labels = ("--datasets", "Fis-V", "--labels", REAL, "--targets", "TES", "--rows", "3")
    status, out, _ = run(TABLE4, *labels, "--out", tmp_path)
    assert status == 0
    assert out.startswith("# Table 4: real programmes and scores (Fis-V), SIMULATED features")
    assert {row["data"] for row in results(tmp_path)} == {"Fis-V: real programmes and scores, simulated features"}


def test_narrow_models_on_real_programmes_share_one_recipe():
    assert set(FIRST_LOOK) == {"ISU", "ISU-simulated"}
    for name in FIRST_LOOK:
        assert first_look_epochs(name, stages=1) < first_look_epochs(name, stages=4), "branches come first"
        narrow = first_look_recipe(name, qtd(name, "TES"))
        assert (narrow.recipe.optimizer, narrow.recipe.lr, narrow.recipe.batch) == ("adam", 1e-3, SMALL_BATCH)
        assert narrow.settings == narrow.small
        assert narrow.evaluation == "crops"
    assert first_look_recipe("FS1000", qtd("FS1000", "TES")) == qtd("FS1000", "TES").narrowed()


def outcomes(**spearmans):
    """Outcomes of rows on the IN mark of ISU, by their last epochs' rho for each seed."""
    return [
        Outcome(Cell(row.removeprefix("row"), Target("ISU", "IN"), seed), {"last_epoch": {"spearman": rho}})
        for row, of_seeds in spearmans.items()
        for seed, rho in enumerate(of_seeds)
    ]


def test_rows_below_ridge_regression_are_named():
    rows = {key: ROWS[key] for key in ("1", "3")}
    (note,) = ridge_notes(rows, [read_isu("IN")], outcomes(row1=[0.99, 0.98], row3=[0.1, 0.99]))
    assert "for ISU IN: 0.5" in note
    assert note.endswith(" on visual; below that: row 3 (last epoch).")
    (note,) = ridge_notes(rows, [read_isu("IN")], outcomes(row1=[0.99], row3=[0.9]))
    assert note.endswith("no row is below that (last epoch).")


def test_guided_rows_below_their_plain_row_are_named():
    target = Target("ISU", "IN")
    found = outcomes(row1=[0.80, 0.82], row3=[0.60, 0.62], row4=[0.5, 0.6], row6=[0.5, 0.58])
    (note,) = guided_notes(ROWS, [target], found)
    assert note.endswith("(last epoch): 3 (ISU IN, -0.200) only.")
    (note,) = guided_notes(ROWS, [target], outcomes(row4=[0.5, 0.6], row6=[0.5, 0.58]))
    assert note.endswith("(last epoch): none.")
    assert guided_notes(ROWS, [target], outcomes(row1=[0.8], row3=[0.6])) == []
