"""The command behind every table: read the data, train the grid, write the page. A table's own file states its rows."""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from mag2.checkpoints import alone_in, read_json, write_atomically
from mag2.data import DATASETS, TARGETS, Dataset
from mag2.data.performances import VISION_LANGUAGE
from mag2.training.fit import Epoch, Run
from mag2.training.grid import Cell, Outcome, read_result, run_grid, stored
from mag2.training.recipe import published_epochs
from mag2.training.report import cell_name, page_notes, page_title, results_csv, table_page
from mag2.training.sources import Released, Source, simulated
from mag2.training.stages import train
from mag2.training.tables import Inputs, Line, Row, Table, key

SIMULATED_EPOCHS = 12
SMALL_BATCH = 16


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
            f"\nstopped; the same command goes on from {_out(table, options)}",
            file=sys.stderr,
        )
        return 130


def _run(table: Table, options: argparse.Namespace) -> int:
    rows = _rows(table, options)
    sources = _sources(table, options)
    targets = _targets(table, options, sources)
    _check_device(options.device)
    # Every fault of the data and of the texts shows here, before anything is written.
    datasets = _datasets(rows, sources, targets)
    _check_kinds(datasets)
    encoders, settings = _texts(options, sources), _settings(options, datasets)
    small = settings["size"] == "small"
    prints = _prints(datasets, encoders)
    _check_models(rows, datasets, encoders, small)
    epochs = {key(data.name, data.target): _epochs(options.epochs, data) for data in datasets.values()}
    out = _out(table, options)
    with _claimed(out, settings, prints, _asked(options, rows, epochs)):
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
    sources: Mapping[str, Source],
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
    name, _, target = cell.target.partition("/")
    dataset = sources[name].dataset(target, row.features)
    with torch.random.fork_rng():
        torch.manual_seed(cell.seed)
        model = row.build(_inputs(row, dataset, encoders, small))
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


