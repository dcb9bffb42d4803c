"""The figures that need no model: learning curves, seeds, predicted against true, error by range."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mag2.figures.chosen import Chosen, LeftOutError
from mag2.figures.curves import draw_learning_curves, draw_seed_spread
from mag2.figures.files import Drawing
from mag2.figures.predictions import draw_error_by_range, draw_predicted_against_true
from mag2.training.run_folder import Training

__all__ = ["error_by_range", "learning_curves", "predicted_against_true", "seed_spread"]

MOST_LINES = 6  # in one panel; there are so many colours and markers
MOST_GROUPS = 8
PROTOCOL_WORDS = {"last_epoch": "last epoch", "best_on_test": "epoch best on the test set"}


def learning_curves(chosen: Chosen) -> Drawing:
    """Loss, Spearman and MSE over the epochs, all rows and seeds of a target."""
    trainings = [each for each in chosen.run.of(target=chosen.training.target) if each.metrics]
    if not trainings:
        raise LeftOutError("no epoch is on record: metrics.jsonl is missing")
    groups: dict[str, dict[str, dict[str, NDArray[Any]]]] = {}
    dropped = []
    for name, by_seed in _by_row(trainings).items():
        method = by_seed[0].heading.method
        group = groups.setdefault(method, {}) if method in groups or len(groups) < MOST_GROUPS else None
        if group is None or len(group) >= MOST_LINES:
            dropped.append(name)
            continue
        group[name] = _stacked(by_seed)
    seeds = sorted({each.seed for each in trainings if each.seed is not None})
    what = f"{_data_of(trainings)}, {chosen.unit}"
    footer = "; ".join([what, f"{_counted(len(seeds), 'seed')} ({_listed(seeds)})"]) if seeds else what
    band = " Lines are means over the seeds, bands reach from the least to the greatest." if len(seeds) > 1 else ""
    left = f" Not drawn, for want of colours: {', '.join(dropped)}." if dropped else ""
    caption = (
        f"Training loss, and Spearman and MSE on the test set after every epoch: {footer}. A ring marks the epoch that "
        f"is best on the test set.{band}{left}"
    )
    figure = draw_learning_curves(groups, footer=footer)
    return Drawing(f"learning-curves{_target_stem(chosen)}", f"Learning curves, {chosen.unit}", caption, figure)


def seed_spread(chosen: Chosen) -> Drawing:
    """Spearman of every seed, a line for each row, both protocols."""
    rows = _by_row(chosen.run.of(target=chosen.training.target))
    if max(len(by_seed) for by_seed in rows.values()) < 2:
        raise LeftOutError("one seed has no spread: train with --seeds 0 1 2")
    values: dict[str, list[list[float]]] = {}
    for protocol, words in PROTOCOL_WORDS.items():
        values[words] = [
            [float(each.result[protocol]["spearman"]) for each in by_seed if protocol in each.result]
            for by_seed in rows.values()
        ]
    trainings = [each for by_seed in rows.values() for each in by_seed]
    seeds = sorted({each.seed for each in trainings if each.seed is not None})
    footer = f"{_data_of(trainings)}, {chosen.unit}; {_counted(len(seeds), 'seed')} ({_listed(seeds)})"
    caption = f"Spearman on the test set of every seed, and their mean as a bar, by both protocols: {footer}."
    figure = draw_seed_spread(list(rows), values, footer=footer)
    return Drawing(f"seeds{_target_stem(chosen)}", f"Seeds, {chosen.unit}", caption, figure)


def predicted_against_true(chosen: Chosen) -> Drawing:
    """A point for each test video."""
    found = chosen.predictions
    footer = chosen.footer(chosen.protocol)
    figure = draw_predicted_against_true(found.score, found.predicted, unit=chosen.unit, footer=footer)
    caption = (
        f"Predicted against true {chosen.unit} of {len(found)} test videos: {footer}. On the dashed line the two are "
        f"equal."
    )
    return Drawing(f"predicted-against-true{chosen.stem}", f"Predicted against true {chosen.unit}", caption, figure)


def error_by_range(chosen: Chosen) -> Drawing:
    """The error in each fifth of the scores."""
    found = chosen.predictions
    footer = chosen.footer(chosen.protocol)
    figure = draw_error_by_range(found.score, found.predicted, unit=chosen.unit, footer=footer)
    caption = (
        f"Predicted minus true {chosen.unit} in ranges of true scores with about as many test videos each: {footer}. "
        f"A box holds the middle half of its videos, the line in it is their median, whiskers end with the last video "
        f"within 1.5 box lengths."
    )
    return Drawing(f"error-by-range{chosen.stem}", f"Error by range of {chosen.unit}", caption, figure)


def _by_row(trainings: Sequence[Training]) -> dict[str, list[Training]]:
    """Row's name -> its trainings; rows of one name are told apart by their keys."""
    by_key: dict[str, list[Training]] = {}
    for each in trainings:
        by_key.setdefault(each.heading.key, []).append(each)
    names = [by_seed[0].name for by_seed in by_key.values()]
    return {
        by_seed[0].name if names.count(by_seed[0].name) == 1 else f"{by_seed[0].name} ({key})": by_seed
        for key, by_seed in by_key.items()
    }


def _stacked(trainings: Sequence[Training]) -> dict[str, NDArray[Any]]:
    """Measure -> (seeds, epochs); nan where a training is shorter than the longest."""
    length = max(len(each.metrics) for each in trainings)
    stacked = {}
    for name in ("loss", "spearman", "mse"):
        values = np.full((len(trainings), length), np.nan)
        for place, each in enumerate(trainings):
            values[place, : len(each.metrics)] = [epoch[name] for epoch in each.metrics]
        stacked[name] = values
    return stacked


def _target_stem(chosen: Chosen) -> str:
    """Without the row: all rows are in the figure."""
    return chosen.stem.partition("_row-")[0].partition("_seed-")[0]


def _data_of(trainings: Sequence[Training]) -> str:
    data = " and ".join(dict.fromkeys(each.data for each in trainings))
    return f"{data[:1].upper()}{data[1:]}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _listed(seeds: Sequence[Mapping | int]) -> str:
    return ", ".join(map(str, seeds))
