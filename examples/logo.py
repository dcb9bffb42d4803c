"""LOGO, artistic swimming, from video alone: GDLT, CoFInAl and QTD, plain, with grade texts, and with MAG2.

    python examples/logo.py                     # simulated data, says so
    python examples/logo.py --data /path/LOGO   # LOGO's released files

The supplement prints no table of these; the rows are its recipe ("+Texts", "+MAG2") with the 63 terms of artistic
swimming. Spearman's rho and R-l2, as LOGO is reported in the field.
"""

import sys

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
    sys.exit(main(LOGO))
