"""Table 4: CoFInAl, QTD and PAMFN with grade texts and MAG2, and MLAVL with and without its prompts.

    python examples/table4.py                       # real programmes and scores, simulated features
    python examples/table4.py --data /path/FS1000   # FS1000's released files: measured and published results

Rows 1 to 12 are the paper's. Four rows are ours: 3b, 6b and 9b have texts and MAG2 together; in 10r the guides of MLAVL
are added to the clips instead of replacing them. `--start` chooses how MAG2 changes the features in rows 3, 6, 9, 3b,
6b and 9b.
"""

import sys

import interrupts
from rows import ALL, baseline_rows, build_cofinal, build_pamfn, build_qtd, mlavl_row, residual_row

from mag2.published import table
from mag2.training.command import main
from mag2.training.recipes import cofinal, pamfn, qtd
from mag2.training.tables import Heading, Table, published

PRINTED = {row["row"]: published(4, row=row["row"]) for row in table(4)}
TABLE4 = Table(
    name="table4",
    title="Table 4",
    targets={"FS1000": ("TES", "PCS")},
    simulated={"ISU-simulated": ("TES",)},
    seeds=(0, 1, 2),
    rows=(
        *baseline_rows(("1", "2", "3", "3b"), "CoFInAl", build_cofinal, cofinal, PRINTED),
        *baseline_rows(("4", "5", "6", "6b"), "QTD", build_qtd, qtd, PRINTED),
        *baseline_rows(("7", "8", "9", "9b"), "PAMFN", build_pamfn, pamfn, PRINTED, needs=ALL, stages=4),
        mlavl_row(Heading("10", "MLAVL", "", PRINTED["10"])),
        residual_row("10r", "MLAVL"),
        mlavl_row(Heading("11", "MLAVL", "Texts->LV", PRINTED["11"]), queries="learnable"),
        mlavl_row(Heading("12", "MLAVL", "Texts->LV+PE", PRINTED["12"]), queries="learnable", use_pe=True),
    ),
)

if __name__ == "__main__":
    sys.exit(interrupts.run(main, TABLE4))
