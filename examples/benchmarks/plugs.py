"""A training step of each baseline at paper size, with and without what an adapter puts into it."""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.measuring import PAPER, Comparison, Plan, Ways, timed
from mag2 import TextFeatures
from mag2.adapters import cofinal, gdlt, pamfn, qtd
from mag2.baselines import GDLT, PAMFN, QTD, CoFInAl

TEXTS = TextFeatures.for_sport("figure_skating")
WIDTHS = (768, 768, 1024)  # of visual, audio and flow features


def run(plan: Plan) -> Iterator[Comparison]:
    """CoFInAl, GDLT, QTD and PAMFN; their widths are fixed, small plans shorten the batch and the videos."""
    for name in ("CoFInAl", "GDLT", "QTD", "PAMFN"):
        yield timed(f"training step of {name}", ways(plan, name), plan)


def ways(plan: Plan, name: str) -> Ways:
    """Plain, +Texts, +MAG2."""
    make, adapter, batch = {
        "GDLT": (lambda: GDLT(in_dim=768), gdlt, 32),
        "CoFInAl": (lambda: CoFInAl(in_dim=768), cofinal, 32),
        "QTD": (lambda: QTD(in_dim=768), qtd, 8),
        "PAMFN": (lambda: PAMFN(visual_dim=768), pamfn, 32),
    }[name]
    batch = batch if plan.sizes is PAPER else 2
    label = torch.rand(batch, device=plan.device)
    visual, audio, flow = (torch.randn(batch, plan.sizes.clips, width, device=plan.device) for width in WIDTHS)

    def step(model: nn.Module) -> Callable[[], object]:
        if isinstance(model, PAMFN):
            model.start_fusion()
        model.train().to(plan.device)
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
