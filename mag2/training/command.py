"""The command behind every table: read the data, train the grid, write the page. A table's own file states its rows."""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from tqdm import tqdm

from mag2.checkpoints import read_json, write_atomically
from mag2.data import TARGETS, Dataset
from mag2.texts import TextFeatures
from mag2.training.fit import Epoch, Run
from mag2.training.grid import Cell, Outcome, read_result, run_grid, stored
from mag2.training.recipe import Recipe, published_epochs
from mag2.training.report import Line, cell_name, results_csv, table_page
from mag2.training.sources import ReleasedFS1000, SimulatedFS1000, Source
from mag2.training.stages import train

SIMULATED_EPOCHS = 12
SMALL_BATCH = 16


@dataclass(frozen=True)
class Inputs:
    """What a row's model is built for.

    Attributes:
        sport: whose texts. widths: of the features, by modality.
        small: the model is to be narrow, for a first look on a few cores; otherwise it has the size of its paper.
    """

    sport: str
    widths: Mapping[str, int]
    small: bool = False

    def texts(self, n_grades: int = 6) -> TextFeatures:
        """The shipped text features of the sport."""
        return TextFeatures.for_sport(self.sport, n_grades=n_grades)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        line: its names and what the paper printed.
        build: makes its model; must be importable by a fresh process.
        recipe: how it is trained. needs: the features that it cannot do without. stages: how often `fit` runs for it.
    """

    line: Line
    build: Callable[[Inputs], nn.Module]
    recipe: Recipe
    needs: tuple[str, ...] = ("visual",)
    stages: int = 1


@dataclass(frozen=True)
class Table:
    """A table of the paper: its rows, and the targets that are trained unless others are asked for."""

    name: str
    title: str
    rows: tuple[Row, ...]
    targets: tuple[str, ...]
    dataset: str = "FS1000"
    sport: str = "figure_skating"


def main(table: Table, arguments: Sequence[str] | None = None) -> int:
    """Run a table's command; the exit status is 0, 1 where a training failed, 2 where the input is at fault."""
    parser = _parser(table)
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    options.seeds = list(dict.fromkeys(options.seeds))
    options.command = shlex.join(["python", sys.argv[0] if arguments is None else f"{table.name}.py", *given])
    try:
        return _run(table, options)
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print(
            f"\nstopped; the same command goes on from {options.out or _default_out(table, options)}",
            file=sys.stderr,
        )
        return 130


def _run(table: Table, options: argparse.Namespace) -> int:
    rows: dict[str, Row] = _chosen("row", options.rows, {row.line.key: row for row in table.rows})
    known = TARGETS[table.dataset]
    targets = list(_chosen("target", options.targets or table.targets, dict.fromkeys(known)))
    source = _source(options)
    _check_device(options.device)
    # Every fault of the data shows here, before anything is written.
    datasets = {target: source.dataset(target) for target in targets}
    _check_modalities(rows, datasets[targets[0]])
    epochs = {target: _epochs(options.epochs, dataset) for target, dataset in datasets.items()}
    out = options.out or _default_out(table, options)
    settings = _settings(options, datasets)
    _claim(out, settings, datasets, _asked(options, rows, epochs))

    work = partial(
        train_cell,
        rows=rows,
        source=source,
        sport=table.sport,
        small=settings["size"] == "small",
        epochs=epochs,
        device=options.device,
        precision=settings["precision"],
        compile_model=options.compile,
        keep_weights=options.keep_weights,
    )
    cells = [Cell(key, target, seed) for target in targets for key in rows for seed in options.seeds]
    outcomes = _watched(cells, rows, work, out, options, epochs)
    failed = [outcome for outcome in outcomes if outcome.error]

    # The page holds all that the folder holds, of earlier runs too.
    data = f"simulated {table.dataset}" if settings["simulated"] else table.dataset
    lines = [_unpublished(row.line) if settings["simulated"] else row.line for row in table.rows]
    done = stored(out)
    seeds = sorted({cell.seed for cell in done})
    order = [Cell(line.key, target, seed) for line in lines for target in known for seed in seeds]
    outcomes = [Outcome(cell, done[cell]) for cell in order if cell in done] + failed
    targets = [target for target in known if any(outcome.cell.target == target for outcome in outcomes)]
    page = table_page(_title(table, data), _notes(seeds, settings, datasets, outcomes), lines, targets, outcomes)
    write_atomically(results_csv(outcomes, lines, data), out / "results.csv")
    write_atomically(page, out / f"{table.name}.md")
    print(page)
    print(f"Written: {out / f'{table.name}.md'}, {out / 'results.csv'}, {out / 'settings.json'}")
    if failed:
        print(f"{len(failed)} of {len(cells)} trainings failed; the page says why", file=sys.stderr)
    return 1 if failed else 0


