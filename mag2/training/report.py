"""Results as a reader wants them: a CSV with a line a cell and protocol, and a page with the table."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from mag2.data import TARGETS
from mag2.metrics import fisher_average
from mag2.training.grid import Outcome
from mag2.training.tables import AVERAGE, Line, key, parts

# What is reported from a training, under a name that says how the epoch was chosen.
PROTOCOLS = {
    "last_epoch": "the last epoch (the result)",
    "best_on_test": "the epoch that is best on the test set (the protocol of the released scripts)",
}
# Of each metric its name, which way is better, the digits that are shown, and how it is averaged over targets.
METRICS = {
    "spearman": ("Spearman's rho", "higher is better", 3, fisher_average),
    "mse": ("MSE", "lower is better", 2, fmean),
    "rl2": ("R-l2 (%)", "lower is better", 3, fmean),
}
COLUMNS = (
    "row",
    "method",
    "variant",
    "dataset",
    "target",
    "seed",
    "protocol",
    "epoch",
    "spearman",
    "mse",
    "rl2",
    "parameters",
    "seconds",
    "data",
)


def results_csv(outcomes: Sequence[Outcome], lines: Sequence[Line]) -> str:
    """One line for every cell and protocol."""
    by_key = {line.key: line for line in lines}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for outcome in outcomes:
        if outcome.result is None:
            continue
        line = by_key[outcome.cell.row]
        dataset, target = parts(outcome.cell.target)
        for protocol in PROTOCOLS:
            measured = outcome.result[protocol]
            writer.writerow(
                {
                    "row": line.key,
                    "method": line.method,
                    "variant": line.variant,
                    "dataset": dataset,
                    "target": target,
                    "seed": outcome.cell.seed,
                    "protocol": protocol,
                    "epoch": measured["epoch"],
                    **{name: f"{measured[name]:.6g}" for name in METRICS},
                    **{name: outcome.result[name] for name in ("parameters", "seconds", "data")},
                }
            )
    return text.getvalue()


def table_page(
    title: str,
    notes: Sequence[str],
    lines: Sequence[Line],
    targets: Sequence[str],
    outcomes: Sequence[Outcome],
    metrics: Sequence[str] = ("spearman", "mse"),
) -> str:
    """The page: a table for each protocol and metric, measured beside published where there is something published.

    Args:
        title: its heading. notes: what stands below it.
        lines: the rows. targets: the columns, as "FS1000/TES"; a dataset whose several targets are all there gets
            its average.
        outcomes: what was measured. metrics: which of them the page shows.
    """
    page = [f"# {title}", "", *notes, ""]
    for protocol, meaning in PROTOCOLS.items():
        for metric in metrics:
            name, better, *_ = METRICS[metric]
            page += [
                f"## {name}, {better}: {meaning}",
                "",
                _table(lines, targets, outcomes, protocol, metric),
                "",
            ]
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        page += ["## Failed", "", *(f"- {cell_name(lines, o)}: {o.error}" for o in failed), ""]
    return "\n".join(page)


def page_title(title: str, targets: Sequence[str], *, simulated: bool) -> str:
    """What a page is headed: the table and what it was measured on."""
    names = " and ".join(dict.fromkeys(parts(target)[0] for target in targets))
    return f"{title}: SIMULATED data, not {names} itself" if simulated else f"{title}: {names}"


def page_notes(seeds: Sequence[int], outcomes: Sequence[Outcome], *settings: str, simulated: bool) -> list[str]:
    """What stands below the heading: data, seeds, epochs, and the settings in words."""
    told = f"Seed {seeds[0]}" if len(seeds) == 1 else f"Mean ± spread of seeds {', '.join(map(str, seeds))}"
    notes = [_simulated_note(outcomes), ""] if simulated else []
    by_dataset: dict[str, dict[str, Mapping]] = {}
    for outcome in outcomes:
        if outcome.result is not None:
            dataset, target = parts(outcome.cell.target)
            by_dataset.setdefault(dataset, {})[target] = outcome.result
    for dataset, by_target in by_dataset.items():
        train, test, clips = (_span([result[what] for result in by_target.values()]) for what in _COUNTS)
        epochs = ", ".join(f"{target} {result['epochs']}" for target, result in by_target.items())
        notes.append(
            f"- {dataset}: {train} training and {test} test performances, {clips} clips each; epochs: {epochs}."
        )
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    encoders = sorted({result["texts"].replace("shipped", "MiniLM, shipped with the library") for result in results})
    notes.append(f"- {'; '.join((told, *settings))}; texts: {', '.join(encoders)}.")
    shares = sorted({result["top1"] for result in results if result["top1"] is not None})
    if shares:
        named = ", ".join(f"{share:.0%}" for share in shares)
        notes.append(f"- Weighted edges: the simulated vision_language features name {named} of the planted actions.")
    return notes


_COUNTS = ("train", "test", "clips")


def _simulated_note(outcomes: Sequence[Outcome]) -> str:
    told = {outcome.result["data"] for outcome in outcomes if outcome.result is not None}
    real = [data.partition(" ")[0] for data in sorted(told) if not data.startswith("simulated")]
    what = f"Simulated features, under the real scores of {real[0]}." if real else "Simulated performances."
    return (
        f"**{what}** They exercise the whole pipeline and say nothing about the paper's numbers, which are therefore "
        "not printed here. Next: `--data FOLDER` trains on features of your own, in the released layout (README)."
    )


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def cell_name(lines: Sequence[Line], outcome: Outcome) -> str:
    """A cell as a reader names it."""
    line = next(line for line in lines if line.key == outcome.cell.row)
    return f"{line.name}, {outcome.cell.target.replace('/', ' ')}, seed {outcome.cell.seed}"


def _table(
    lines: Sequence[Line], targets: Sequence[str], outcomes: Sequence[Outcome], protocol: str, metric: str
) -> str:
    columns = _columns(targets)
    n_seeds = len({outcome.cell.seed for outcome in outcomes})
    rows = [["Row", "Method", *_headings(columns)], ["---"] * 2 + ["---:"] * len(columns)]
    for line in lines:
        values = {target: _values(outcomes, line.key, target, protocol, metric) for target in targets}
        if not any(values.values()):
            continue
        shown = []
        for column, members in columns.items():
            by_seed = values[column] if column in values else _averages([values[t] for t in members], metric)
            shown.append(_shown(by_seed, n_seeds, line.published.get(column, {}).get(metric), METRICS[metric][2]))
        rows.append([line.key, line.name, *shown])
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    compared = any(line.published for line in lines)
    return "Each entry: measured (published, difference).\n\n" + text if compared else text


def _columns(targets: Sequence[str]) -> dict[str, list[str]]:
    """The columns and the targets that each stands for: a target for itself, then the average of its dataset."""
    by_dataset: dict[str, list[str]] = {}
    for target in targets:
        by_dataset.setdefault(parts(target)[0], []).append(target)
    columns: dict[str, list[str]] = {}
    for dataset, members in by_dataset.items():
        columns |= {target: [target] for target in members}
        # An average over some of the targets is not the paper's average, nor comparable with another.
        if 1 < len(members) == len(TARGETS[dataset]):
            columns[key(dataset, AVERAGE)] = members
    return columns


def _headings(columns: Mapping[str, Sequence[str]]) -> list[str]:
    datasets = {parts(column)[0] for column in columns}
    if len(datasets) > 1:
        return [column.replace("/", " ") for column in columns]
    return [parts(column)[1].replace(AVERAGE, "Average") for column in columns]


def _values(outcomes: Sequence[Outcome], row: str, target: str, protocol: str, metric: str) -> dict[int, float]:
    return {
        o.cell.seed: o.result[protocol][metric]
        for o in outcomes
        if o.result is not None and (o.cell.row, o.cell.target) == (row, target)
    }


def _averages(values: Sequence[Mapping[int, float]], metric: str) -> dict[int, float]:
    """The average over targets for every seed that has all of them: Fisher's z for rho, arithmetic for the others."""
    seeds = set.intersection(*(set(by_seed) for by_seed in values))
    average = METRICS[metric][3]
    return {seed: average([by_seed[seed] for by_seed in values]) for seed in sorted(seeds)}


def _shown(by_seed: Mapping[int, float], n_seeds: int, reference: float | None, digits: int) -> str:
    """Mean and spread; how many seeds they are of where some are missing, or their number is nan."""
    measured = [value for value in by_seed.values() if not math.isnan(value)]
    if not measured:
        return "nan" if by_seed else ""
    mean = fmean(measured)
    text = f"{mean:.{digits}f}"
    if len(measured) > 1:
        text += f" ± {stdev(measured):.{digits}f}"
    if len(measured) < n_seeds:
        text += f" [n = {len(measured)}]"
    if reference is not None:
        text += f" ({reference:.{digits}f}, {mean - reference:+.{digits}f})"
    return text
