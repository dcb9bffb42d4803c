"""Give cases to a process that may die or hang, and count what came of them."""

import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Tally", "run_cases"]

ROOT = Path(__file__).parents[2]
# A case takes milliseconds; the first of a process also builds what is broken. More than this is a hang.
SECONDS = 30


@dataclass
class Tally:
    """Of one area: cases tried, and the faults, in words with the way to run them again."""

    tried: int = 0
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def held(self) -> int:
        """Cases without a fault."""
        return self.tried - len(self.faults)


class _Worker:
    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def ask(self, job: dict) -> dict:
        if self.process is None:
            command = [sys.executable, "-m", "tests.campaign.worker"]
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: PT018
        print(json.dumps(job), file=self.process.stdin, flush=True)
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        line = self.process.stdout.readline() if ready else None
        if line:
            return json.loads(line)
        self.stop()
        return {"what": "", "fault": "the process died" if line == "" else f"no end within {SECONDS} s", "seconds": 0.0}

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def run_cases(cases: Iterable[tuple[str, int]], seed: int) -> dict[str, Tally]:
    """Run cases, each an area and a number, one after the other."""
    tallies: dict[str, Tally] = {}
    worker = _Worker()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for area, number in cases:
                job = {"area": area, "number": number, "seed": seed, "folder": f"{folder}/case"}
                answer = worker.ask(job)
                tally = tallies.setdefault(area, Tally())
                tally.tried += 1
                tally.slowest = max(tally.slowest, answer["seconds"])
                if answer["fault"] is not None:
                    again = f"--seed {seed} --only '{area}:{number}'"
                    tally.faults.append(f"{again}: {answer['what']}: {answer['fault']}")
    finally:
        worker.stop()
    return tallies
