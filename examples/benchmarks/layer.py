"""MAG2 itself: forward and backward at dropout 0, against PyG and against the matrix products that it needs."""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.measuring import Comparison, Plan, Ways, timed
from benchmarks.released import appended_edges, graph_a_video
from mag2 import ActionGraphGuidance
from mag2.guidance import action_graph

TEXTS = 42  # of a figure skating programme


def run(plan: Plan) -> Iterator[Comparison]:
    """The complete graph; then what weights on the edges from texts to clips cost."""
    sizes = plan.sizes
    where = f"B={sizes.batch} T={sizes.clips} M={TEXTS} d={sizes.dim}"
    yield timed(f"MAG2, forward and backward, {where}", complete(plan), plan)
    yield timed(f"MAG2 with weighted edges, forward and backward, {where}", weighted(plan), plan)


def complete(plan: Plan) -> Ways:
    """Ours, the bare products of the two layers, PyG as the released code calls it, PyG batched."""
    guide, clips, texts = drawn(plan)
    edges = action_graph(plan.sizes.clips, TEXTS, device=plan.device)

    def released() -> Tensor:
        built = appended_edges(plan.sizes.clips, TEXTS, plan.device)
        return graph_a_video(guide, clips, texts, built, 0.0)

    def products() -> Tensor:
        return clips @ guide.conv1.lin_r.weight.T @ guide.conv2.lin_r.weight.T

    return {
        "ours": lambda: backward(guide(clips, texts)),
        "bare matrix products": lambda: backward(products()),
        "PyG, one graph a video (released)": lambda: backward(released()),
        "PyG, batched": lambda: backward(guide(clips, texts, edge_index=edges)),
    }


def weighted(plan: Plan) -> Ways:
    """The complete graph, weights of one sum at every clip, any weights, and weights that learn."""
    guide, clips, texts = drawn(plan)
    free = torch.rand(plan.sizes.batch, plan.sizes.clips, TEXTS, device=plan.device)
    even = TEXTS * free.softmax(dim=-1)
    learned = free.clone().requires_grad_()
    return {
        "complete graph": lambda: backward(guide(clips, texts)),
        "weights that sum to the same": lambda: backward(guide(clips, texts, edge_weight=even)),
        "any weights": lambda: backward(guide(clips, texts, edge_weight=free)),
        "any weights, learned": lambda: backward(guide(clips, texts, edge_weight=learned)),
    }


def drawn(plan: Plan, clips: int | None = None, batch: int | None = None) -> tuple[ActionGraphGuidance, Tensor, Tensor]:
    """A guide without dropout, clips (B, T, d) and texts (M, d) with gradients."""
    sizes = plan.sizes
    guide = ActionGraphGuidance(sizes.dim, dropout=0.0).to(plan.device)
    shape = (batch or sizes.batch, clips or sizes.clips, sizes.dim)
    x = torch.randn(shape, device=plan.device, requires_grad=True)
    return guide, x, torch.randn(TEXTS, sizes.dim, device=plan.device, requires_grad=True)


def backward(output: Tensor) -> None:
    """A loss with a gradient everywhere."""
    output.square().sum().backward()
