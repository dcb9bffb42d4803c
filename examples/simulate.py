"""Write the simulated FS1000 of the tables to disk, in the released layout, to see what the loaders want.

    python examples/simulate.py runs/simulated-fs1000
    python examples/table4.py --data runs/simulated-fs1000 --clips 16 --size small

The second command gives the numbers of `python examples/table4.py`: the same data, read from files.
"""

import argparse
import sys
from pathlib import Path

from mag2.training.sources import SimulatedFS1000


def main() -> int:
    """Simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder that is not there yet, or an earlier simulation")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation; the tables use 0")
    options = parser.parse_args()
    if options.seed < 0:
        parser.exit(2, f"{parser.prog}: error: --seed wants 0 or more, got {options.seed}\n")
    try:
        SimulatedFS1000(seed=options.seed).simulation().write_fs1000(options.folder)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    print(f"Simulated FS1000 in {options.folder}; SIMULATED.txt there says what it is.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
