"""What MAG2 costs, as ratios measured in one process: the ways of one comparison in turn, the median of several rounds.

    python examples/benchmark.py                    # all sections, on the CPU
    python examples/benchmark.py --sections layer   # MAG2 itself against PyG, per sample and batched, and bare products
    python examples/benchmark.py --sections plugs   # a training step of each baseline: plain, +Texts, +MAG2

Sizes are the paper's (B=64, T=95, M=42, d=256), features random. Seconds depend on the machine; quote the ratios.
"""

import argparse
import csv
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mag2 import ActionGraphGuidance, TextFeatures
from mag2.adapters import cofinal, gdlt, pamfn, qtd
from mag2.baselines import GDLT, PAMFN, QTD, CoFInAl
from mag2.checkpoints import replacing
from mag2.guidance import action_graph

BATCH, CLIPS, DIM = 64, 95, 256
TEXTS = TextFeatures.for_sport("figure_skating")

Ways = dict[str, Callable[[], object]]


def layer(device: str, clips: int = CLIPS) -> Ways:
    """MAG2 forward and backward (dropout 0): ours, PyG as the released code calls it, PyG batched, bare products."""
    guide = ActionGraphGuidance(DIM, dropout=0.0).to(device)
    x = torch.randn(BATCH, clips, DIM, device=device, requires_grad=True)
    texts = torch.randn(len(TEXTS.visual), DIM, device=device, requires_grad=True)
    edges = action_graph(clips, len(texts), device=device)

    def backward(output: Tensor) -> None:
        output.square().sum().backward()

    def per_sample() -> Tensor:
        """One graph a video, its edges built anew for every batch, as released."""
        built = action_graph(clips, len(texts), device=device)
        rows = (torch.cat([video, texts]) for video in x)
        return torch.stack([guide.conv2(guide.conv1(nodes, built).relu(), built)[:clips] for nodes in rows])

    def products() -> Tensor:
        """What no version can do without: the two matrix products of the clips."""
        return x @ guide.conv1.lin_r.weight.T @ guide.conv2.lin_r.weight.T

    return {
        "ours": lambda: backward(guide(x, texts)),
        "bare matrix products": lambda: backward(products()),
        "PyG, one graph a video (released)": lambda: backward(per_sample()),
        "PyG, batched": lambda: backward(guide(x, texts, edge_index=edges)),
    }


def plugs(device: str, name: str) -> Ways:
    """A training step of a baseline at paper size, with and without what an adapter puts into it."""
    make, adapter, batch = {
        "GDLT": (lambda: GDLT(in_dim=768), gdlt, 32),
        "CoFInAl": (lambda: CoFInAl(in_dim=768), cofinal, 32),
        "QTD": (lambda: QTD(in_dim=768), qtd, 8),
        "PAMFN": (lambda: PAMFN(visual_dim=768), pamfn, 32),
    }[name]
    label = torch.rand(batch, device=device)
    visual, audio, flow = (torch.randn(batch, CLIPS, width, device=device) for width in (768, 768, 1024))

    def step(model: nn.Module) -> Callable[[], object]:
        if isinstance(model, PAMFN):
            model.start_fusion()
        model.train().to(device)
        optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), fused=True)

        def once() -> None:
            loss = model.loss(model(visual, audio, flow), label)["total"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return once

    return {
        "plain": step(make()),
        "+Texts": step(adapter.with_texts(make(), TEXTS)),
        "+MAG2": step(adapter.with_mag2(make(), TEXTS)),
    }


def comparisons(sections: list[str], device: str) -> dict[str, Callable[[], Ways]]:
    """The comparisons of the chosen sections, by title; models are built when their turn comes."""
    known: dict[str, dict[str, Callable[[], Ways]]] = {
        "layer": {f"MAG2, forward and backward, B={BATCH} T={CLIPS} M=42 d={DIM}": lambda: layer(device)},
        "plugs": {
            f"training step of {name}": (lambda name=name: plugs(device, name))
            for name in ("CoFInAl", "GDLT", "QTD", "PAMFN")
        },
    }
    return {title: make for section in sections for title, make in known[section].items()}


def measure(ways: Ways, rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each way, all in turn in every round, after one that does not count."""

    def seconds(way: Callable[[], object]) -> float:
        wait(device)
        started = time.perf_counter()
        way()
        wait(device)
        return time.perf_counter() - started

    timed = [{name: seconds(way) for name, way in ways.items()} for _ in range(rounds + 1)]
    return {name: statistics.median(each[name] for each in timed[1:]) for name in ways}


def wait(device: str) -> None:
    """A GPU works behind our back."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=("layer", "plugs"), default=["layer", "plugs"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=11, help="counted rounds of each comparison")
    parser.add_argument("--out", type=Path, default=Path("runs") / "benchmark.csv")
    options = parser.parse_args()
    threads = f"{torch.get_num_threads()} threads" if options.device == "cpu" else options.device
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, {threads}")
    rows = []
    for title, make in comparisons(options.sections, options.device).items():
        medians = measure(make(), options.rounds, options.device)
        first = next(iter(medians.values()))
        print(f"\n{title}")
        for name, median in medians.items():
            print(f"  {name:36s} {1000 * median:9.1f} ms   {median / first:7.2f} x")
            rows.append(
                {"comparison": title, "way": name, "seconds": f"{median:.6f}", "ratio": f"{median / first:.3f}"}
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(f"\nWritten: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
