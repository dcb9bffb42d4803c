"""Prediction: how many videos a second, in batches and one at a time, with texts and with texts folded away."""

import copy
from collections.abc import Iterator

import torch

from benchmarks.measuring import Comparison, Plan, Row, measure
from benchmarks.mlavl import TEXTS, build
from mag2.adapters import gdlt
from mag2.baselines import GDLT
from mag2.data import ClipFeatures, Performances
from mag2.plugin import fold
from mag2.training import predict


def run(plan: Plan) -> Iterator[Comparison]:
    """MLAVL, and GDLT+MAG2 whose guide owns its texts and folds."""
    sizes = plan.sizes
    videos = Performances(
        [str(number) for number in range(sizes.batch)],
        torch.rand(sizes.batch),
        scale=1.0,
        features={key: _features(sizes.batch, sizes.clips, sizes.feature) for key in ("visual", "audio")},
        clips=sizes.clips,
    )
    model = build(plan)
    guided = gdlt.with_mag2(GDLT(in_dim=sizes.feature), TEXTS).to(plan.device)
    folded = fold(copy.deepcopy(guided))
    many = sizes.batch
    for title, ways in (
        (f"prediction by MLAVL, T={sizes.clips}", {f"{many} at a time": (model, many), "one at a time": (model, 1)}),
        (
            f"prediction by GDLT +MAG2, T={sizes.clips}",
            {
                f"{many} at a time": (guided, many),
                f"{many} at a time, texts folded": (folded, many),
                "one at a time": (guided, 1),
                "one at a time, texts folded": (folded, 1),
            },
        ),
    ):
        calls = {
            name: (lambda model=model, batch=batch: predict(model, videos, device=plan.device, batch=batch))
            for name, (model, batch) in ways.items()
        }
        medians = measure(calls, plan.rounds, plan.device)
        first = next(iter(medians.values()))
        rows = [Row(way, len(videos) / took, "videos/s", first / took) for way, took in medians.items()]
        yield Comparison(title, rows, ("a ratio below 1 is slower here",))


def _features(videos: int, clips: int, width: int) -> ClipFeatures:
    return ClipFeatures.stack([torch.randn(clips, width).numpy() for _ in range(videos)])
