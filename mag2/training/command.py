"""The command behind every table: read the data, train the grid, write the page. A table's own file states its rows."""

import argparse
import importlib.metadata
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mag2.data import TARGETS, Dataset
from mag2.data.performances import VISION_LANGUAGE
from mag2.saving.atomic_io import write_atomically
from mag2.training.dataset_providers import DatasetProvider
from mag2.training.grid import Cell, Outcome, read_result, run_grid, stored
from mag2.training.history import Epoch
from mag2.training.options import chosen_out, make_parser
from mag2.training.recipe import published_epochs
from mag2.training.report import cell_name, page_notes, page_title, results_csv, table_page
from mag2.training.resolve_args import (
    asked_datasets,
    asked_rows,
    asked_sources,
    asked_targets,
    asked_texts,
    check_device,
    check_kinds,
    check_models,
    fingerprints,
    inputs_of,
)
from mag2.training.run import Run
from mag2.training.run_manifest import claimed
from mag2.training.stages import train
from mag2.training.tables import Line, Row, Table, key, parts

SIMULATED_EPOCHS = 12
SMALL_BATCH = 16


def main(table: Table, arguments: Sequence[str] | None = None) -> int:
    """Run a table's command; the exit status is 0, 1 where a training failed, 2 where the input is at fault."""
    parser = make_parser(table)
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    options.seeds = list(dict.fromkeys(options.seeds))
    options.command = shlex.join(["python", sys.argv[0] if arguments is None else f"{table.name}.py", *given])
    try:
        return _run(table, options)
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on from {chosen_out(table, options)}", file=sys.stderr)
        return 130


def _run(table: Table, options: argparse.Namespace) -> int:
    rows = asked_rows(table, options)
    sources = asked_sources(table, options)
    targets = asked_targets(table, options, sources)
    check_device(options.device)
    # Every fault of the data and of the texts shows here, before anything is written.
    datasets = asked_datasets(rows, sources, targets)
    check_kinds(datasets)
    encoders, settings = asked_texts(options, sources), _settings(table, options, datasets)
    small = settings["size"] == "small"
    prints = fingerprints(datasets, encoders)
    check_models(rows, datasets, encoders, small)
    epochs = {key(data.name, data.target): _epochs(options.epochs, data) for data in datasets.values()}
    out = chosen_out(table, options)
    with claimed(out, settings, prints, _asked(options, rows, epochs)):
        work = partial(
            train_cell,
            rows=rows,
            sources=sources,
            encoders=encoders,
            small=small,
            epochs=epochs,
            device=options.device,
            precision=settings["precision"],
            compile_model=options.compile,
            keep_weights=options.keep_weights,
        )
        cells = [Cell(row, target, seed) for target in targets for row in rows for seed in options.seeds]
        outcomes = _watched(cells, rows, work, out, options, epochs)
        return _report(table, settings, out, outcomes)


def _report(table: Table, settings: Mapping[str, Any], out: Path, outcomes: Sequence[Outcome]) -> int:
    """Write and print the page of all that the folder holds, of earlier runs too."""
    failed = [outcome for outcome in outcomes if outcome.error]
    lines = [
        line for row in table.rows for line in (row.line, *(other.line for other in (*row.controls(), *row.weighted())))
    ]
    lines = [_unpublished(line) if settings["simulated"] else line for line in lines]
    done = stored(out)
    seeds = sorted({cell.seed for cell in done})
    targets = [key(dataset, target) for dataset in TARGETS for target in TARGETS[dataset]]
    order = [Cell(line.key, target, seed) for line in lines for target in targets for seed in seeds]
    shown = [Outcome(cell, done[cell]) for cell in order if cell in done] + failed
    targets = [target for target in targets if any(outcome.cell.target == target for outcome in shown)]
    size = (
        "models of their papers' sizes"
        if settings["size"] == "paper"
        else f"narrow models, not their papers' sizes, batches of {SMALL_BATCH}"
    )
    notes = page_notes(seeds, shown, size, simulated=settings["simulated"])
    title = page_title(table.title, targets, simulated=settings["simulated"])
    page = table_page(title, notes, lines, targets, shown, table.metrics)
    if table.facts is not None:
        page += f"\n{table.facts()}\n"
    write_atomically(results_csv(shown, lines), out / "results.csv")
    write_atomically(page, out / f"{table.name}.md")
    print(page)
    print(f"Written: {out / f'{table.name}.md'}, {out / 'results.csv'}, {out / 'settings.json'}")
    if failed:
        print(f"{len(failed)} of {len(outcomes)} trainings failed; the page says why", file=sys.stderr)
    return 1 if failed else 0


def train_cell(
    cell: Cell,
    folder: Path,
    tick: Callable[[], None],
    *,
    rows: Mapping[str, Row],
    sources: Mapping[str, DatasetProvider],
    encoders: Mapping[str, str],
    small: bool,
    epochs: Mapping[str, int],
    device: str,
    precision: str,
    compile_model: bool,
    keep_weights: bool,
) -> dict[str, Any]:
    """Train one cell of a table; the same cell gives the same numbers in any process."""
    row = rows[cell.row]
    name, target = parts(cell.target)
    dataset = sources[name].dataset(target, row.extractors)
    with torch.random.fork_rng():
        torch.manual_seed(cell.seed)
        model = row.build(inputs_of(row, dataset, encoders, small))
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
        "clips": dataset.train.clips,
        "texts": encoders[name],
        "top1": getattr(sources[name], "top1", None) if VISION_LANGUAGE in row.needs else None,
        "data": _data(dataset, sources[name]),
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
        gpus = 1 if options.device.startswith("cuda") else 0
        grid = run_grid(
            cells, work, out, workers=options.workers, on_tick=lambda: bar.update(), ray=options.ray, gpus=gpus
        )
        for outcome in grid:
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


def _settings(table: Table, options: argparse.Namespace, datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    """What must stay the same for results to stand in one table."""
    return {
        "table": table.name,
        "simulated": any(dataset.simulated for dataset in datasets.values()),
        "epochs": options.epochs,
        "size": options.size or ("paper" if options.data else "small"),
        "precision": "bfloat16" if options.bf16 else "float32",
    }


def _asked(options: argparse.Namespace, rows: Mapping[str, Row], epochs: Mapping[str, int]) -> dict[str, Any]:
    """What a call asked for, and all that it takes to ask again."""
    return {
        "command": options.command,
        "data": options.data,
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


def _data(dataset: Dataset, source: DatasetProvider) -> str:
    """What a number was measured on, in the words that stand beside it."""
    if not dataset.simulated:
        return dataset.name
    real = getattr(source, "labels", None) is not None
    return f"{dataset.name} scores, simulated features" if real else f"simulated {dataset.name}"


def _unpublished(line: Line) -> Line:
    return Line(line.key, line.method, line.variant)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{math.ceil(seconds / 60)} min"
