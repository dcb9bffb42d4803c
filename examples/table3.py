"""Table 3: how MLAVL fuses visual and audio features.

python examples/table3.py                                       # simulated data
python examples/table3.py --data FS1000=/path/FS1000 RG=/path/RG  # released files: measured and published results
"""

import sys

import interrupts
from rows import PAPER_TARGETS, mlavl_row

from mag2.training.command import main
from mag2.training.tables import Heading, Table, published

DESIGNS = {
    "a": ("Decoder", "decoder"),
    "b": ("Dual-Decoder", "dual_decoder"),
    "c": ("Shared-CA", "shared_cross_attention"),
    "d": ("AVCF", "avcf"),
}
TABLE3 = Table(
    name="table3",
    title="Table 3",
    targets=PAPER_TARGETS,
    rows=tuple(
        mlavl_row(Heading(key, name, "", published(3, row=key)), fusion=design)
        for key, (name, design) in DESIGNS.items()
    ),
)

if __name__ == "__main__":
    sys.exit(interrupts.run(main, TABLE3))
