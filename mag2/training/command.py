"""The command behind every table: read the data, train the grid, write the page. A table's own file states its rows."""

import argparse
import math
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mag2 import interrupts
from mag2.data import TARGETS, Dataset
from mag2.saving.atomic_io import write_atomically
from mag2.saving.places import check_file_place, check_folder_place
from mag2.saving.sentences import error_sentence
from mag2.training.cell_result import table_results
from mag2.training.cells import Cell, Outcome, read_result
from mag2.training.checks import check_device, check_models, check_one_kind, rows_with_features
from mag2.training.dataset_providers import forget_datasets
from mag2.training.first_look import first_look_notes
from mag2.training.grid import run_grid
from mag2.training.options import chosen_out, make_parser, model_size
from mag2.training.recipes.model_recipe import SMALL_BATCH
from mag2.training.report import cell_name, page_notes, page_title, results_csv, table_page
from mag2.training.request import Request
from mag2.training.resolve_args import resolve
from mag2.training.run_manifest import describe_call, recorded
from mag2.training.said import log_on_stderr
from mag2.training.sober_notes import guided_notes, ridge_notes
from mag2.training.table_file import TABLE, write_table
from mag2.training.tables import Heading, Table
from mag2.training.target import Target
from mag2.training.threads import threads_of_torch
from mag2.training.train_cell import CellTraining

__all__ = ["main"]


