"""MLAVL's training step with dropout 0.3 and Adam: in full and half precision, compiled, and the released way."""

import shutil
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.measuring import Comparison, Plan, Ways, timed
from benchmarks.released import ReleasedMLAVL
from mag2 import MLAVL, TextFeatures

DROPOUT = 0.3
TEXTS = TextFeatures.for_sport("figure_skating")


def run(plan: Plan) -> Iterator[Comparison]:
    """One comparison; without a compiler the compiled ways are left out, and it says so."""
    ways, notes = steps(plan)
    sizes = plan.sizes
    yield timed(f"training step of MLAVL, B={sizes.batch} T={sizes.clips} d={sizes.dim}", ways, plan, notes)


def steps(plan: Plan) -> tuple[Ways, tuple[str, ...]]:
    """A training step each way, and what had to be left out."""
    sizes, device = plan.sizes, plan.device
    visual, audio = (torch.randn(sizes.batch, sizes.clips, sizes.feature, device=device) for _ in range(2))
    label = torch.rand(sizes.batch, device=device)

    def step(precision: torch.dtype | None, compiled: bool) -> Callable[[], object]:
        model = build(plan)
        forward = torch.compile(model) if compiled else model
        optimizer = torch.optim.Adam(model.parameters(), fused=True)

        def once() -> None:
            with torch.autocast(torch.device(device).type, precision or torch.bfloat16, enabled=precision is not None):
                output = forward(visual, audio)
            loss = model.loss({key: value.float() for key, value in output.items()}, label)["total"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return once

    def released() -> Callable[[], object]:
        model = ReleasedMLAVL(TEXTS, sizes.feature, sizes.dim, sizes.heads, DROPOUT).train().to(device)
        optimizer = torch.optim.Adam(model.parameters())

        def once() -> None:
            loss = model.loss(model(visual, audio), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return once

    ways: Ways = {
        "ours": step(None, False),
        "ours, bfloat16": step(torch.bfloat16, False),
        "the released way": released(),
    }
    if not plan.compile:
        return ways, ("compiled: left out here",)
    if torch.device(device).type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        return ways, ("compiled: there is no C++ compiler here",)
    ways |= {"ours, compiled": step(None, True), "ours, bfloat16, compiled": step(torch.bfloat16, True)}
    return ways, ()


def build(plan: Plan) -> nn.Module:
    """The model of the paper at the plan's sizes, in training."""
    sizes = plan.sizes
    wide = {"visual_dim": sizes.feature, "audio_dim": sizes.feature, "dim": sizes.dim, "n_heads": sizes.heads}
    return MLAVL(TEXTS, **wide, dropout=DROPOUT).train().to(plan.device)
