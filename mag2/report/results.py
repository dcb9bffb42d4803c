"""The tables of a run: measures by row and target with both protocols, every training, predictions of test videos."""

from collections.abc import Mapping, Sequence

from mag2.figures.chosen import Chosen, LeftOutError
from mag2.report.page import Column, Entry, SortableTable, number
from mag2.training.predictions import PREDICTIONS, read_predictions
from mag2.training.report import (
    METRICS,
    NOTES,
    PROTOCOLS,
    SHOWN,
    averages_of,
    column_names,
    columns_of,
    mean_and_spread,
)
from mag2.training.run_folder import RunFolder, Training
from mag2.training.tables import Heading
from mag2.training.target import Target

__all__ = ["SHORT", "measure_tables", "notes_of", "prediction_table", "protocols_of", "training_table"]

# The protocols as the heading of a column.
SHORT = {
    "last_epoch": "last epoch",
    "best_on_test": "best on test",
    "best_mse_on_test": "least MSE on test",
    "best_on_validation": "best on validation",
}


def protocols_of(run: RunFolder, metric: str | None = None) -> list[str]:
    """The protocols that a run has, in their order; with a metric those by which it is shown."""
    known = {name for training in run.trainings for name in training.result}
    return [name for name in PROTOCOLS if name in known and (metric is None or metric in SHOWN.get(name, (metric,)))]


def notes_of(run: RunFolder) -> list[str]:
    """What must be said of the numbers that the tables show."""
    shown = ((protocol, metric) for metric in run.metrics for protocol in protocols_of(run, metric))
    return list(
        dict.fromkeys(f"{METRICS[each[1]][0]}, {SHORT[each[0]]}: {NOTES[each]}" for each in shown if each in NOTES)
    )


def measure_tables(run: RunFolder) -> list[SortableTable]:
    """A table for each measure: a line for each row, for each target both protocols and, for real data, the paper's."""
    return [_measure_table(run, metric) for metric in run.metrics if metric in METRICS]


def _measure_table(run: RunFolder, metric: str) -> SortableTable:
    name, better, digits, _ = METRICS[metric]
    protocols = protocols_of(run, metric)
    columns = columns_of(run.targets) if run.grid else {target: [target] for target in run.targets}
    compared = {column for column in columns if any(_published(run, each, column, metric) for each in run.headings)}
    shown = (
        [Column("row", "text"), Column("method", "text", name=True)]
        if run.grid
        else [Column("model", "text", name=True)]
    )
    groups = [("", len(shown))]
    for column, title in zip(columns, column_names(columns), strict=True):
        parts = [*(SHORT.get(protocol, protocol) for protocol in protocols), *(["paper"] if column in compared else [])]
        groups.append((title, len(parts)))
        shown += [Column(part, first=place == 0) for place, part in enumerate(parts)]
    rows = []
    for heading in run.headings:
        line = [Entry(heading.key), Entry(heading.name)] if run.grid else [Entry(heading.name)]
        for column, members in columns.items():
            printed = _published(run, heading, column, metric)
            for protocol in protocols:
                by_seed = _by_seed(run, heading, members, protocol, metric)
                line.append(_measured(by_seed, len(run.seeds), printed, digits))
            if column in compared:
                line.append(Entry("" if printed is None else f"{printed:.{digits}f}", printed))
        rows.append(line)
    spread = "; mean ± standard deviation over seeds" if len(run.seeds) > 1 else ""
    beside = "; in small letters the difference to the paper" if compared else ""
    return SortableTable(f"{name}, {better}{spread}{beside}", shown, rows, groups)


def _published(run: RunFolder, heading: Heading, column: Target, metric: str) -> float | None:
    """What the paper prints; never for drawn data, whatever the folder says."""
    own = run.of(row=heading.key)
    if run.simulated or any(training.simulated for training in own):
        return None
    return heading.published.get(column, {}).get(metric)


def _by_seed(
    run: RunFolder, heading: Heading, members: Sequence[Target], protocol: str, metric: str
) -> Mapping[int, float]:
    values = [
        {
            -1 if training.seed is None else training.seed: float(training.result[protocol][metric])
            for training in run.of(row=heading.key, target=target)
            if protocol in training.result
        }
        for target in members
    ]
    return values[0] if len(values) == 1 else averages_of(values, metric)


def _measured(by_seed: Mapping[int, float], n_seeds: int, printed: float | None, digits: int) -> Entry:
    mean, text = mean_and_spread(by_seed, n_seeds, digits)
    if mean is None:
        return Entry(text)
    return Entry(text, mean, "" if printed is None else f"{mean - printed:+.{digits}f}")


def training_table(run: RunFolder) -> SortableTable:
    """A line for each training."""
    columns = [
        *([Column("row", "text")] if run.grid else []),
        Column("model", "text", name=True),
        Column("data", "text"),
        Column("target", "text"),
        Column("seed"),
    ]
    groups = [("", len(columns))]
    for protocol in protocols_of(run):
        columns += [Column("epoch", first=True), *(Column(METRICS[metric][0]) for metric in METRICS)]
        groups.append((SHORT.get(protocol, protocol), 1 + len(METRICS)))
    columns += [Column("parameters", first=True), Column("seconds")]
    groups.append(("", 2))
    rows = [_training_line(run, training) for training in run.trainings]
    return SortableTable(f"Every training, {len(rows)} in all", columns, rows, groups)


def _training_line(run: RunFolder, training: Training) -> list[Entry]:
    line = [
        *([Entry(training.heading.key)] if run.grid else []),
        Entry(training.name),
        Entry(training.data),
        Entry(training.target.name),
        Entry("") if training.seed is None else Entry(str(training.seed), training.seed),
    ]
    for protocol in protocols_of(run):
        measured = training.result.get(protocol, {})
        line.append(number(measured.get("epoch")))
        line += [number(measured.get(metric)) for metric in METRICS]
    parameters, seconds = training.result.get("parameters"), training.result.get("seconds")
    line.append(Entry("" if parameters is None else f"{parameters:,}", parameters))
    return [*line, number(seconds)]


def prediction_table(chosen: Chosen) -> SortableTable:
    """A line for each test video: its score and what each protocol predicts.

    Raises:
        LeftOutError: they were not kept.
    """
    found = read_predictions(chosen.training.folder / PREDICTIONS)
    if not found:
        raise LeftOutError(f"the predictions of {chosen.training.name} were not kept (version 0.1 kept none)")
    first = next(iter(found.values()))
    columns = [Column("video", "text", name=True), Column(f"true {chosen.unit}", first=True)]
    for protocol in found:
        columns += [Column(f"predicted, {SHORT.get(protocol, protocol)}", first=True), Column("error")]
    rows = []
    for place, name in enumerate(first.names):
        line = [Entry(name), number(float(first.score[place]))]
        for predictions in found.values():
            predicted = float(predictions.predicted[place])
            line += [number(predicted), number(predicted - float(first.score[place]))]
        rows.append(line)
    return SortableTable(f"{chosen.training.about}, {chosen.training.name}: {len(rows)} test videos", columns, rows)
