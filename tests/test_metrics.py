"""Metrics: those of the released scripts, and the averages of the paper."""

import math

import numpy as np
import pytest
from scipy import stats

from mag2.data import TARGETS
from mag2.metrics import fisher_average, mse, relative_l2, spearman
from mag2.published import table
from tests.golden import golden


@pytest.mark.parametrize("repository", ["mlavl", "gdlt", "cofinal"])
def test_metrics_are_those_of_the_released_test_loops(repository):
    g = golden(f"metrics_{repository}")
    scale = g.meta.get("score_range", 1.0)
    for i in range(3):
        prediction, label = g.input(f"pred{i}"), g.input(f"label{i}")
        g.check(f"out/spearman_{i}", spearman(prediction, label))
        g.check(f"out/mse_{i}", mse(prediction, label, scale))
        if repository == "cofinal":
            g.check(f"out/rl2_{i}", relative_l2(prediction, label))
    assert not g.uncompared()


def test_metrics_are_those_of_qtd():
    g = golden("qtd_metric")
    prediction, label = g.input("pred").numpy(), g.input("true").numpy()
    g.check("out/rho", spearman(prediction, label))
    g.check("out/rl2", relative_l2(prediction, label) / 100)
    g.check("out/p", stats.spearmanr(prediction, label).pvalue)  # scipy's own: we report no p value
    assert not g.uncompared()


def test_the_fisher_average_is_pamfns():
    g = golden("metrics_pamfn")
    g.check("out/avg_coef", fisher_average(g.input("coefs").tolist()))
    assert not g.uncompared()


@pytest.mark.parametrize("row", table(4), ids=lambda row: f"row {row['row']}")
def test_the_averages_of_table_4_are_reproduced(row):
    rhos = [float(row[f"sp_{target}"]) for target in TARGETS["FS1000"]]
    assert round(fisher_average(rhos), 3) == float(row["sp_avg"])


def test_a_constant_prediction_has_no_rank():
    assert math.isnan(spearman([0.5, 0.5, 0.5], [1, 2, 3]))


def test_relative_l2_is_percent_of_the_label_range():
    assert relative_l2([1.0, 3.0], [2.0, 4.0]) == pytest.approx(100 * 0.25)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: spearman([1, 2], [1, 2, 3]), r"one shape \(n,\)"),
        (lambda: mse(np.zeros((2, 2)), np.zeros((2, 2))), r"one shape"),
        (lambda: spearman([1], [1]), "at least 2"),
        (lambda: relative_l2([1, 2], [1, 1]), "labels that differ"),
        (lambda: fisher_average([]), "at least one"),
        (lambda: table(8), "no published table 8"),
    ],
)
def test_bad_input_gets_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
