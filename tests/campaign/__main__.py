"""The command of the campaign."""

import argparse
import sys
import time
from collections.abc import Sequence

from tests.campaign.kills import run_kills
from tests.campaign.running import Tally, run_cases

# Cases of each area: in the quick part, and in the long one.
COUNTS = {
    "datasets": (40, 600),
    "stores": (12, 100),
    "saves": (25, 400),
    "runs": (8, 100),
    "tables": (8, 100),
    "pickles": (50, 1000),
    "torch files": (20, 300),
    "headers": (40, 600),
    "places": (25, 300),
    "padding": (20, 300),
    "batch equals single": (20, 300),
    "order of the batch": (20, 300),
    "same call again": (15, 200),
    "dtype and device follow": (20, 300),
    "fold equals guide": (15, 200),
    "load equals save": (15, 200),
}
KILLS = {1: 20, 2: 20}  # of runs with so many workers; the long part alone


def campaign(*, long: bool = False, seed: int = 0, only: Sequence[str] = ()) -> dict[str, Tally]:
    """Run the campaign, or some of its areas (`datasets`), or one case again (`datasets:17`)."""
    chosen = only or [*COUNTS, *([f"kills {workers}" for workers in KILLS] if long else [])]
    cases, tallies = [], {}
    for name in chosen:
        area, colon, number = name.partition(":")
        if area in COUNTS:
            cases += [(area, int(number))] if colon else [(area, each) for each in range(COUNTS[area][long])]
    tallies |= run_cases(cases, seed)
    for name in chosen:
        if name.startswith("kills "):
            workers = int(name.removeprefix("kills "))
            tallies[name] = run_kills(KILLS[workers], workers, seed)
    return tallies


def report(tallies: dict[str, Tally]) -> str:
    """A line for each area, the faults, and the sum."""
    lines = [f"{'area':26}{'tried':>7}{'held':>7}{'faults':>8}{'slowest':>10}"]
    for name, tally in tallies.items():
        slowest = f"{tally.slowest:.1f} s" if tally.slowest else ""
        lines.append(f"{name:26}{tally.tried:7}{tally.held:7}{len(tally.faults):8}{slowest:>10}")
    tried, held = sum(t.tried for t in tallies.values()), sum(t.held for t in tallies.values())
    lines.append(f"{'all':26}{tried:7}{held:7}{tried - held:8}")
    faults = [f"{name}: {fault}" for name, tally in tallies.items() for fault in tally.faults]
    return "\n".join([*lines, *(["", *faults] if faults else [])])


def main() -> int:
    """Run it; the exit status is 1 where there is a fault."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign", description="Generated cases against the library."
    )
    parser.add_argument(
        "--long", action="store_true", help="ten times as many cases, and kills (half an hour on two cores)"
    )
    parser.add_argument("--seed", type=int, default=0, help="other cases (0)", metavar="SEED")
    areas = ", ".join([*COUNTS, *(f"kills {workers}" for workers in KILLS)])
    parser.add_argument("--only", nargs="+", default=(), metavar="AREA[:NUMBER]", help=f"of {areas}")
    options = parser.parse_args()
    unknown = [name for name in options.only if name.partition(":")[0] not in areas.split(", ")]
    if unknown:
        parser.error(f"unknown area {unknown[0]!r}; there are {areas}")
    started = time.monotonic()
    tallies = campaign(long=options.long, seed=options.seed, only=options.only)
    print(report(tallies))
    print(f"{time.monotonic() - started:.0f} s, seed {options.seed}")
    return 1 if any(tally.faults for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
