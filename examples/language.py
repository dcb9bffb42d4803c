"""What language does in the graph, measured on simulated performances: controls, and edges weighted from outside.

    python examples/language.py

Every training is a small visual model (projection, context, MAG2, grade decoder) on TES of the aligned simulator, where
a map from clips to the space of the texts exists, as CLIP has one. The complete graph is compared with its controls
(texts zeroed, random, permuted, centred; no edges), then with edges weighted by that similarity. Noise is added to the
map until it names so many of the planted actions. There random texts, zero texts and free values get the same weights
too. Differences are to the complete graph of the same seed. The data are simulated: they show what the mechanism can
use, and nothing about the paper.
"""

import argparse
import csv
import os
import sys
from functools import cache, partial
from pathlib import Path
from statistics import fmean, stdev

import interrupts
import torch
from torch import Tensor, nn

from mag2 import ActionGraphGuidance, TextFeatures
from mag2.alignment import clip_text_similarity, edge_weights
from mag2.context import SharedSpecificContextEncoder
from mag2.data import Dataset, Simulation, simulate
from mag2.fusion import make_decoder
from mag2.grading import GradeHead
from mag2.nn.triplet import grade_triplet
from mag2.projection import TokenProjection
from mag2.saving.arguments import given_path
from mag2.saving.atomic_io import replacing
from mag2.texts import CONTROLS, TEXT_CONTROLS
from mag2.training import Recipe, Run, fit
from mag2.training.cells import Cell
from mag2.training.grid import run_grid
from mag2.training.target import Target

SPORT, CLIPS, WIDTH, DIM = "figure_skating", 24, 384, 64
LEVELS = (25, 50, 80)  # percent of planted actions that the map still names with noise added
VALUES = ("texts", "random_texts", "zero_texts", "free")  # the text nodes' values where edges are weighted
RECIPE = Recipe("adam", lr=1e-3, batch=16)
EPOCHS = 12


