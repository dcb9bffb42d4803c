"""Remarks of a page that compare its rows with simple baselines: ridge regression, and the same model without guide."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

import numpy as np
import torch

from mag2.data import Dataset, Performances
from mag2.data.performances import MODALITIES
from mag2.metrics import spearman
from mag2.programmes import fit_ridge
from mag2.training.cells import Outcome
from mag2.training.tables import Row
from mag2.training.target import Target

__all__ = ["guided_notes", "ridge_notes"]

_PLUGGED = {"+MAG2": "", "+Texts+MAG2": "+Texts"}  # variant -> the variant without the guide


def ridge_notes(rows: Mapping[str, Row], datasets: Sequence[Dataset], outcomes: Sequence[Outcome]) -> list[str]:
    """Return remarks on the result of ridge regression on mean features, and on the rows that are below it."""
    notes = []
    for dataset in datasets:
        target = Target(dataset.name, dataset.target)
        needs = {key: tuple(name for name in row.needs if name in MODALITIES) for key, row in rows.items()}
        try:
            reached = {each: _ridge(dataset, each) for each in dict.fromkeys(needs.values())}
        except ValueError:  # too few performances, or features that are all alike
            continue
        measured = {key: _spearmans(outcomes, key, target) for key in rows}
        below = [key for key, of_seeds in measured.items() if of_seeds and fmean(of_seeds) < reached[needs[key]]]
        best = ", ".join(f"{value:.3f} on {' and '.join(each)}" for each, value in reached.items())
        who = f"below that: row{'s' * (len(below) > 1)} {', '.join(below)}" if below else "no row is below that"
        notes.append(
            f"- Ridge regression on mean features, Spearman's rho for {dataset.name} {dataset.target}: {best}; "
            f"{who} (last epoch)."
        )
    return notes


def guided_notes(rows: Mapping[str, Row], targets: Sequence[Target], outcomes: Sequence[Outcome]) -> list[str]:
    """Return remarks on rows with a guide that are worse than without it by more than the spread over seeds."""
    by_name = {(row.heading.method, row.heading.variant): key for key, row in rows.items()}
    below, compared = [], 0
    for (method, variant), key in by_name.items():
        plain = by_name.get((method, _PLUGGED[variant])) if variant in _PLUGGED else None
        for target in targets if plain is not None else ():
            guided, without = (_spearmans(outcomes, each, target) for each in (key, plain))
            if len(guided) < 2 or len(guided) != len(without):
                continue
            compared += 1
            gap = fmean(guided) - fmean(without)
            if -gap > max(stdev(guided), stdev(without)):
                below.append(f"{key} ({' '.join(target)}, {gap:+.3f})")
    if not compared:
        return []
    which = f"{', '.join(below)} only" if below else "none"
    return [f"- +MAG2 below the same model without it by more than the spread over seeds (last epoch): {which}."]


def _ridge(dataset: Dataset, modalities: Sequence[str]) -> float:
    def of(part: Performances) -> tuple[np.ndarray, np.ndarray]:
        batch = part.batch(torch.arange(len(part)))
        means = [getattr(batch, name).double().mean(1).numpy() for name in modalities]
        return np.concatenate(means, axis=1), part.label.double().numpy()

    features, labels = of(dataset.test)
    return spearman(fit_ridge(*of(dataset.train)).predict(features), labels)


def _spearmans(outcomes: Sequence[Outcome], row: str | None, target: Target) -> list[float]:
    """Of the last epoch, by seed."""
    found = {
        each.cell.seed: float(each.result["last_epoch"]["spearman"])
        for each in outcomes
        if each.result is not None and (each.cell.row, each.cell.target) == (row, target)
    }
    return [found[seed] for seed in sorted(found)]
