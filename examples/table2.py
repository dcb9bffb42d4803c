"""Table 2: MLAVL with 3 to 8 grades.

python examples/table2.py                                       # simulated data
python examples/table2.py --data FS1000=/path/FS1000 RG=/path/RG  # released files: measured and published results
"""

import sys

import interrupts
from rows import PAPER_TARGETS, build_worded_mlavl, mlavl_row

from mag2.training.command import main
from mag2.training.tables import Heading, Table, published

TABLE2 = Table(
    name="table2",
    title="Table 2",
    targets=PAPER_TARGETS,
    rows=tuple(
        mlavl_row(Heading(str(n), f"{n} grades", "", published(2, grades=str(n))), build_worded_mlavl, n_grades=n)
        for n in (3, 4, 5, 6, 7, 8)
    ),
)

if __name__ == "__main__":
    sys.exit(interrupts.run(main, TABLE2))
