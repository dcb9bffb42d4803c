"""Measure the speed of the library as ratios: medians of rounds, the variants of a comparison in turn in one process.

    python examples/benchmark.py                          # all sections but bf16 and extraction, on the CPU
    python examples/benchmark.py --sections layer length  # some of them
    python examples/benchmark.py --device cuda
    python examples/benchmark.py --sections mlavl --profile   # also show which operators take the time
    python examples/benchmark.py --quick --rounds 1       # tiny sizes, to check that everything runs

    layer       MAG2, PyTorch Geometric (per video, batched) and bare matrix products; weighted edges
    length      MAG2 by number of clips: time and peak memory
    mlavl       a training step of MLAVL: float32, bfloat16, compiled, and the released way
    loading     reading an epoch of FS1000 (15 views per clip), Fis-V, RG: from the store, anew per sample
    epoch       an epoch of MLAVL's training on a folder of FS1000, and the released way to read and train
    plugs       a training step of each baseline: plain, +Texts, +MAG2
    predict     videos per second, in batches and one at a time, with texts and with texts folded
    extraction  preparing videos for encoders, compared with decoding alone; needs the extra `video`
    bf16        the results of training in bfloat16 and in float32 (takes minutes)

Sizes are the paper's (B=64, T=95, M=42, d=256); features are random. Times depend on the machine: quote the ratios.
"""

import argparse
import csv
import os
import platform
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

import interrupts
import numpy as np
import torch
from benchmarks import bf16, epoch, extraction, layer, length, loading, mlavl, plugs, predict
from benchmarks.measuring import PAPER, TINY, Comparison, Plan
from benchmarks.plot import plot

from mag2.nn.devices import checked_device
from mag2.saving.arguments import given_path, whole_number
from mag2.saving.atomic_io import replacing

SECTIONS = {
    "layer": layer.run,
    "length": length.run,
    "mlavl": mlavl.run,
    "loading": loading.run,
    "epoch": epoch.run,
    "plugs": plugs.run,
    "predict": predict.run,
    "extraction": extraction.run,
    "bf16": bf16.run,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = [name for name in SECTIONS if name not in ("bf16", "extraction")]
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, default=usual, metavar="SECTION", help="what to measure (above)"
    )
    parser.add_argument("--device", default="cpu", help="where to measure (cpu)")
    parser.add_argument("--rounds", type=whole_number(1), default=11, help="measured rounds of each comparison")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing is compiled; the ratios mean nothing")
    parser.add_argument(
        "--profile", action="store_true", help="show which operators take the time of a step; nothing is compiled"
    )
    parser.add_argument(
        "--out",
        type=given_path,
        default=Path("runs") / "benchmark.csv",
        help="the CSV file to write; the plot is written beside it",
    )
    options = parser.parse_args(arguments)
    options.device = str(checked_device(options.device))
    compiling = not (options.quick or options.profile)
    plan = Plan(TINY if options.quick else PAPER, options.rounds, options.device, compiling, options.profile)
    print(machine(options.device))
    if options.quick:
        print("tiny sizes: these ratios mean nothing")
    done = []
    for name in options.sections:
        for comparison in SECTIONS[name](plan):
            show(comparison)
            done.append((name, comparison))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write(done, options.out)
    print(f"\nWritten: {options.out}")
    print(plot([comparison for _, comparison in done], options.out.with_suffix(".png")))
    return 0


def machine(device: str) -> str:
    """What the numbers were measured on, and with."""
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else _processor()
    versions = f"torch {torch.__version__}, PyG {version('torch-geometric')}, numpy {np.__version__}"
    return f"{name}, {cores}; {versions}, Python {platform.python_version()}"


def show(comparison: Comparison) -> None:
    """Print a comparison."""
    print(f"\n{comparison.title}")
    for row in comparison.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:9.2f} x"
        print(f"  {row.way:36s} {_plain(row.value):>10s} {row.unit:12s}{ratio}")
    for note in comparison.notes:
        print(f"  ({note})", flush=True)
    for way, text in comparison.profiles.items():
        print(f"\n  where the time goes: {way}\n" + textwrap.indent(text, "    "), flush=True)


def write(done: list[tuple[str, Comparison]], path: Path) -> None:
    """A row for each way of each comparison."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["section", "comparison", "way", "value", "unit", "ratio", "notes"])
        for section, comparison in done:
            for row in comparison.rows:
                ratio = "" if row.ratio is None else f"{row.ratio:.4g}"
                numbers = [f"{row.value:.6g}", row.unit, ratio]
                writer.writerow([section, comparison.title, row.way, *numbers, "; ".join(comparison.notes)])


def _plain(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.4f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