def _chosen(kind: str, asked: Sequence[str] | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """The asked entries of `known`, in its order; all of them where nothing was asked."""
    unknown = [name for name in asked or () if name not in known]
    if unknown:
        raise ValueError(f"unknown {kind} {unknown[0]!r}; there are {', '.join(known)}")
    return {name: value for name, value in known.items() if not asked or name in asked}


def _rows(table: Table, options: argparse.Namespace) -> dict[str, Row]:
    """The rows to train, by key, each followed by its controls where these are asked for."""
    chosen = _chosen("row", options.rows, {row.line.key: row for row in table.rows}).values()
    wanted = []
    for row in chosen:
        wanted += [row, *(row.controls() if options.controls else ()), *(row.weighted() if options.weighted else ())]
    return {row.line.key: row for row in wanted}


def _sources(table: Table, options: argparse.Namespace) -> dict[str, Source]:
    """Where each dataset comes from; of those that are given as folders, or of the table's, simulated."""
    first = next(iter(table.targets))
    clips = {} if options.clips is None else {"clips": options.clips}
    if not options.data:
        names = _chosen("dataset", options.datasets or list(table.targets), DATASETS)
        if options.labels is not None and "Fis-V" not in names:
            raise ValueError("--labels are Fis-V's real scores; ask for them with --datasets Fis-V")
        top1 = None if options.weighted is None else options.weighted / 100
        return {
            name: simulated(name, labels=options.labels if name == "Fis-V" else None, top1=top1, **clips)
            for name in names
        }
    if options.labels is not None:
        raise ValueError("--labels are for simulated features; with --data the labels lie in the folder")
    folders: dict[str, Path] = {}
    for given in options.data:
        name, equals, folder = given.partition("=")
        name, folder = (name, folder) if equals and name in DATASETS else (first, given)
        if name in folders:
            raise ValueError(f"{name} is given twice, {folders[name]} and {folder}; write --data {name}=FOLDER once")
        folders[name] = Path(folder)
    if options.datasets is not None and set(options.datasets) - set(folders):
        missing = sorted(set(options.datasets) - set(folders))[0]
        raise ValueError(f"no folder of {missing}; add {missing}=FOLDER to --data")
    return {
        name: Released(name, folder, options.clips)
        for name, folder in folders.items()
        if options.datasets is None or name in options.datasets
    }


def _texts(options: argparse.Namespace, sources: Mapping[str, Source]) -> dict[str, str]:
    """The text encoder of each dataset: its own, DATASET=ENCODER, or the one that is named without a dataset."""
    encoders = dict.fromkeys(sources, "shipped")
    for given in sorted(options.texts, key=lambda given: given.partition("=")[0] in DATASETS):
        name, equals, encoder = given.partition("=")
        if equals and name in DATASETS:
            encoders |= {name: encoder} if name in sources else {}
        else:
            encoders = dict.fromkeys(sources, given)
    return encoders


def _targets(table: Table, options: argparse.Namespace, sources: Mapping[str, Source]) -> list[str]:
    """The targets to train, "FS1000/TES"; those of the table where none are asked for."""
    if not options.targets:
        return [key(name, target) for name in sources for target in table.targets.get(name, TARGETS[name])]
    there = list(dict.fromkeys(target for name in sources for target in TARGETS[name]))
    asked = _chosen("target", options.targets, dict.fromkeys(there))
    return [key(name, target) for name in sources for target in TARGETS[name] if target in asked]


def _datasets(rows: Mapping[str, Row], sources: Mapping[str, Source], targets: Sequence[str]) -> dict[str, Dataset]:
    """Every dataset that the rows want, by target and kinds of features."""
    return {
        _wanted(target, row): sources[target.partition("/")[0]].dataset(target.partition("/")[2], row.features)
        for target in targets
        for row in {tuple(row.features.items()): row for row in rows.values()}.values()
    }


def _wanted(target: str, row: Row) -> str:
    return " ".join([target, *row.features.values()])


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here: {reason}") from None


def _check_kinds(datasets: Mapping[str, Dataset]) -> None:
    if len({dataset.simulated for dataset in datasets.values()}) > 1:
        names = [f"{dataset.name} {'is' if dataset.simulated else 'is not'}" for dataset in datasets.values()]
        raise ValueError(
            f"simulated and real data do not stand in one table, and here {', '.join(dict.fromkeys(names))} simulated"
        )


def _check_models(
    rows: Mapping[str, Row], datasets: Mapping[str, Dataset], encoders: Mapping[str, str], small: bool
) -> None:
    """Build every model once: features or texts that it cannot take show here, and not after hours of other rows."""
    seen = set()
    for wanted, dataset in datasets.items():
        for row in rows.values():
            widths = dataset.train.widths
            place = (dataset.name, row.line.key, *widths.items())
            if wanted != _wanted(key(dataset.name, dataset.target), row) or place in seen:
                continue
            seen.add(place)
            missing = [name for name in row.needs if name not in widths]
            if missing:
                raise ValueError(
                    f"row {row.line.key} ({row.line.name}) needs {missing[0]} features, and {dataset.name} here has "
                    f"{', '.join(widths)}; add their folder, or choose other rows with --rows"
                )
            with torch.random.fork_rng():
                row.build(_inputs(row, dataset, encoders, small))


def _inputs(row: Row, dataset: Dataset, encoders: Mapping[str, str], small: bool) -> Inputs:
    sport = DATASETS[dataset.name].sport
    return Inputs(sport, dataset.train.widths, small, row.control, encoders[dataset.name])


def _prints(datasets: Mapping[str, Dataset], encoders: Mapping[str, str]) -> dict[str, str]:
    """What data and texts the results are of, in a few letters each."""
    texts = {}
    for name, encoder in encoders.items():
        rows = Inputs(DATASETS[name].sport, {}, encoder=encoder).texts().rows
        texts[f"texts of {name}"] = hashlib.sha256(rows.contiguous().numpy().tobytes()).hexdigest()[:16]
    return texts | {name: dataset.fingerprint for name, dataset in datasets.items()}


def _settings(options: argparse.Namespace, datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    """What must stay the same for results to stand in one table."""
    return {
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


@contextlib.contextmanager
def _claimed(out: Path, settings: dict[str, Any], prints: Mapping[str, str], asked: dict[str, Any]) -> Iterator[None]:
    """Hold the folder and add to it how to repeat this run; refuse one of other settings, or where a run is at work."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder with --out")
    path = out / "settings.json"
    _check_settings(path, settings, prints)
    out.mkdir(parents=True, exist_ok=True)
    with alone_in(out):
        before = _check_settings(path, settings, prints)
        fingerprints = before.get("fingerprints", {}) | dict(prints)
        record = {"settings": settings, "fingerprints": fingerprints, "runs": [*before.get("runs", []), asked]}
        write_atomically(json.dumps(record, indent=1) + "\n", path)
        yield


def _check_settings(path: Path, settings: dict[str, Any], prints: Mapping[str, str]) -> dict[str, Any]:
    """What an earlier run left in the file, which must be of the same settings and data."""
    if not path.is_file():
        return {}
    before, out = read_json(path, "settings", "fingerprints", "runs"), path.parent
    if before["settings"] != settings:
        changed = next(k for k, v in settings.items() if before["settings"].get(k) != v)
        raise ValueError(
            f"{out} holds results with {changed} {before['settings'].get(changed)}, this run has {settings[changed]}; "
            f"give another --out"
        )
    known = before["fingerprints"]
    other = [name for name, value in prints.items() if known.get(name, value) != value]
    if other:
        raise ValueError(f"{out} holds results of other data, crops or texts ({other[0]}); give another --out")
    return before


def _data(dataset: Dataset, source: Source) -> str:
    """What a number was measured on, in the words that stand beside it."""
    if not dataset.simulated:
        return dataset.name
    real = getattr(source, "labels", None) is not None
    return f"{dataset.name} scores, simulated features" if real else f"simulated {dataset.name}"


def _unpublished(line: Line) -> Line:
    return Line(line.key, line.method, line.variant)


def default_out(name: str, real: bool) -> Path:
    """Where the results of a table go unless a folder is given."""
    return Path("runs") / (name if real else f"{name}-simulated")


def _out(table: Table, options: argparse.Namespace) -> Path:
    # Simulated data with features to weigh by are other data.
    usual = default_out(table.name, bool(options.data))
    apart = options.weighted is not None and not options.data
    return options.out or (usual.with_name(f"{usual.name}-weighted") if apart else usual)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{math.ceil(seconds / 60)} min"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _parser(table: Table) -> argparse.ArgumentParser:
    parser = _Parser(
        description=f"{table.title}. Without --data it trains on simulated data and says so everywhere.",
    )
    rows = ", ".join(f"{row.line.key} ({row.line.name})" for row in table.rows)
    default = ", ".join(f"{name} {' '.join(targets)}" for name, targets in table.targets.items())
    add = parser.add_argument
    add(
        "--data",
        nargs="+",
        metavar="FOLDER",
        help="folders in the released layouts, DATASET=FOLDER each; without a name it is "
        f"{next(iter(table.targets))}'s",
    )
    add(
        "--datasets",
        nargs="+",
        metavar="DATASET",
        help=f"of {' '.join(DATASETS)}; by default those of --data, or simulated {' '.join(table.targets)}",
    )
    add("--labels", type=Path, metavar="FOLDER", help="with the real train.txt and test.txt of a simulated Fis-V")
    add("--targets", nargs="+", metavar="TARGET", help=f"by default {default}, and all of other datasets")
    add("--rows", nargs="+", metavar="ROW", help=f"rows of the table, all by default: {rows}")
    add(
        "--controls",
        action="store_true",
        help="train every row with a graph again with its texts zeroed, random, permuted, centred, and without edges",
    )
    add(
        "--weighted",
        nargs="?",
        const=80,
        type=_at_least(1),
        metavar="PERCENT",
        help="train every row with a graph again with its edges weighted by the dataset's vision_language features, "
        "which --texts must fit; simulated ones name PERCENT of the actions (80)",
    )
    add(
        "--texts",
        nargs="+",
        default=["shipped"],
        metavar="ENCODER",
        help="text features: shipped (MiniLM), an authors' file, or an encoder such as open_clip:ViT-B-16/openai; "
        "DATASET=ENCODER for one dataset",
    )
    add("--seeds", nargs="+", type=_at_least(0), default=[0], metavar="SEED", help="one training for each (0)")
    add(
        "--epochs",
        type=_at_least(1),
        help="for every target; the paper's by default, fewer on simulated data",
    )
    add("--clips", type=_at_least(1), help="length of a crop; the dataset's own, fewer on simulated data")
    add(
        "--size",
        choices=("paper", "small"),
        help="models as wide as in their papers, or narrow; small on simulated data",
    )
    add(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="where to train (a GPU where there is one)",
    )
    add(
        "--workers",
        type=_at_least(1),
        default=_default_workers(),
        help="trainings at a time, in processes of their own (one a core, or 1 on a GPU)",
    )
    add("--ray", metavar="ADDRESS", help="train on a Ray cluster: local, auto, or ray://host:port")
    add("--out", type=Path, help="folder for results and checkpoints; a run that was stopped goes on from it")
    add("--bf16", action="store_true", help="bfloat16 autocast")
    add("--compile", action="store_true", help="run the models through torch.compile; on a CPU that is slower")
    add("--keep-weights", action="store_true", help="keep every trained model (checkpoint.pt)")
    return parser


def _default_workers() -> int:
    return 1 if torch.cuda.is_available() else max(os.cpu_count() or 1, 1)


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) < 2**31:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}, and below 2^31")
        return int(text)

    return whole
