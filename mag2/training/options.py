"""The options of a table's command, and the folder of its results."""

import argparse
import os
from pathlib import Path
from typing import NoReturn

import torch

from mag2.data import DATASETS
from mag2.data.performances import CROPS
from mag2.plugin.placement import STARTS
from mag2.saving.arguments import given_path, whole_number
from mag2.saving.sentences import one_line
from mag2.training.request import SIMULATED_EPOCHS
from mag2.training.run import EVALUATIONS
from mag2.training.tables import Table
from mag2.training.threads import THREADS

__all__ = ["chosen_out", "default_out", "make_parser", "model_size"]


def make_parser(table: Table) -> argparse.ArgumentParser:
    """Return the parser of the options of a table's command."""
    parser = _Parser(
        description=f"{table.title}. Without --data the data are simulated, and all results are marked so."
    )
    rows = ", ".join(f"{row.heading.key} ({row.heading.name})" for row in table.rows)
    usual = {**table.targets, **(table.simulated or {})}
    default = ", ".join(f"{name} {' '.join(targets)}" for name, targets in usual.items())
    add = parser.add_argument
    add(
        "--data",
        nargs="+",
        metavar="FOLDER",
        help=f"folders of released files, DATASET=FOLDER each; a folder alone is that of {next(iter(table.targets))}",
    )
    add(
        "--datasets",
        nargs="+",
        metavar="DATASET",
        help=f"any of {' '.join(DATASETS)}; by default those of --data, or {' '.join(table.simulated or table.targets)}"
        ", simulated; ISU has real programmes and scores, with text features of the elements",
    )
    add(
        "--labels",
        type=given_path,
        metavar="FOLDER",
        help="folder of the real train.txt and test.txt for a simulated Fis-V",
    )
    add(
        "--label-folder",
        nargs="+",
        metavar="FOLDER",
        help="folders of label files, if they are not in the folders of --data; DATASET=FOLDER each",
    )
    add(
        "--feature-folder",
        nargs="+",
        metavar="FOLDER",
        help="folders of features, if they are not in the folders of --data; DATASET=FOLDER each, or "
        "DATASET.MODALITY=PATH for one modality (visual, audio, flow, vision_language)",
    )
    add(
        "--crops",
        choices=CROPS,
        default="shortest",
        help="for audio and video of different length in --data: shortest cuts both to the shorter one (the default), "
        "released crops as MLAVL's loader of FS1000 does",
    )
    add(
        "--targets",
        nargs="+",
        metavar="TARGET",
        help=f"targets to train; by default {default}, and all targets of other datasets",
    )
    chosen = "all by default" if table.usual_rows is None else f"{', '.join(table.usual_rows)} by default; there are"
    add("--rows", nargs="+", metavar="ROW", default=table.usual_rows, help=f"rows of the table, {chosen}: {rows}")
    add(
        "--controls",
        action="store_true",
        help="train every row with a graph again, with zero, random, permuted and centred texts, and without edges",
    )
    add(
        "--weighted",
        nargs="?",
        const=80,
        type=whole_number(1, 100),
        metavar="PERCENT",
        help="train every row with a graph again, with edges weighted by the dataset's vision_language features, which "
        "need --texts of the same encoder; simulated features name PERCENT of the actions (80)",
    )
    add(
        "--texts",
        nargs="+",
        default=["shipped"],
        metavar="ENCODER",
        help="text features: shipped (MiniLM), an authors' file, or an encoder such as open_clip:ViT-B-16/openai; "
        "DATASET=ENCODER for one dataset",
    )
    seeds = " ".join(map(str, table.seeds))
    usual_seeds = "0" if seeds == "0" else f"{seeds} without --data and --datasets, else 0"
    add(
        "--seeds",
        nargs="+",
        type=whole_number(0),
        metavar="SEED",
        help=f"seeds of the trainings, one training for each ({usual_seeds})",
    )
    add(
        "--epochs",
        type=whole_number(1),
        help="epochs of every model, stage and target; by default those of the recipes, "
        f"{SIMULATED_EPOCHS} on simulated data",
    )
    add(
        "--clips",
        type=whole_number(1),
        help="length of a crop in clips; by default the dataset's own, less on simulated data",
    )
    add(
        "--evaluation",
        choices=tuple(EVALUATIONS),
        help="score the centre crop of a video (crops), or whole videos one at a time (whole); by default as the "
        "script of each row's model does (python -m mag2.training.recipes)",
    )
    add(
        "--start",
        choices=STARTS,
        default="residual",
        help="how the output of the guides of +MAG2 enters the models of the field: residual adds it to the features "
        "(the default), identity adds it through a map that starts at zero, replace uses it alone; MLAVL's rows have "
        "their own setting",
    )
    add(
        "--size",
        choices=("paper", "small"),
        help="models of the width of their papers, or narrow ones; by default small on simulated data, else paper",
    )
    add(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="device to train on; by default a GPU if there is one",
    )
    add(
        "--workers",
        type=whole_number(1),
        default=_default_workers(),
        help="number of trainings that run at the same time, each in a process (the number of cores, or 1 on a GPU)",
    )
    add(
        "--threads",
        type=whole_number(1),
        default=THREADS,
        help=f"threads of each training ({THREADS}); another number changes the results slightly",
    )
    add("--ray", metavar="ADDRESS", help="train on a Ray cluster: local, auto, or ray://host:port")
    add("--out", type=given_path, help="folder for results and checkpoints; the same command continues a stopped run")
    add(
        "--record",
        nargs="+",
        type=whole_number(1),
        default=[],
        metavar="EPOCH",
        help="save the decoded grades of the test videos after these epochs, for the figures of an early stage",
    )
    add("--bf16", action="store_true", help="bfloat16 autocast")
    add("--compile", action="store_true", help="run the models through torch.compile; slower on a CPU")
    add("--keep-weights", action="store_true", help="keep every checkpoint.pt, with the state of the optimizer")
    add("--no-weights", action="store_true", help="do not keep the trained models (model.safetensors)")
    return parser


def _default_workers() -> int:
    return 1 if torch.cuda.is_available() else max(os.cpu_count() or 1, 1)


def default_out(name: str, real: bool) -> Path:
    """Return the default folder of a table's results."""
    return Path("runs") / (name if real else f"{name}-simulated")


def model_size(options: argparse.Namespace) -> str:
    """Return the size of models: the requested one, else "paper" for real and "small" for simulated data."""
    return options.size or ("paper" if options.data else "small")


def chosen_out(table: Table, options: argparse.Namespace) -> Path:
    """Return the requested folder of results, or the table's own."""
    if options.datasets and not options.data and all(DATASETS[name].shipped for name in options.datasets):
        return options.out or default_out(f"{table.name}-{'-'.join(options.datasets).lower()}", real=True)
    # Simulated data with vision_language features are other data: other results.
    usual = default_out(table.name, bool(options.data))
    apart = options.weighted is not None and not options.data
    return options.out or (usual.with_name(f"{usual.name}-weighted") if apart else usual)


class _Parser(argparse.ArgumentParser):
    """An error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)}\n")