def main(table: Table, arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
    """Run a table's command; the exit status is 0, 1 where a training failed, 2 where the input is at fault.

    `program` is what errors and the manifest call the command; by default the script that runs.
    """
    interrupts.end()
    parser = make_parser(table)
    parser.prog = program or parser.prog
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    usual_seeds = [0] if options.data or options.datasets else table.seeds
    options.seeds = list(dict.fromkeys(options.seeds or usual_seeds))
    script = ["python", sys.argv[0] if arguments is None else f"{table.name}.py"]
    options.command = " ".join([program, shlex.join(given)]) if program else shlex.join([*script, *given])
    try:
        with threads_of_torch(options.threads):
            return _run(table, options)
    except (ValueError, OSError) as error:
        parser.error(error_sentence(error))
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on from {chosen_out(table, options)}", file=sys.stderr)
        return 130


def _run(table: Table, options: argparse.Namespace) -> int:
    request = resolve(table, options)
    check_device(options.device)
    # Every fault of the data and of the texts shows here, before anything is written.
    forget_datasets()  # files may have changed since an earlier call in this process
    left_out = None
    with log_on_stderr():
        datasets = request.datasets()
        check_one_kind(datasets.values())
        settings = _settings(table, options, datasets.values())
        fingerprints = request.fingerprints(datasets)
        if not (options.rows or options.data):
            request, left_out = rows_with_features(request, datasets)
        check_models(request, datasets)
    _check_record(options.record, request)
    out = chosen_out(table, options)
    if options.out is None:  # what repeats the call says where, whatever the usual folder will be
        options.command += f" --out {shlex.quote(str(out))}"
    table_results(out)  # a damaged one would be found after the trainings
    check_folder_place(out, " with --out")
    for name in ("results.csv", TABLE, f"{table.name}.md"):
        check_file_place(out / name)
    with recorded(out, settings, fingerprints, describe_call(options, request)):
        work = CellTraining(
            request=request,
            device=options.device,
            precision=settings["precision"],
            compile=options.compile,
            keep_weights=options.keep_weights,
            record=tuple(sorted(set(options.record))),
            save_weights=not options.no_weights,
        )
        outcomes = _train(work, out, options)
        notes = [] if left_out is None else [f"- {left_out}"]
        if request.small:
            notes += first_look_notes(request.providers)
        if not options.data:
            notes += ridge_notes(request.rows, list(datasets.values()), outcomes)
            notes += guided_notes(request.rows, request.targets, outcomes)
        return _report(table, settings, out, outcomes, notes)


def _check_record(record: Sequence[int], request: Request) -> None:
    """Refuse epochs to record that a training does not reach."""
    cells = ((row, target) for target in request.targets for row in request.rows.values())
    fewest = min(request.recipe(row, request.dataset(row, target)).epochs for row, target in cells)
    if max(record, default=0) > fewest:
        raise ValueError(f"--record names epoch {max(record)}, and a training has {fewest} epochs")


def _train(work: CellTraining, out: Path, options: argparse.Namespace) -> list[Outcome]:
    """Run the grid behind a progress bar that counts epochs, with a line for each cell that ends."""
    rows, targets = work.request.rows, work.request.targets
    cells = [Cell(row, target, seed) for target in targets for row in rows for seed in options.seeds]
    sizes = {c: work.request.total_epochs(rows[c.row], c.target) for c in cells if read_result(c, out) is None}
    if len(sizes) < len(cells):
        print(f"{len(cells) - len(sizes)} of {len(cells)} trainings are done already in {out}", file=sys.stderr)
    headings = [row.heading for row in rows.values()]
    started, done, outcomes = time.monotonic(), 0, []
    with tqdm(total=sum(sizes.values()), unit="epoch", disable=not sys.stderr.isatty(), smoothing=0.05) as bar:
        gpus = 1 if options.device.startswith("cuda") else 0
        grid = run_grid(
            cells,
            work,
            out,
            workers=options.workers,
            threads=options.threads,
            on_tick=lambda: bar.update(),
            ray=options.ray,
            gpus=gpus,
        )
        for outcome in grid:
            outcomes.append(outcome)
            if not outcome.fresh:
                continue
            done += sizes[outcome.cell]
            left = (time.monotonic() - started) * (sum(sizes.values()) / done - 1)
            became = outcome.error or f"Spearman {outcome.result['last_epoch']['spearman']:.3f}"  # type: ignore[index]
            line = f"[{len(outcomes)}/{len(cells)}] {cell_name(headings, outcome)}: {became}; {_minutes(left)} left"
            tqdm.write(line, file=sys.stderr)
    order = {cell: number for number, cell in enumerate(cells)}
    return sorted(outcomes, key=lambda outcome: order[outcome.cell])


def _report(
    table: Table, settings: Mapping[str, Any], out: Path, outcomes: Sequence[Outcome], more_notes: Sequence[str]
) -> int:
    """Write and print the page of everything that the folder holds, also from earlier runs."""
    failed = [outcome for outcome in outcomes if outcome.error]
    rows = [each for row in table.rows for each in (row, *row.controls(), *row.weighted())]
    headings = [_unpublished(row.heading) if settings["simulated"] else row.heading for row in rows]
    finished = table_results(out)
    seeds = sorted({cell.seed for cell in finished})
    targets = [Target(dataset, name) for dataset, names in TARGETS.items() for name in names]
    order = [Cell(heading.key, target, seed) for heading in headings for target in targets for seed in seeds]
    shown = [Outcome(cell, finished[cell]) for cell in order if cell in finished] + failed
    targets = [target for target in targets if any(outcome.cell.target == target for outcome in shown)]
    size = (
        "models of their papers' sizes"
        if settings["size"] == "paper"
        else f"narrow models, not their papers' sizes, batches of {SMALL_BATCH}"
    )
    described = [size] if settings["start"] == "residual" else [size, f"guides of +MAG2 enter by {settings['start']!r}"]
    notes = page_notes(seeds, shown, *described, simulated=settings["simulated"])
    notes += more_notes
    title = page_title(table.title, targets, shown, simulated=settings["simulated"])
    page = table_page(title, notes, headings, targets, shown, table.metrics)
    if table.facts is not None:
        page += f"\n{table.facts()}\n"
    write_atomically(results_csv(shown, headings), out / "results.csv")
    write_table(table, headings, out)
    write_atomically(page, out / f"{table.name}.md")
    print(page)
    print(f"Written: {out / f'{table.name}.md'}, {out / 'results.csv'}, {out / 'settings.json'}")
    if failed:
        print(f"{len(failed)} of {len(outcomes)} trainings failed; the page says why", file=sys.stderr)
    return 1 if failed else 0


def _settings(table: Table, options: argparse.Namespace, datasets: Iterable[Dataset]) -> dict[str, Any]:
    """What all results of one table share."""
    return {
        "table": table.name,
        "simulated": any(dataset.simulated for dataset in datasets),
        "epochs": options.epochs,
        "size": model_size(options),
        "precision": "bfloat16" if options.bf16 else "float32",
        "start": options.start,
        "threads": options.threads,
    }


def _unpublished(heading: Heading) -> Heading:
    return Heading(heading.key, heading.method, heading.variant)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{math.ceil(seconds / 60)} min"
