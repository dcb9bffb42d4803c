"""Results as files: a CSV with a line for each cell and protocol, and a page with the table."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from mag2.data import TARGETS
from mag2.metrics import fisher_average
from mag2.training.cells import Outcome
from mag2.training.run import EVALUATIONS
from mag2.training.tables import Heading
from mag2.training.target import AVERAGE, Target

__all__ = [
    "METRICS",
    "NOTES",
    "PROTOCOLS",
    "REAL_PROGRAMMES",
    "SHOWN",
    "averages_of",
    "cell_name",
    "column_names",
    "columns_of",
    "mean_and_spread",
    "page_notes",
    "page_title",
    "results_csv",
    "table_page",
    "what_is_simulated",
]

# The results of a training, by how their epoch is chosen.
PROTOCOLS = {
    "last_epoch": "the last epoch (the result)",
    "best_on_test": "the epoch that is best on the test set (the protocol of the released scripts)",
    "best_mse_on_test": "the epoch with the least MSE on the test set (MLAVL's script reports it apart)",
}
# Which metrics the page shows of a protocol, and what it says below them.
SHOWN = {"best_mse_on_test": ("mse", "rl2")}
NOTES = {
    ("best_on_test", metric): (
        "This is the error of the epoch with the best Spearman's rho. Rho sees the order of scores alone: where that "
        "epoch comes early, scores may be far from their scale and this error absurdly large."
    )
    for metric in ("mse", "rl2")
}
# Of each metric: its name, which direction is better, the digits that are shown, how it is averaged over targets.
METRICS = {
    "spearman": ("Spearman's rho", "higher is better", 3, fisher_average),
    "mse": ("MSE", "lower is better", 2, fmean),
    "rl2": ("R-l2 (%)", "lower is better", 3, fmean),
}
# How the data of a result are named whose programmes and scores are real, behind whose they are.
REAL_PROGRAMMES = ": real programmes and scores, simulated features"
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


def results_csv(outcomes: Sequence[Outcome], headings: Sequence[Heading]) -> str:
    """One line for every cell and protocol."""
    by_key = {heading.key: heading for heading in headings}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for outcome in outcomes:
        if outcome.result is None:
            continue
        heading, target = by_key[outcome.cell.row], outcome.cell.target
        for protocol in PROTOCOLS:
            measured = outcome.result.get(protocol)
            if measured is None:  # of a version that did not have this protocol
                continue
            writer.writerow(
                {
                    "row": heading.key,
                    "method": heading.method,
                    "variant": heading.variant,
                    "dataset": target.dataset,
                    "target": target.name,
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
    headings: Sequence[Heading],
    targets: Sequence[Target],
    outcomes: Sequence[Outcome],
    metrics: Sequence[str] = ("spearman", "mse"),
) -> str:
    """The page: a table for each protocol and metric; published numbers, where they exist, beside the measured ones.

    Args:
        title: of the page. notes: the lines below it.
        headings: the rows. targets: the columns; a dataset whose several targets are all among them gets its average.
        outcomes: what was measured. metrics: which of them the page shows.
    """
    page = [f"# {title}", "", *notes, ""]
    for protocol, meaning in PROTOCOLS.items():
        for metric in metrics:
            if metric not in SHOWN.get(protocol, metrics):
                continue
            name, better, *_ = METRICS[metric]
            note = [NOTES[protocol, metric], ""] if (protocol, metric) in NOTES else []
            page += [
                f"## {name}, {better}: {meaning}",
                "",
                *note,
                _table(headings, targets, outcomes, protocol, metric),
                "",
            ]
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        page += ["## Failed", "", *(f"- {cell_name(headings, o)}: {o.error}" for o in failed), ""]
    return "\n".join(page)


def page_title(title: str, targets: Sequence[Target], outcomes: Sequence[Outcome] = (), *, simulated: bool) -> str:
    """The title of a page: the table and what it was measured on."""
    data = _data_of(outcomes)
    if simulated and data and all(each.endswith(REAL_PROGRAMMES) for each in data):
        whose = " and ".join(each.removesuffix(REAL_PROGRAMMES) for each in data)
        return f"{title}: real programmes and scores ({whose}), SIMULATED features"
    names = " and ".join(dict.fromkeys(target.dataset for target in targets))
    return f"{title}: SIMULATED data, not {names} itself" if simulated else f"{title}: {names}"


def page_notes(seeds: Sequence[int], outcomes: Sequence[Outcome], *settings: str, simulated: bool) -> list[str]:
    """The lines below the title: data, seeds, epochs, and the settings in words."""
    seeds_used = f"Seed {seeds[0]}" if len(seeds) == 1 else f"Mean ± spread of seeds {', '.join(map(str, seeds))}"
    notes = [_simulated_note(outcomes), ""] if simulated else _shipped_notes(outcomes)
    by_dataset: dict[str, dict[str, list[Mapping]]] = {}
    for outcome in outcomes:
        if outcome.result is not None:
            target = outcome.cell.target
            by_dataset.setdefault(target.dataset, {}).setdefault(target.name, []).append(outcome.result)
    for dataset, by_target in by_dataset.items():
        every = [result for results in by_target.values() for result in results]
        train, test, clips = (_span([result[what] for result in every]) for what in _COUNTS)
        epochs = ", ".join(f"{t} {_span([result['epochs'] for result in own])}" for t, own in by_target.items())
        notes.append(
            f"- {dataset}: {train} training and {test} test performances, crops of {clips} clips; epochs: {epochs}."
        )
    notes += _evaluation_notes(outcomes)
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    encoders = sorted({result["texts"].replace("shipped", "MiniLM, shipped with the library") for result in results})
    notes.append(f"- {'; '.join((seeds_used, *settings))}; texts: {', '.join(encoders)}.")
    shares = sorted({result["top1"] for result in results if result["top1"] is not None})
    if shares:
        named = ", ".join(f"{share:.0%}" for share in shares)
        notes.append(f"- Weighted edges: the simulated vision_language features name {named} of the planted actions.")
    return notes


def _evaluation_notes(outcomes: Sequence[Outcome]) -> list[str]:
    """Which rows were scored on crops and which on whole videos."""
    rows: dict[str, dict[str, None]] = {}
    for outcome in outcomes:
        if outcome.result is not None:
            # Version 0.1 had crops alone.
            rows.setdefault(outcome.result.get("evaluation", "crops"), {})[outcome.cell.row] = None
    said = [f"{EVALUATIONS[how]}: row{'s' * (len(keys) > 1)} {', '.join(keys)}" for how, keys in rows.items()]
    return [f"- Scored on {'; on '.join(said)}."] if said else []


_COUNTS = ("train", "test", "clips")


def _data_of(outcomes: Sequence[Outcome]) -> list[str]:
    """The data of all results, in the words that stand beside them."""
    return sorted({outcome.result["data"] for outcome in outcomes if outcome.result is not None})


def _shipped_notes(outcomes: Sequence[Outcome]) -> list[str]:
    """What the datasets are that ship with the library."""
    shipped = {o.result["data"]: o.result["note"] for o in outcomes if o.result is not None and o.result.get("note")}
    return [line for data, note in sorted(shipped.items()) for line in (f"**{data}.** {note}", "")]


def what_is_simulated(data: Sequence[str]) -> str:
    """One or two sentences on what is real and what is simulated in results on `data`, as results name theirs."""
    programmes = [each.removesuffix(REAL_PROGRAMMES) for each in data if each.endswith(REAL_PROGRAMMES)]
    real = [each.partition(" ")[0] for each in data if each.endswith(" scores, simulated features")]
    if programmes:
        ranks = " Ranks are over all disciplines and segments together." if "ISU" in programmes else ""
        return (
            f"Real programmes and scores of {' and '.join(programmes)}, simulated features. Real are the elements, "
            "their order, their grades of execution and the scores; drawn are all features (video, sound, flow)."
            + ranks
        )
    return f"Simulated features, under the real scores of {real[0]}." if real else "Simulated performances."


def _simulated_note(outcomes: Sequence[Outcome]) -> str:
    return (
        f"**{what_is_simulated(_data_of(outcomes))}** They exercise the whole pipeline and say nothing about the "
        "paper's numbers, which are therefore not printed here. Next: `--data FOLDER` trains on features of your own, "
        "in the released layout (docs/data.md)."
    )


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def cell_name(headings: Sequence[Heading], outcome: Outcome) -> str:
    """A cell as a reader names it."""
    heading = next(heading for heading in headings if heading.key == outcome.cell.row)
    return f"{heading.name}, {' '.join(filter(None, outcome.cell.target))}, seed {outcome.cell.seed}"


def _table(
    headings: Sequence[Heading], targets: Sequence[Target], outcomes: Sequence[Outcome], protocol: str, metric: str
) -> str:
    columns = columns_of(targets)
    n_seeds = len({outcome.cell.seed for outcome in outcomes})
    rows = [["Row", "Method", *column_names(columns)], ["---"] * 2 + ["---:"] * len(columns)]
    for heading in headings:
        values = {target: _values(outcomes, heading.key, target, protocol, metric) for target in targets}
        if not any(values.values()):
            continue
        shown = []
        for column, members in columns.items():
            by_seed = values[column] if column in values else averages_of([values[t] for t in members], metric)
            shown.append(_shown(by_seed, n_seeds, heading.published.get(column, {}).get(metric), METRICS[metric][2]))
        rows.append([heading.key, heading.name, *shown])
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    compared = any(heading.published for heading in headings)
    return "Each entry: measured (published, difference).\n\n" + text if compared else text


def columns_of(targets: Sequence[Target]) -> dict[Target, list[Target]]:
    """The columns and the targets that each is made of: itself, or all targets of a dataset for its average."""
    by_dataset: dict[str, list[Target]] = {}
    for target in targets:
        by_dataset.setdefault(target.dataset, []).append(target)
    columns: dict[Target, list[Target]] = {}
    for dataset, members in by_dataset.items():
        columns |= {target: [target] for target in members}
        # An average over some of the targets is not the paper's average, nor comparable with another.
        if 1 < len(members) == len(TARGETS[dataset]):
            columns[Target(dataset, AVERAGE)] = members
    return columns


def column_names(columns: Iterable[Target]) -> list[str]:
    """What the columns are called: with their dataset where there are several."""
    columns = list(columns)
    if len({column.dataset for column in columns}) > 1:
        return [" ".join(column) for column in columns]
    return ["Average" if column.name == AVERAGE else column.name for column in columns]


def _values(outcomes: Sequence[Outcome], row: str, target: Target, protocol: str, metric: str) -> dict[int, float]:
    return {
        o.cell.seed: o.result[protocol][metric]
        for o in outcomes
        if o.result is not None and (o.cell.row, o.cell.target) == (row, target)
    }


def averages_of(values: Sequence[Mapping[int, float]], metric: str) -> dict[int, float]:
    """The average over targets for every seed that has all of them: Fisher's z for rho, arithmetic for the others."""
    seeds = set.intersection(*(set(by_seed) for by_seed in values))
    average = METRICS[metric][3]
    return {seed: average([by_seed[seed] for by_seed in values]) for seed in sorted(seeds)}


def mean_and_spread(by_seed: Mapping[int, float], n_seeds: int, digits: int) -> tuple[float | None, str]:
    """Return the mean (None without values), and mean and spread in words, with the number of seeds if some lack."""
    measured = [value for value in by_seed.values() if not math.isnan(value)]
    if not measured:
        return None, "nan" if by_seed else ""
    mean = fmean(measured)
    text = f"{mean:.{digits}f}"
    if len(measured) > 1:
        text += f" ± {stdev(measured):.{digits}f}"
    if len(measured) < n_seeds:
        text += f" [n = {len(measured)}]"
    return mean, text


def _shown(by_seed: Mapping[int, float], n_seeds: int, reference: float | None, digits: int) -> str:
    """Mean and spread and, where there is one, the reference and the difference to it."""
    mean, text = mean_and_spread(by_seed, n_seeds, digits)
    if mean is None or reference is None:
        return text
    return f"{text} ({reference:.{digits}f}, {mean - reference:+.{digits}f})"