class Scorer(nn.Module):
    """Clips (B, T, 384) to scores, guided by the action texts, with weighted edges where there is a map for them."""

    def __init__(self, texts: Tensor, control: str | None = None, values: str = "texts", similarity=None):
        super().__init__()
        self.similarity = similarity
        self.project = TokenProjection(WIDTH, DIM)
        self.context = SharedSpecificContextEncoder(DIM, n_heads=4, dropout=0.1)
        self.free = nn.Parameter(torch.randn(len(texts), DIM)) if values == "free" else None
        if values in TEXT_CONTROLS:
            control = values
        self.guide = ActionGraphGuidance(DIM, None if values == "free" else texts, dropout=0.1, control=control)
        self.queries = nn.Parameter(torch.randn(6, DIM))
        self.decoder = make_decoder(DIM, 4, 2, 0.1)
        self.head = GradeHead(6, DIM)

    def forward(self, visual: Tensor, audio: Tensor | None = None, flow: Tensor | None = None) -> dict[str, Tensor]:
        """Score."""
        weights = None if self.similarity is None else edge_weights(self.similarity(visual), temperature=0.02)
        clips = self.guide(self.context(self.project(visual)), self.free, edge_weight=weights)
        grades = self.decoder(self.queries.expand(len(clips), -1, -1), clips)
        return {"score": self.head(grades)[0], "grades": grades}

    def loss(self, output: dict[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """GDLT's: squared error and grade triplets."""
        mse = nn.functional.mse_loss(output["score"], label)
        return {"total": 10 * mse + grade_triplet(output["grades"])}


class SpoiltSimilarity:
    """Cosine of clips and texts through a map that names a given share of the planted actions, `measured`."""

    def __init__(self, simulation: Simulation, percent: int):
        self.texts = simulation.texts
        self.map, self.measured = simulation.spoilt_map(percent / 100, CLIPS)

    def __call__(self, visual: Tensor) -> Tensor:
        """Clips (B, T, 384) -> similarity (B, T, M)."""
        return clip_text_similarity(visual @ self.map, self.texts, centre=False)


@cache
def simulation(seed: int) -> Simulation:
    """The aligned simulation of a seed."""
    texts = TextFeatures.for_sport(SPORT)
    sizes = {"train": 400, "test": 160, "length": (CLIPS - 2, CLIPS + 4), "widths": {"visual": WIDTH, "audio": 8}}
    return simulate(texts, sport=SPORT, seed=seed, aligned=True, **sizes)


def data(seed: int) -> Dataset:
    """TES of the simulation."""
    return simulation(seed).dataset("TES", clips=CLIPS)


def variants() -> dict[str, dict]:
    """What is trained, by name: first the complete graph, to which all others are compared."""
    rows: dict[str, dict] = {"complete graph": {}}
    for control in CONTROLS:
        rows[f"complete graph, {control.replace('_', ' ')}"] = {"control": control}
    for level in LEVELS:
        for values in VALUES:
            named = {"texts": "texts", "free": "free values"}.get(values, values.replace("_", " "))
            rows[f"weighted edges at {level} %, {named}"] = {"values": values, "level": level}
    return rows


def work(cell: Cell, folder: Path, tick, *, epochs: int) -> dict:
    """Train one cell."""
    settings = dict(variants()[cell.row])
    level = settings.pop("level", None)
    similarity = None if level is None else SpoiltSimilarity(simulation(cell.seed), level)
    torch.manual_seed(cell.seed)
    model = Scorer(TextFeatures.for_sport(SPORT).visual, similarity=similarity, **settings)
    history = fit(model, data(cell.seed), RECIPE, Run(epochs=epochs, seed=cell.seed), on_epoch=lambda _: tick())
    return {"spearman": history.last.spearman, "accuracy": None if similarity is None else similarity.measured}


def main() -> int:
    """Train all variants and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=given_path, default=Path("runs") / "language-simulated")
    options = parser.parse_args()
    for name, value in {
        "--seeds": min(options.seeds) + 1,
        "--epochs": options.epochs,
        "--workers": options.workers,
    }.items():
        if value < 1:
            raise ValueError(f"{name} wants whole numbers of at least {0 if name == '--seeds' else 1}")
    cells = [Cell(name, Target("", "TES"), seed) for seed in options.seeds for name in variants()]
    results: dict[str, dict[int, dict]] = {name: {} for name in variants()}
    for number, outcome in enumerate(
        run_grid(cells, partial(work, epochs=options.epochs), options.out, workers=options.workers), 1
    ):
        if outcome.result is None:
            print(f"{outcome.cell}: {outcome.error}", file=sys.stderr)
            return 1
        results[outcome.cell.row][outcome.cell.seed] = outcome.result
        print(f"[{number}/{len(cells)}] {outcome.cell.row}, seed {outcome.cell.seed}", file=sys.stderr)
    print(table(results, options.seeds))
    path = options.out / "language.csv"
    with replacing(path) as written, written.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "seed", "spearman", "top1_accuracy", "data"])
        for name, by_seed in results.items():
            for seed, result in by_seed.items():
                writer.writerow([name, seed, result["spearman"], result["accuracy"], "simulated"])
    print(f"\nWritten: {path}")
    return 0


def table(results: dict[str, dict[int, dict]], seeds: list[int]) -> str:
    """Mean and spread over seeds, and of the paired difference to the complete graph."""

    def mean_and_spread(values: list[float], sign: str = "") -> str:
        spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
        return f"{fmean(values):{sign}.3f}{spread}"

    reference = [results["complete graph"][seed]["spearman"] for seed in seeds]
    lines = [
        f"SIMULATED figure skating, TES, Spearman of the last epoch, {len(seeds)} seeds (mean ± standard deviation)",
        "",
        "| variant | top-1 of the map | Spearman | paired difference to the complete graph |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, by_seed in results.items():
        rhos = [by_seed[seed]["spearman"] for seed in seeds]
        accuracies = [by_seed[seed]["accuracy"] for seed in seeds if by_seed[seed]["accuracy"] is not None]
        top1 = f"{fmean(accuracies):.2f}" if accuracies else ""
        gap = (
            ""
            if name == "complete graph"
            else mean_and_spread([a - b for a, b in zip(rhos, reference, strict=True)], "+")
        )
        lines.append(f"| {name} | {top1} | {mean_and_spread(rhos)} | {gap} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
