"""What is printed of data and results: sizes in a line or three, no addresses and no tensors."""

import math
import re

import pytest
import torch
from table4 import TABLE4

from mag2.data import DATASETS, TorchDataset, simulate
from mag2.data.fisv import FisV
from mag2.data.labels import LabelRow
from mag2.training.history import Epoch, History
from tests.test_data_simulate import SMALL, random_texts


@pytest.fixture(scope="module")
def simulation():
    return simulate(random_texts(), train=8, test=4, length=(12, 15), widths=SMALL, seed=3)


def history(*rhos):
    return History([Epoch(i, 0.5, 0.1, rho, 12.5, 1.0, 0.1) for i, rho in enumerate(rhos, 1)])


def test_what_is_printed_says_what_it_is(simulation):
    dataset = simulation.dataset("TES", clips=10)
    widths = "visual 48, audio 32, flow 40"
    train = f"Performances(8 videos of 12 to 15 clips, cropped to 10; {widths}; scale 130)"
    assert repr(dataset.train) == train
    assert repr(dataset).splitlines() == [
        "Dataset(FS1000, TES, simulated",
        f"  train: {train}",
        f"  test:  {dataset.test!r})",
    ]
    assert repr(dataset.train.batch([0, 1])) == (
        "Batch(visual (2, 10, 48), audio (2, 10, 32), flow (2, 10, 40), label (2,); float32, cpu)"
    )
    assert repr(simulation.features["visual"]) == "ClipFeatures(12 videos of 12 to 15 clips, 48 wide)"
    assert repr(simulation) == f"Simulation(FS1000, 8 train and 4 test videos of 12 to 15 clips; {widths}; seed 3)"
    assert repr(history(0.1, 0.7, 0.4)) == (
        "History(3 epochs; last: Spearman 0.400, MSE 12.5, loss 0.5; best on test: 0.700 after epoch 2)"
    )
    assert repr(History()) == "History(no epochs)"
    assert "nan" in repr(history(math.nan))
    assert repr(DATASETS["RG"]) == "<RG: RG, rhythmic_gymnastics, targets Ball, Clubs, Hoop, Ribbon>"


def test_nothing_that_is_printed_floods_the_screen(simulation):
    dataset = simulation.dataset("TES")
    printed = [
        dataset,
        dataset.train,
        dataset.train.batch([0]).to("cpu", torch.bfloat16),
        TorchDataset(dataset.test, random_crops=False),
        simulation,
        simulation.sheet,
        simulation.features["audio"],
        FisV(tuple(LabelRow("train.txt", i, (str(i), "1", "2")) for i in range(500))),
        history(*[0.5] * 500),
        TABLE4,
    ]
    for value in printed:
        lines = repr(value).splitlines()
        assert 1 <= len(lines) <= 3, value
        assert all(len(line) < 160 for line in lines)
        assert not re.search(r"0x[0-9a-f]{6}|tensor\(|array\(", repr(value))
