"""Results on disk that are not those of a table's cell are refused with one sentence before anything is trained."""

import json
import shutil
from pathlib import Path

import pytest

from mag2.training.cell_result import table_results

SAVED = Path(__file__).parent / "saved" / "0.1.0" / "table"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(SAVED, tmp_path / "table"))


def spoil(folder, change):
    path = next((folder / "cells").rglob("result.json"))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_those_of_version_0_1_are_read(folder):
    assert table_results(folder)


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        (lambda file: file["result"].pop("parameters"), "its result has no parameters of a training"),
        (lambda file: file["result"].update(train=True), "its result has no train of a training"),
        (lambda file: file["result"].update(texts=None), "its result has no texts of a training"),
        (lambda file: file["result"].update(top1="much"), "its top1 is no number"),
        (lambda file: file["result"].update(last_epoch=[]), "its result has no last_epoch of a training"),
        (lambda file: file["result"]["last_epoch"].pop("mse"), "its last_epoch lacks a measure"),
        (lambda file: file["result"]["best_on_test"].update(spearman="high"), "its best_on_test lacks a measure"),
        (lambda file: file.update(result=[1]), "its result is no object"),
        (lambda file: file.update(cell=[1]), "it names no row, target and seed"),
        (lambda file: file["cell"].update(target=None), "it names no row, target and seed"),
        (lambda file: file["cell"].pop("seed"), "it names no row, target and seed"),
    ],
)
def test_a_damaged_result_is_one_sentence(folder, change, clause):
    path = spoil(folder, change)
    with pytest.raises(ValueError, match=r"result.json is damaged or foreign: .*; delete it") as fault:
        table_results(folder)
    assert clause in str(fault.value)
    assert path.name in str(fault.value)
