"""Every cell of a run keeps its model, predictions and history; the model comes back by row, target and seed."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mag2 import load_trained
from mag2.data import DATASETS
from mag2.scoring import find_trained
from mag2.training import command
from mag2.training.data_source import describe_source, open_source
from mag2.training.dataset_providers import FolderProvider, forget_datasets, simulation_provider
from tests.few import few_performances

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = {"train": 16, "test": 8, "length": (6, 10), "clips": 8}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a table's command in this process on a tiny simulation, into a folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    few_performances(monkeypatch, **TINY)

    def call(table, *arguments):
        spec = importlib.util.spec_from_file_location(table, EXAMPLES / f"{table}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, table, module)
        spec.loader.exec_module(module)
        settings = ["--epochs", "1", "--workers", "1", "--device", "cpu", "--out", str(tmp_path)]
        status = command.main(getattr(module, table.upper()), [*arguments, *settings])
        assert status == 0, capsys.readouterr()
        return tmp_path

    return call


@pytest.mark.parametrize(
    ("table", "options"),
    [
        ("table4", ["--rows", "3b", "6b", "9b", "12", "--datasets", "FS1000", "--targets", "PCS"]),
        ("table1", ["--rows", "1", "4", "--datasets", "RG", "--targets", "Ball", "--controls"]),
        ("table2", ["--rows", "4", "--datasets", "FS1000", "--targets", "TES", "--weighted"]),
        ("table5", ["--datasets", "FS1000", "--targets", "TES"]),
        ("logo", ["--rows", "3"]),
        ("table4", ["--rows", "3", "--datasets", "ISU", "--targets", "TES"]),
    ],
)
def test_the_model_of_every_row_comes_back(run, table, options):
    out = run(table, *options)
    found = find_trained(out)
    assert found
    for folder in found:
        trained = load_trained(folder)
        dataset = trained.dataset()
        test = dataset.test
        own = trained.own_predictions
        assert own.names == tuple(test.names)
        np.testing.assert_allclose(own.score, test.label.numpy() * trained.scale, rtol=1e-5)
        np.testing.assert_allclose(own.predicted, trained.predict(test).numpy(), rtol=1e-4, atol=1e-4)
        assert trained.texts.sport == trained.about["sport"]
        assert trained.simulated == dataset.simulated == ("simulated" in trained.about["data"])
    with (out / "results.csv").open() as file:
        assert len({(line["row"], line["target"]) for line in csv.DictReader(file)}) == len(found)


def test_a_model_is_chosen_by_its_row_target_and_seed(run):
    out = run("table4", "--datasets", "FS1000", "--rows", "1", "10", "--seeds", "0", "1", "--targets", "TES")
    trained = load_trained(out, row="10", target="TES", seed=1)
    assert (trained.name, trained.target, trained.seed) == ("MLAVL", "TES", 1)
    assert load_trained(out, row="CoFInAl", seed=0).about["row"]["key"] == "1"
    assert not list(out.rglob("checkpoint.pt"))


def test_weights_are_left_out_where_that_is_said(run):
    out = run("table4", "--datasets", "FS1000", "--rows", "1", "--targets", "TES", "--no-weights")
    assert not list(out.rglob("model.safetensors"))
    assert len(list(out.rglob("predictions.csv"))) == 1
    with pytest.raises(ValueError, match="holds no weights"):
        load_trained(out)


def test_a_source_is_described_by_plain_values_and_opened_again(tmp_path):
    features = tmp_path / "elsewhere"
    simulation_provider("FS1000", **TINY).simulation().write(tmp_path / "data")
    (tmp_path / "data" / "audio").rename(features)
    places = (("audio", str(features)),)
    provider = FolderProvider(DATASETS["FS1000"], tmp_path / "data", 8, places=places)
    source = json.loads(json.dumps(describe_source(provider, {})))
    assert open_source(source, "TES").fingerprint == provider.dataset("TES").fingerprint
    with pytest.raises(ValueError, match="does not know the provider 'Path'"):
        open_source({"provider": "Path"}, "TES")


def test_data_that_have_moved_are_read_where_they_lie_now(run, tmp_path):
    folder = tmp_path / "data"
    simulation_provider("FS1000", **TINY).simulation().write(folder)
    run("table4", "--rows", "1", "--targets", "TES", "--data", str(folder))
    trained = load_trained(tmp_path)
    assert trained.dataset().fingerprint == trained.about["fingerprint"]
    folder.rename(tmp_path / "moved")
    forget_datasets()
    with pytest.raises(ValueError, match="there is no folder"):
        trained.dataset()
    assert trained.dataset(tmp_path / "moved").fingerprint == trained.about["fingerprint"]
