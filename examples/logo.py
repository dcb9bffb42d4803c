"""LOGO, artistic swimming, on visual features alone: GDLT, CoFInAl and QTD, plain, with grade texts, and with MAG2.

    python examples/logo.py                     # simulated data
    python examples/logo.py --data /path/LOGO   # LOGO's released files

The paper's supplement prints no table of these models. The rows "+Texts" and "+MAG2" are made as in Table 4, with the
63 action terms of artistic swimming. The measures are Spearman's rho and R-l2, as usual for LOGO.
"""

import sys

import interrupts
from rows import baseline_rows, build_cofinal, build_gdlt, build_qtd

from mag2.training.command import main
from mag2.training.recipes import cofinal, gdlt, qtd
from mag2.training.tables import Table

LOGO = Table(
    name="logo",
    title="LOGO, visual only",
    targets={"LOGO": ("score",)},
    metrics=("spearman", "rl2"),
    rows=(
        *baseline_rows(("1", "2", "3"), "GDLT", build_gdlt, gdlt, {}),
        *baseline_rows(("4", "5", "6"), "CoFInAl", build_cofinal, cofinal, {}),
        *baseline_rows(("7", "8", "9"), "QTD", build_qtd, qtd, {}),
    ),
)

if __name__ == "__main__":
    sys.exit(interrupts.run(main, LOGO))
