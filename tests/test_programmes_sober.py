"""Sober baselines: ridge regression solves its equations, and rank agreement is reported over all and within groups."""

import pytest
import torch

from mag2.metrics import fisher_average, spearman
from mag2.programmes import fit_ridge, rank_agreement, read_performances, train_and_test


def test_ridge_is_the_solution_of_its_equations():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64).numpy() + 3
    y = x @ [1.0, -2.0, 0.0, 0.5, 3.0] + 7
    fitted = fit_ridge(x, y, penalties=[0.01])
    centred, error = x - x.mean(axis=0), fitted.predict(x) - y
    # The gradient of the penalised error is zero, and the errors have the mean 0.
    assert abs(centred.T @ error + fitted.penalty * fitted.weights).max() < 1e-8
    assert abs(error.mean()) < 1e-10
    assert abs(fit_ridge(x, y).predict(x) - y).max() < 1e-4, "without noise the smallest penalty is best"


def test_ridge_chooses_the_penalty_by_leaving_rows_out():
    """The closed form chooses what a loop over left-out rows chooses, whether little or much penalty is best."""
    chosen = set()
    for noise in (0.01, 1.0, 30.0):
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(15, 30, generator=generator, dtype=torch.float64).numpy()
        y = x[:, 0] + noise * torch.randn(15, generator=generator, dtype=torch.float64).numpy()
        relative = (1e-6, 0.01, 1.0, 100.0)
        absolute = [fit_ridge(x, y, [each]).penalty for each in relative]
        errors = [left_out_error(x, y, penalty) for penalty in absolute]
        assert fit_ridge(x, y, relative).penalty == absolute[errors.index(min(errors))]
        chosen.add(errors.index(min(errors)))
    assert len(chosen) > 1


def left_out_error(x, y, penalty):
    """The squared error of predicting each row from the others."""
    rest = [[j for j in range(len(x)) if j != i] for i in range(len(x))]
    return sum((absolute_ridge(x[rest[i]], y[rest[i]], penalty, x[i]) - y[i]) ** 2 for i in range(len(x)))


def absolute_ridge(x, y, penalty, new):
    """A ridge regression by its normal equations, at one new row."""
    centred = torch.from_numpy(x - x.mean(axis=0))
    gram = centred.T @ centred + penalty * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, centred.T @ torch.from_numpy(y - y.mean())).numpy()
    return (new - x.mean(axis=0)) @ weights + y.mean()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: fit_ridge([[1.0], [2.0]], [1.0, 2.0]), "n >= 3"),
        (lambda: fit_ridge([[1.0], [1.0], [1.0]], [1.0, 2.0, 3.0]), "features that differ"),
        (lambda: fit_ridge([[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0], [0.0]), "penalties are positive"),
    ],
)
def test_ridge_refuses_what_it_cannot_fit(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_agreement_is_reported_over_all_and_within_groups():
    _, test = train_and_test(read_performances())
    base = [sum(element.base_value for element in each.elements) for each in test]
    agreement = rank_agreement(base, test, "TES")
    men = [i for i, each in enumerate(test) if (each.discipline, each.segment) == ("men", "free")]
    assert agreement.groups["men", "free"] == spearman([base[i] for i in men], [test[i].TES for i in men])
    assert agreement.within == fisher_average(list(agreement.groups.values()))
    assert agreement.overall > agreement.within > 0.8, "segments differ, and within one the content decides too"
    # What tells segments apart and nothing else looks good over all and is nothing within.
    length = rank_agreement([len(each.elements) + 1e-6 * i for i, each in enumerate(test)], test, "TES")
    assert length.overall > 0.6 > abs(length.within) + 0.2
