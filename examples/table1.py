"""Table 1: ways to use the action texts: an MLP, two transformers, and the action graph.

    python examples/table1.py                                       # simulated data
    python examples/table1.py --data FS1000=/path/FS1000 RG=/path/RG  # released files: measured and published results

Rows 1 to 4 are the paper's. Row 4r is ours: the guided clips are added to the clips instead of replacing them.
Parameters and operations of each way are counted at paper size, for the two guides of one performance.
"""

import sys

import interrupts
import torch
from rows import PAPER_TARGETS, mlavl_row, residual_row
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mag2.guidance import make_guides
from mag2.training.command import main
from mag2.training.tables import Heading, Table, published

# The paper's name and ours. Its text gives 1.20 M parameters and 0.59 G operations for the dual transformer.
WAYS = {
    "MLP": "mlp",
    "Shared-Transformer": "shared_transformer",
    "Dual-Transformer": "dual_transformer",
    "Action Graph": "graph",
}
PAPER_COSTS = {"Dual-Transformer": "1.20 M, 0.59 G"}
CLIPS, TEXTS, DIM = 95, 42, 256


def costs() -> str:
    """Parameters and operations of each way, counted, beside what the paper says of one."""
    lines = [
        "## What each way costs",
        "",
        f"The guides of both modalities at paper size, counted on one performance of {CLIPS} clips and {TEXTS} texts "
        f"(d = {DIM}, dropout off) by `torch.utils.flop_counter`, an addition and a multiplication being two "
        "operations. These depend on no data.",
        "",
        "| Method | parameters | operations | the paper's text |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, way in WAYS.items():
        parameters, operations = cost(way)
        paper = PAPER_COSTS.get(name, "")
        lines.append(f"| {name} | {parameters / 1e6:.2f} M | {operations / 1e9:.3f} G | {paper} |")
    return "\n".join(lines)


def cost(way: str) -> tuple[int, int]:
    """Parameters, and operations of a forward pass."""
    guides = make_guides(way, DIM)
    modules = [guide.eval() for guide in guides if guide is not None]
    visual, audio = modules[0], modules[-1]
    # The counter counts the two products of attention only where no kernel fuses them.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for guide in (visual, audio):
            guide(torch.zeros(1, CLIPS, DIM), torch.zeros(TEXTS, DIM))
    return sum(p.numel() for module in modules for p in module.parameters()), counter.get_total_flops()


TABLE1 = Table(
    name="table1",
    title="Table 1",
    targets=PAPER_TARGETS,
    rows=(
        *(
            mlavl_row(Heading(str(number), name, "", published(1, method=name)), guidance=way)
            for number, (name, way) in enumerate(WAYS.items(), 1)
        ),
        residual_row("4r", "Action Graph"),
    ),
    facts=costs,
)

if __name__ == "__main__":
    sys.exit(interrupts.run(main, TABLE1))
