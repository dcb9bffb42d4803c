"""Measure what language does in the graph on simulated performances: controls, and edges weighted by a similarity.

    python examples/language.py                 # simulated performances
    python examples/language.py --programmes    # real programmes and scores, simulated features

The model is a narrow visual one (projection, context, MAG2, grade decoder), the target TES of the aligned simulator.
There a map from clips to the space of the texts exists, as CLIP has one. First the complete graph is compared with its
controls: zero, random, permuted and centred texts, and no edges. Then it is compared with edges that are weighted by
the similarity of clips and texts. Noise is added to the map until it names a given share of the simulated actions. The
same weights are also used with random texts, zero texts and free values (vectors that are learned). Differences are to
the complete graph of the same seed. The data are simulated: they show what the graph can use, and nothing about the
paper.

With `--programmes` the elements, their order, their execution and the scores are those of real performances, each
action has a direction of its own (`Apart`), and each seed simulates other features around the same performances.
Correlations are printed over all performances and within discipline and segment; differences are those of the second.
"""

import argparse
import sys
from functools import cache, partial
from pathlib import Path
from statistics import fmean

import interrupts
import torch
from measuring import add_grid_options, ended, markdown, mean_and_spread, paired, train_all, write_csv
from torch import Tensor, nn

from mag2 import ActionGraphGuidance, TextFeatures
from mag2.alignment import clip_text_similarity, edge_weights
from mag2.context import SharedSpecificContextEncoder
from mag2.data import Dataset, Simulation, simulate
from mag2.data.isu_simulated import SimulatedISU
from mag2.data.simulate import Texts
from mag2.fusion import make_decoder
from mag2.grading import GradeHead
from mag2.nn.triplet import grade_triplet
from mag2.programmes import rank_agreement, read_performances
from mag2.projection import TokenProjection
from mag2.saving.arguments import whole_number
from mag2.texts import CONTROLS, TEXT_CONTROLS
from mag2.training import Recipe, Run, fit
from mag2.training.cells import Cell
from mag2.training.prediction import predict
from mag2.training.target import Target

CLIPS, WIDTH, DIM = 24, 384, 64
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


def sport_of(programmes: bool) -> str:
    """Whose action texts the performances are made of."""
    return SimulatedISU.sport if programmes else "figure_skating"


@cache
def simulation(seed: int, programmes: bool) -> Simulation:
    """The aligned simulation of a seed."""
    texts: Texts = TextFeatures.for_sport(sport_of(programmes))
    if programmes:
        texts = Apart(texts)
    spec = SimulatedISU() if programmes else None
    sizes = {"train": 400, "test": 160, "length": (CLIPS - 2, CLIPS + 4), "widths": {"visual": WIDTH, "audio": 8}}
    return simulate(texts, spec=spec, seed=seed, aligned=True, **sizes)


class Apart:
    """Texts whose actions are easy to tell apart: the orthonormal rows that are nearest to the centred ones.

    The texts of real elements resemble each other (triple flip, triple Lutz). Clips that are drawn along them are named
    right in 66 % at best, whatever the map.
    """

    def __init__(self, texts: Texts):
        self.visual, self.audio = map(self._apart, (texts.visual, texts.audio))

    @staticmethod
    def _apart(rows: Tensor) -> Tensor:
        left, _, right = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
        return left @ right


def data(seed: int, programmes: bool) -> Dataset:
    """TES of the simulation."""
    return simulation(seed, programmes).dataset("TES", clips=CLIPS)


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


def work(cell: Cell, folder: Path, tick, *, epochs: int, programmes: bool) -> dict:
    """Train one cell."""
    settings = dict(variants()[cell.row])
    level = settings.pop("level", None)
    similarity = None if level is None else SpoiltSimilarity(simulation(cell.seed, programmes), level)
    dataset = data(cell.seed, programmes)
    torch.manual_seed(cell.seed)
    model = Scorer(TextFeatures.for_sport(sport_of(programmes)).visual, similarity=similarity, **settings)
    history = fit(model, dataset, RECIPE, Run(epochs=epochs, seed=cell.seed), on_epoch=lambda _: tick())
    result = {"spearman": history.last.spearman, "accuracy": None if similarity is None else similarity.measured}
    if programmes:
        by_id = {each.id: each for each in read_performances()}
        shown = [by_id[name] for name in dataset.test.names]
        result["within"] = rank_agreement(predict(model, dataset.test).numpy(), shown, "TES").within
    return result


def main() -> int:
    """Train all variants and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programmes", action="store_true", help="real programmes and scores, simulated features")
    parser.add_argument("--epochs", type=whole_number(1), default=EPOCHS, help=f"epochs of each training ({EPOCHS})")
    where = "default runs/language-simulated, or runs/language-programmes"
    add_grid_options(parser, range(5), None, where=where)
    options = parser.parse_args()
    return ended(partial(_run, options))


def _run(options: argparse.Namespace) -> None:
    kind = "programmes" if options.programmes else "simulated"
    out = options.out or Path("runs") / f"language-{kind}"
    cells = [Cell(name, Target("", "TES"), seed) for seed in options.seeds for name in variants()]
    job = partial(work, epochs=options.epochs, programmes=options.programmes)
    settings = {"epochs": options.epochs, "data": kind}
    results = train_all(cells, job, out, workers=options.workers, settings=settings)
    by_variant = {name: [results[Cell(name, Target("", "TES"), s)] for s in options.seeds] for name in variants()}
    page = table(by_variant, options)
    print(page)
    lines = [
        [name, seed, result["spearman"], result.get("within", ""), result["accuracy"], kind]
        for name, of_seeds in by_variant.items()
        for seed, result in zip(options.seeds, of_seeds, strict=True)
    ]
    write_csv(out / "language.csv", ["variant", "seed", "spearman", "within", "top1_accuracy", "data"], lines)
    print(f"\nWritten: {out / 'language.csv'}")


def table(results: dict[str, list[dict]], options: argparse.Namespace) -> str:
    """Mean and spread over seeds, and of the paired difference to the complete graph."""
    columns = {"spearman": "Spearman"}
    title = "SIMULATED figure skating"
    if options.programmes:
        columns = {"spearman": "over all", "within": "within"}
        title = "Real programmes and scores (ISU), SIMULATED features"
    compared = list(columns)[-1]
    reference = [result[compared] for result in results["complete graph"]]
    lines = []
    for name, of_seeds in results.items():
        accuracies = [result["accuracy"] for result in of_seeds if result["accuracy"] is not None]
        gap = paired([result[compared] for result in of_seeds], reference) if name != "complete graph" else ""
        shown = [mean_and_spread([result[column] for result in of_seeds]) for column in columns]
        lines.append([name, f"{fmean(accuracies):.2f}" if accuracies else "", *shown, gap])
    heading = ["variant", "top-1 of the map", *columns.values(), "paired difference to the complete graph"]
    about = f"{title}, TES, Spearman of the last of {options.epochs} epochs, {len(options.seeds)} seeds"
    return f"{about} (mean ± standard deviation)\n\n{markdown(heading, lines)}"


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
