"""Estimate the time of Table 4 at the papers' sizes and epochs: for each row, for the table, and for several workers.

Each row trains two epochs on a simulated FS1000 with its real widths and lengths, with one thread. The time of the
second epoch is measured: processor time, or wall-clock time with --device cuda. It is multiplied by the numbers of
videos, epochs, targets and seeds. The features stay in memory, as those of real data do once they are read.
"""

import argparse
import time
from collections.abc import Sequence

import table4
import torch

from mag2.data.fs1000 import FS1000
from mag2.saving.arguments import whole_number
from mag2.training import Run
from mag2.training.dataset_providers import SimulationProvider
from mag2.training.recipe import published_epochs
from mag2.training.stages import train
from mag2.training.tables import ModelInputs, Row
from mag2.training.target import Target
from mag2.training.threads import threads_of_torch

TARGETS = list(FS1000.scales)


def epoch_seconds(row: Row, provider: SimulationProvider, device: str) -> float:
    """Seconds of an epoch of all stages of a row on the provider's videos."""
    dataset = provider.dataset("TES")
    recipe = row.recipe_for(Target("FS1000", "TES")).with_epochs(2)
    inputs = ModelInputs("figure_skating", dataset.train.widths, False, row.control, settings=recipe.settings)
    model = row.build(inputs)
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    moments: list[float] = []
    run = Run(recipe.epochs, device=device, evaluation=recipe.evaluation)
    stages = {"branches": recipe.branches, "branch_epochs": recipe.branch_epochs}
    train(model, dataset, recipe.recipe, run, on_epoch=lambda _: moments.append(clock()), **stages)
    return sum(second - first for first, second in zip(moments[::2], moments[1::2], strict=True))


def makespan(cells: Sequence[float], workers: int) -> float:
    """When the last of so many workers ends: each takes the next cell as it becomes free, longest first."""
    free = [0.0] * workers
    for cell in sorted(cells, reverse=True):
        free[free.index(min(free))] += cell
    return max(free)


def main() -> None:
    """Measure, and print the costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", nargs="+", default=[row.heading.key for row in table4.TABLE4.rows], help="rows of Table 4 (all)"
    )
    parser.add_argument(
        "--videos",
        nargs=2,
        type=whole_number(2),
        default=(1247, 357),
        metavar=("TRAIN", "TEST"),
        help="videos of the dataset (1247 357)",
    )
    parser.add_argument(
        "--measured", type=whole_number(1), default=64, help="training videos in the measured epochs (64)"
    )
    parser.add_argument("--seeds", type=whole_number(1), default=5, help="number of seeds (5)")
    parser.add_argument("--device", default="cpu", help="where to measure (cpu)")
    parser.add_argument(
        "--workers",
        nargs="+",
        type=whole_number(1),
        default=[1, 2, 16, 32, 128, 525],
        help="numbers of workers to estimate for",
    )
    options = parser.parse_args()
    videos, tests = options.videos
    few = max(round(options.measured * tests / videos), 4)
    provider = SimulationProvider(FS1000(), 95, options.measured, few, (95, 95), 768)
    epochs = {target: published_epochs("FS1000", target) for target in TARGETS}
    cells = []
    print(f"torch {torch.__version__}, {options.device}, one thread; {options.measured} + {few} videos measured")
    print(f"{'row':5}{'method':24}{'s an epoch':>12}{'h a cell, mean':>16}{'h, longest':>12}")
    with threads_of_torch(1):
        for row in table4.TABLE4.rows:
            if row.heading.key not in options.rows:
                continue
            second = epoch_seconds(row, provider, options.device) * videos / options.measured
            own = [second * epochs[target] / 3600 for target in TARGETS]
            cells += own * options.seeds
            mean = sum(own) / len(own)
            print(f"{row.heading.key:5}{row.heading.name:24}{second:12.1f}{mean:16.2f}{max(own):12.2f}", flush=True)
    print(f"{len(cells)} cells, {sum(cells):.0f} h in all; the longest takes {max(cells):.1f} h")
    for workers in options.workers:
        print(f"{workers:4} workers: {makespan(cells, workers):9.1f} h")


if __name__ == "__main__":
    main()
