"""Results as a reader wants them: a CSV with a line a cell and protocol, and a page with the table."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from mag2.metrics import fisher_average
from mag2.training.grid import Outcome

# What is reported from a training, under a name that says how the epoch was chosen.
PROTOCOLS = {
    "last_epoch": "the last epoch (the result)",
    "best_on_test": "the epoch that is best on the test set (the protocol of the released scripts)",
}
COLUMNS = (
    "row",
    "method",
    "variant",
    "target",
    "seed",
    "protocol",
    "epoch",
    "spearman",
    "mse",
    "rl2",
    "seconds",
    "data",
)


@dataclass(frozen=True)
class Line:
    """A row of a table: its names and, for real data, what the paper prints for each target."""

    key: str
    method: str
    variant: str
    published: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # target -> (Spearman, MSE)
    published_average: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """Method and variant."""
        return f"{self.method} {self.variant}".strip()


def results_csv(outcomes: Sequence[Outcome], lines: Sequence[Line], data: str) -> str:
    """One line for every cell and protocol."""
    by_key = {line.key: line for line in lines}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for outcome in outcomes:
        if outcome.result is None:
            continue
        line = by_key[outcome.cell.row]
        for protocol in PROTOCOLS:
            measured = outcome.result[protocol]
            writer.writerow(
                {
                    "row": line.key,
                    "method": line.method,
                    "variant": line.variant,
                    "target": outcome.cell.target,
                    "seed": outcome.cell.seed,
                    "protocol": protocol,
                    "epoch": measured["epoch"],
                    **{name: f"{measured[name]:.6g}" for name in ("spearman", "mse", "rl2")},
                    "seconds": outcome.result["seconds"],
                    "data": data,
                }
            )
    return text.getvalue()


def table_page(
    title: str,
    notes: Sequence[str],
    lines: Sequence[Line],
    targets: Sequence[str],
    outcomes: Sequence[Outcome],
) -> str:
    """The page: a table for each protocol and metric, measured beside published where there is something published."""
    parts = [f"# {title}", "", *notes, ""]
    for protocol, meaning in PROTOCOLS.items():
        for metric, better in (("spearman", "higher is better"), ("mse", "lower is better")):
            name = {"spearman": "Spearman's rho", "mse": "MSE"}[metric]
            parts += [
                f"## {name}, {better}: {meaning}",
                "",
                _table(lines, targets, outcomes, protocol, metric),
                "",
            ]
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        parts += ["## Failed", "", *(f"- {cell_name(lines, o)}: {o.error}" for o in failed), ""]
    return "\n".join(parts)


def cell_name(lines: Sequence[Line], outcome: Outcome) -> str:
    """A cell as a reader names it."""
    line = next(line for line in lines if line.key == outcome.cell.row)
    return f"{line.name}, {outcome.cell.target}, seed {outcome.cell.seed}"


def _table(
    lines: Sequence[Line], targets: Sequence[str], outcomes: Sequence[Outcome], protocol: str, metric: str
) -> str:
    compared = any(line.published for line in lines)
    digits = 3 if metric == "spearman" else 2
    head = ["Row", "Method", *targets, "Average"]
    rows = [head, ["---"] * 2 + ["---:"] * (len(targets) + 1)]
    for line in lines:
        values = {t: _values(outcomes, line.key, t, protocol, metric) for t in targets}
        if not any(values.values()):
            continue
        shown = []
        for target in targets:
            published = line.published.get(target)
            reference = None if published is None else published[metric != "spearman"]
            shown.append(_shown(values[target], reference, digits))
        # An average over some of the targets is not the paper's average.
        whole = set(line.published) <= set(targets) and line.published_average is not None
        average = line.published_average[metric != "spearman"] if whole and line.published_average else None
        shown.append(_shown(_averages(values, metric), average, digits))
        rows.append([line.key, line.name, *shown])
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    explained = "Each entry: measured (published, difference).\n\n" if compared else ""
    return explained + text


def _values(outcomes: Sequence[Outcome], row: str, target: str, protocol: str, metric: str) -> dict[int, float]:
    return {
        o.cell.seed: o.result[protocol][metric]
        for o in outcomes
        if o.result is not None and (o.cell.row, o.cell.target) == (row, target)
    }


def _averages(values: Mapping[str, Mapping[int, float]], metric: str) -> dict[int, float]:
    """The average over targets for every seed that has all of them: Fisher's z for rho, arithmetic for MSE."""
    seeds = set.intersection(*(set(by_seed) for by_seed in values.values()))
    average = fisher_average if metric == "spearman" else fmean
    return {seed: average([by_seed[seed] for by_seed in values.values()]) for seed in sorted(seeds)}


def _shown(by_seed: Mapping[int, float], reference: float | None, digits: int) -> str:
    measured = [value for value in by_seed.values() if not math.isnan(value)]
    if not measured:
        return "nan" if by_seed else ""
    mean = fmean(measured)
    text = f"{mean:.{digits}f}"
    if len(measured) > 1:
        text += f" ± {stdev(measured):.{digits}f}"
    if reference is not None:
        text += f" ({reference:.{digits}f}, {mean - reference:+.{digits}f})"
    return text
