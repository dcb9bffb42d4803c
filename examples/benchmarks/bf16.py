"""Half precision: where bfloat16 training ends, beside float32, on simulated performances over three seeds."""

from collections.abc import Iterator
from statistics import fmean

import torch

from benchmarks.measuring import Comparison, Plan, Row
from mag2 import MLAVL, TextFeatures
from mag2.data import simulate
from mag2.training import Recipe, Run, fit

SEEDS = (0, 1, 2)
WIDTH, DIM = 128, 64


def run(plan: Plan) -> Iterator[Comparison]:
    """Spearman on the test set after the last epoch, for each seed and on average."""
    train, test, clips, epochs = plan.sizes.training
    texts = TextFeatures.for_sport("figure_skating")
    widths = {"visual": WIDTH, "audio": WIDTH}
    length = (max(1, clips - 4), clips + 4)
    dataset = simulate(texts, train=train, test=test, length=length, widths=widths).dataset("TES", clips=clips)
    ends: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for seed in SEEDS:
        for precision, ended in ends.items():
            torch.manual_seed(seed)
            model = MLAVL(texts, visual_dim=WIDTH, audio_dim=WIDTH, dim=DIM, n_heads=4, dropout=0.1)
            how = Run(epochs=epochs, seed=seed, device=plan.device, precision=precision)
            ended.append(fit(model, dataset, Recipe(batch=min(32, train)), how).last.spearman)
    rows = [
        Row(f"{precision}, seed {seed}", value, "Spearman", None)
        for precision, ended in ends.items()
        for seed, value in zip(SEEDS, ended, strict=True)
    ]
    rows += [Row(f"{precision}, mean", fmean(ended), "Spearman", None) for precision, ended in ends.items()]
    apart = fmean(ends["bfloat16"]) - fmean(ends["float32"])
    title = f"where training ends, SIMULATED, {train}/{test} videos, T={clips}, d={DIM}, {epochs} epochs"
    yield Comparison(title, rows, (f"bfloat16 less float32: {apart:+.4f}",))