def train_cell(
    cell: Cell,
    folder: Path,
    tick: Callable[[], None],
    *,
    rows: Mapping[str, Row],
    source: Source,
    sport: str,
    small: bool,
    epochs: Mapping[str, int],
    device: str,
    precision: str,
    compile_model: bool,
    keep_weights: bool,
) -> dict[str, Any]:
    """Train one cell of a table; the same cell gives the same numbers in any process."""
    row = rows[cell.row]
    dataset = source.dataset(cell.target)
    with torch.random.fork_rng():
        torch.manual_seed(cell.seed)
        model = row.build(Inputs(sport, dataset.train.widths, small))
    run = Run(
        epochs=epochs[cell.target],
        seed=cell.seed,
        device=device,
        precision=precision,
        compile=compile_model,
        folder=folder,
    )
    # A narrow model on few videos learns by many steps, not by large ones.
    recipe = replace(row.recipe, batch=SMALL_BATCH) if small else row.recipe
    history = train(model, dataset, recipe, run, on_epoch=lambda _: tick())
    if not keep_weights:
        for checkpoint in folder.rglob("checkpoint.pt"):
            checkpoint.unlink()
    return {
        "last_epoch": _measured(history.last),
        "best_on_test": _measured(history.best_on_test),
        "epochs": run.epochs,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train": len(dataset.train),
        "test": len(dataset.test),
        "data": f"simulated {dataset.name}" if dataset.simulated else dataset.name,
        "fingerprint": dataset.fingerprint,
    }


def _watched(
    cells: Sequence[Cell],
    rows: Mapping[str, Row],
    work: Callable,
    out: Path,
    options: argparse.Namespace,
    epochs: Mapping[str, int],
) -> list[Outcome]:
    """Run the grid behind a progress bar that counts epochs, with a line for each cell that ends."""
    sizes = {c: rows[c.row].stages * epochs[c.target] for c in cells if read_result(c, out) is None}
    if len(sizes) < len(cells):
        print(f"{len(cells) - len(sizes)} of {len(cells)} trainings are done already in {out}", file=sys.stderr)
    lines = [row.line for row in rows.values()]
    started, done, outcomes = time.monotonic(), 0, []
    with tqdm(total=sum(sizes.values()), unit="epoch", disable=not sys.stderr.isatty(), smoothing=0.05) as bar:
        for outcome in run_grid(cells, work, out, workers=options.workers, on_tick=lambda: bar.update()):
            outcomes.append(outcome)
            if not outcome.fresh:
                continue
            done += sizes[outcome.cell]
            left = (time.monotonic() - started) * (sum(sizes.values()) / done - 1)
            became = outcome.error or f"Spearman {outcome.result['last_epoch']['spearman']:.3f}"  # type: ignore[index]
            told = f"[{len(outcomes)}/{len(cells)}] {cell_name(lines, outcome)}: {became}; {_minutes(left)} left"
            tqdm.write(told, file=sys.stderr)
    order = {cell: number for number, cell in enumerate(cells)}
    return sorted(outcomes, key=lambda outcome: order[outcome.cell])


def _epochs(asked: int | None, dataset: Dataset) -> int:
    if asked is not None:
        return asked
    return SIMULATED_EPOCHS if dataset.simulated else published_epochs(dataset.name, dataset.target)


def _measured(epoch: Epoch) -> dict[str, float]:
    return {name: getattr(epoch, name) for name in ("epoch", "spearman", "mse", "rl2")}


