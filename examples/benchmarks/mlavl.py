"""MLAVL's training step with dropout 0.3 and Adam: in full and half precision, compiled, and the released way."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

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

    def step(model: nn.Module, half: bool = False, compiled: bool = False) -> Callable[[], object]:
        loss_of: Any = model.loss
        forward = torch.compile(model) if compiled else model
        optimizer = torch.optim.Adam(model.parameters(), fused=True)

        def once() -> None:
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
                output = forward(visual, audio)
            loss = loss_of({key: value.float() for key, value in output.items()}, label)
            optimizer.zero_grad()
            (loss["total"] if isinstance(loss, dict) else loss).backward()
            optimizer.step()

        return once

    def released() -> nn.Module:
        return ReleasedMLAVL(TEXTS, sizes.feature, sizes.dim, sizes.heads, DROPOUT).train().to(device)

    ways: Ways = {
        "ours": step(build(plan)),
        "ours, bfloat16": step(build(plan), half=True),
        "the released way": step(released()),
        "the released way, bfloat16": step(released(), half=True),
    }
    if not plan.compile:
        return ways, ("compiled: left out here",)
    if torch.device(device).type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        return ways, ("compiled: there is no C++ compiler here",)
    ways |= {
        "ours, compiled": step(build(plan), compiled=True),
        "ours, bfloat16, compiled": step(build(plan), half=True, compiled=True),
    }
    return ways, ()


def build(plan: Plan) -> nn.Module:
    """The model of the paper at the plan's sizes, in training."""
    sizes = plan.sizes
    wide = {"visual_dim": sizes.feature, "audio_dim": sizes.feature, "dim": sizes.dim, "n_heads": sizes.heads}
    return MLAVL(TEXTS, **wide, dropout=DROPOUT).train().to(plan.device)
