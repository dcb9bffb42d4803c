"""The options of a table's command, and where its results go."""

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
    """The options of a table's command."""
    parser = _Parser(description=f"{table.title}. Without --data it trains on simulated data and says so everywhere.")
    rows = ", ".join(f"{row.heading.key} ({row.heading.name})" for row in table.rows)
    usual = {**table.targets, **(table.simulated or {})}
    default = ", ".join(f"{name} {' '.join(targets)}" for name, targets in usual.items())
    add = parser.add_argument
    add(
        "--data",
        nargs="+",
        metavar="FOLDER",
        help=f"folders of released files, DATASET=FOLDER each; without a name it is {next(iter(table.targets))}'s",
    )
    add(
        "--datasets",
        nargs="+",
        metavar="DATASET",
        help=f"of {' '.join(DATASETS)}; by default those of --data, or {' '.join(table.simulated or table.targets)}, "
        "simulated; ISU has real programmes and scores, their words as features",
    )
    add("--labels", type=given_path, metavar="FOLDER", help="with the real train.txt and test.txt of a simulated Fis-V")
    add(
        "--label-folder",
        nargs="+",
        metavar="FOLDER",
        help="where label files of --data lie apart from the features, DATASET=FOLDER each",
    )
    add(
        "--feature-folder",
        nargs="+",
        metavar="FOLDER",
        help="where features of --data lie apart from the labels, DATASET=FOLDER each, or DATASET.MODALITY=PATH for "
        "those of one modality (visual, audio, flow, vision_language)",
    )
    add(
        "--crops",
        choices=CROPS,
        default="shortest",
        help="where audio and video of --data differ in length: both end with the shorter one (the default), or crops "
        "begin as in the released FS1000 loader",
    )
    add("--targets", nargs="+", metavar="TARGET", help=f"by default {default}, and all of other datasets")
    chosen = "all by default" if table.usual_rows is None else f"{', '.join(table.usual_rows)} by default; there are"
    add("--rows", nargs="+", metavar="ROW", default=table.usual_rows, help=f"rows of the table, {chosen}: {rows}")
    add(
        "--controls",
        action="store_true",
        help="train every row with a graph again with its texts zeroed, random, permuted, centred, and without edges",
    )
    add(
        "--weighted",
        nargs="?",
        const=80,
        type=whole_number(1, 100),
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
    seeds = " ".join(map(str, table.seeds))
    usual_seeds = "0" if seeds == "0" else f"{seeds} without --data and --datasets, else 0"
    add("--seeds", nargs="+", type=whole_number(0), metavar="SEED", help=f"one training for each ({usual_seeds})")
    add(
        "--epochs",
        type=whole_number(1),
        help=f"for every model, stage and target; the recipes' by default, {SIMULATED_EPOCHS} on simulated data",
    )
    add("--clips", type=whole_number(1), help="length of a crop; the dataset's own, fewer on simulated data")
    add(
        "--evaluation",
        choices=tuple(EVALUATIONS),
        help="what is scored: the middle crop of a video, or whole videos one at a time; as the script of each row's "
        "model by default (python -m mag2.training.recipes)",
    )
    add(
        "--start",
        choices=STARTS,
        default="residual",
        help="how the guides of +MAG2 enter the models of the field: features + guide (the default), the same starting "
        "at the features, or the guide alone; MLAVL's own do as its row says",
    )
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
        type=whole_number(1),
        default=_default_workers(),
        help="trainings at a time, in processes of their own (one a core, or 1 on a GPU)",
    )
    add(
        "--threads",
        type=whole_number(1),
        default=THREADS,
        help=f"threads of each training ({THREADS}); another number gives slightly other numbers",
    )
    add("--ray", metavar="ADDRESS", help="train on a Ray cluster: local, auto, or ray://host:port")
    add("--out", type=given_path, help="folder for results and checkpoints; a run that was stopped goes on from it")
    add(
        "--record",
        nargs="+",
        type=whole_number(1),
        default=[],
        metavar="EPOCH",
        help="keep the decoded grades of the test videos after these epochs, for the figures of an early stage",
    )
    add("--bf16", action="store_true", help="bfloat16 autocast")
    add("--compile", action="store_true", help="run the models through torch.compile; on a CPU that is slower")
    add("--keep-weights", action="store_true", help="keep every checkpoint.pt, the optimizer's state included")
    add("--no-weights", action="store_true", help="do not keep the trained models (model.safetensors)")
    return parser


def _default_workers() -> int:
    return 1 if torch.cuda.is_available() else max(os.cpu_count() or 1, 1)


def default_out(name: str, real: bool) -> Path:
    """The folder of a table's results unless another is given."""
    return Path("runs") / (name if real else f"{name}-simulated")


def model_size(options: argparse.Namespace) -> str:
    """ "paper" or "small": the requested size, or the one that suits the data."""
    return options.size or ("paper" if options.data else "small")


def chosen_out(table: Table, options: argparse.Namespace) -> Path:
    """The requested folder, or the table's own."""
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