def _chosen(kind: str, asked: Sequence[str] | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """The asked entries of `known`, in its order; all of them where nothing was asked."""
    unknown = [name for name in asked or () if name not in known]
    if unknown:
        raise ValueError(f"unknown {kind} {unknown[0]!r}; there are {', '.join(known)}")
    return {name: value for name, value in known.items() if not asked or name in asked}


def _source(options: argparse.Namespace) -> Source:
    clips = {} if options.clips is None else {"clips": options.clips}
    return SimulatedFS1000(**clips) if options.data is None else ReleasedFS1000(options.data, **clips)


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here: {reason}") from None


def _check_modalities(rows: Mapping[str, Row], dataset: Dataset) -> None:
    for row in rows.values():
        missing = [name for name in row.needs if name not in dataset.train.widths]
        if missing:
            raise ValueError(
                f"row {row.line.key} ({row.line.name}) needs {missing[0]} features, and {dataset.name} here has "
                f"{', '.join(dataset.train.widths)}; add their folder, or choose other rows with --rows"
            )


def _settings(options: argparse.Namespace, datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    """What must stay the same for results to stand in one table."""
    return {
        "simulated": any(dataset.simulated for dataset in datasets.values()),
        "clips": next(iter(datasets.values())).train.clips,
        "epochs": options.epochs,
        "size": options.size or ("small" if options.data is None else "paper"),
        "precision": "bfloat16" if options.bf16 else "float32",
    }


def _asked(options: argparse.Namespace, rows: Mapping[str, Row], epochs: Mapping[str, int]) -> dict[str, Any]:
    """What a call asked for, and all that it takes to ask again."""
    return {
        "command": options.command,
        "data": None if options.data is None else str(options.data.resolve()),
        "rows": list(rows),
        "seeds": options.seeds,
        "epochs": dict(epochs),
        "device": options.device,
        "workers": options.workers,
        "compile": options.compile,
        "recipes": {key: asdict(row.recipe) for key, row in rows.items()},
        "versions": {name: importlib.metadata.version(name) for name in ("mag2", "torch", "torch-geometric", "numpy")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _claim(out: Path, settings: dict[str, Any], datasets: Mapping[str, Dataset], asked: dict[str, Any]) -> None:
    """Make the folder and add to it how to repeat this run; refuse a folder of another table."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder with --out")
    path = out / "settings.json"
    before = read_json(path, "settings", "fingerprints", "runs") if path.is_file() else {}
    fingerprints = {target: dataset.fingerprint for target, dataset in datasets.items()}
    known = before.get("fingerprints", {})
    if before and before["settings"] != settings:
        changed = next(k for k, v in settings.items() if before["settings"].get(k) != v)
        raise ValueError(
            f"{out} holds results with {changed} {before['settings'].get(changed)}, this run has {settings[changed]}; "
            f"give another --out"
        )
    if any(known.get(target, value) != value for target, value in fingerprints.items()):
        raise ValueError(f"{out} holds results of other data; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    record = {"settings": settings, "fingerprints": known | fingerprints, "runs": [*before.get("runs", []), asked]}
    write_atomically(json.dumps(record, indent=1) + "\n", path)


def _title(table: Table, data: str) -> str:
    simulated = data != "FS1000"
    return f"{table.title}: SIMULATED data, not {data.split()[-1]} itself" if simulated else f"{table.title}: {data}"


def _notes(
    seeds: Sequence[int], settings: Mapping[str, Any], datasets: Mapping[str, Dataset], outcomes: Sequence[Outcome]
) -> list[str]:
    first = next(iter(datasets.values()))
    size = (
        "models of their papers' sizes"
        if settings["size"] == "paper"
        else f"narrow models, not their papers' sizes, batches of {SMALL_BATCH}"
    )
    told = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean ± spread of seeds {', '.join(map(str, seeds))}"
    epochs = {o.cell.target: o.result["epochs"] for o in outcomes if o.result is not None}
    trained = ", ".join(f"{target} {number}" for target, number in epochs.items())
    notes = [
        f"{len(first.train)} training and {len(first.test)} test performances, {first.train.clips} clips each; "
        f"{told}; epochs: {trained}; {size}."
    ]
    if first.simulated:
        notes = [
            "**Simulated features and scores.** They exercise the whole pipeline and say nothing about the paper's "
            "numbers, which are therefore not printed here.",
            "",
            *notes,
        ]
    return notes


def _unpublished(line: Line) -> Line:
    return Line(line.key, line.method, line.variant)


def _default_out(table: Table, options: argparse.Namespace) -> Path:
    return Path("runs") / (f"{table.name}-simulated" if options.data is None else table.name)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{math.ceil(seconds / 60)} min"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _parser(table: Table) -> argparse.ArgumentParser:
    parser = _Parser(
        description=f"{table.title}. Without --data it trains on simulated data and says so everywhere.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    rows = ", ".join(f"{row.line.key} ({row.line.name})" for row in table.rows)
    add = parser.add_argument
    add("--data", type=Path, help="folder of FS1000 in its released layout")
    add(
        "--targets",
        nargs="+",
        metavar="TARGET",
        help=f"of {' '.join(TARGETS[table.dataset])} (default {' '.join(table.targets)})",
    )
    add("--rows", nargs="+", metavar="ROW", help=f"rows of the table, all by default: {rows}")
    add("--seeds", nargs="+", type=_at_least(0), default=[0], metavar="SEED", help="one training for each")
    add(
        "--epochs",
        type=_at_least(1),
        help="for every target; the paper's by default, fewer on simulated data",
    )
    add("--clips", type=_at_least(1), help="length of a crop; 95 (released), fewer on simulated data")
    add(
        "--size",
        choices=("paper", "small"),
        help="models as wide as in their papers, or narrow; small on simulated data",
    )
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to train")
    add(
        "--workers",
        type=_at_least(1),
        default=_default_workers(),
        help="trainings at a time, in processes of their own",
    )
    add("--out", type=Path, help="folder for results and checkpoints; a run that was stopped goes on from it")
    add("--bf16", action="store_true", help="bfloat16 autocast")
    add("--compile", action="store_true", help="run the models through torch.compile")
    add("--keep-weights", action="store_true", help="keep every trained model (checkpoint.pt)")
    return parser


def _default_workers() -> int:
    return 1 if torch.cuda.is_available() else max(os.cpu_count() or 1, 1)


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
        return int(text)

    return whole
