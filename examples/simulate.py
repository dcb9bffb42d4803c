"""Write a simulated dataset in the layout of the released files, to look at the files that the loaders read.

    python examples/simulate.py runs/simulated-fs1000
    python examples/table4.py --data runs/simulated-fs1000 --clips 16 --size small

The second command gives the same numbers as `python examples/table4.py --datasets FS1000`, from the same data in files.
"""

import argparse
import sys

import interrupts

from mag2.data import DATASETS
from mag2.saving.arguments import given_path, real_number, whole_number
from mag2.saving.sentences import one_line
from mag2.training.dataset_providers import simulation_provider


def main() -> int:
    """Simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=given_path, help="a new folder, or one of an earlier simulation")
    parser.add_argument("--dataset", choices=DATASETS, default="FS1000", help="dataset to simulate (FS1000)")
    parser.add_argument(
        "--variant",
        choices=("files", "dict", "K15"),
        help="one file per video; one per modality (RG, Fis-V); one per video with 15 views of every clip (FS1000)",
    )
    parser.add_argument("--labels", type=given_path, help="Fis-V: folder of the real train.txt and test.txt")
    parser.add_argument(
        "--top1", type=real_number(0, 1), help="aligned: vision_language features that name this share of actions"
    )
    parser.add_argument("--seed", type=whole_number(0), default=0, help="seed of the simulation; the tables use 0")
    options = parser.parse_args()
    if options.labels is not None and options.dataset != "Fis-V":
        parser.exit(2, f"{parser.prog}: error: --labels are Fis-V's real scores; add --dataset Fis-V\n")
    try:
        provider = simulation_provider(options.dataset, seed=options.seed, labels=options.labels, top1=options.top1)
        provider.simulation().write(options.folder, options.variant)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {one_line(str(error))}\n")
    print(f"Simulated {options.dataset} in {options.folder}; SIMULATED.txt there says what it is.")
    return 0


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
