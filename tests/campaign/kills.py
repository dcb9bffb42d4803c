"""Kill a table's command at seeded moments, run it again until it ends, and compare every bit with an unbroken run."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.campaign.running import Tally

__all__ = ["run_kills"]

ROOT = Path(__file__).parents[2]
# Narrow models on few videos: what is killed is the machinery. Checkpoints at every epoch, so that kills strike them.
SCRIPT = """
import sys
sys.path[:0] = [".", "examples"]
import table4
from mag2.training import command, run
from tests.few import few_performances
few_performances(train=48, test=12, clips=6)
run.Run.__init__.__defaults__ = tuple(0.0 if value == 60.0 else value for value in run.Run.__init__.__defaults__)
if __name__ == "__main__":
    sys.exit(command.main(table4.TABLE4, sys.argv[1:]))
"""
ARGUMENTS = ["--rows", "1", "10", "--targets", "TES", "PCS", "--epochs", "12", "--device", "cpu", "--keep-weights"]


def run_kills(number: int, workers: int, seed: int) -> Tally:
    """So many kills of runs with so many workers; each run is killed a few times, then runs to its end."""
    tally, rng = Tally(), random.Random(f"kills-{workers}-{seed}")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(SCRIPT)
        started = time.monotonic()
        _start(script, Path(folder) / "whole", workers).wait()
        length = time.monotonic() - started
        whole = _content(Path(folder) / "whole")
        run = 0
        while tally.tried < number:
            out = Path(folder) / f"killed-{run}"
            moments = []
            for _ in range(min(rng.randrange(1, 4), number - tally.tried)):
                process = _start(script, out, workers)
                moments.append(rng.uniform(0.2, 1.0) * length)
                time.sleep(moments[-1])
                tally.tried += process.poll() is None
                _kill(process)
            last = _start(script, out, workers)
            status = last.wait()
            different = _differences(whole, _content(out)) if status == 0 else [f"exit status {status}"]
            different += [f"{path.name} is left" for path in out.rglob("*.partial")]
            if different:
                shown = ", ".join(f"{moment:.1f} s" for moment in moments)
                tally.faults.append(f"{workers} workers, killed after {shown}: {'; '.join(different[:5])}")
            run += 1
    return tally


def _start(script: Path, out: Path, workers: int) -> subprocess.Popen:
    command = [sys.executable, str(script), *ARGUMENTS, "--workers", str(workers), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)


def _kill(process: subprocess.Popen) -> None:
    """The run alone, without warning: its workers must end by themselves."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def _content(out: Path) -> dict[str, object]:
    """Everything that a run leaves but times: results, curves, weights."""
    found: dict[str, object] = {}
    for path in sorted(out.glob("cells/**/*")):
        name = str(path.relative_to(out))
        if path.name == "checkpoint.pt":
            saved = torch.load(path, weights_only=True)
            found[name] = saved["model"]
            found[f"{name}:optimizer"] = {str(key): value for key, value in _flat(saved["optimizer"])}
        elif path.name == "result.json":
            result = json.loads(path.read_text())
            del result["result"]["seconds"]
            found[name] = json.dumps(result)
        elif path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = json.dumps(
                [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
            )
    return found


def _flat(value: object, path: tuple = ()) -> list[tuple[tuple, object]]:
    if isinstance(value, dict):
        return [pair for key, part in value.items() for pair in _flat(part, (*path, key))]
    if isinstance(value, list | tuple):
        return [pair for key, part in enumerate(value) for pair in _flat(part, (*path, key))]
    return [(path, value)]


def _differences(whole: dict, other: dict) -> list[str]:
    different = [f"{name} is missing" for name in whole if name not in other]
    different += [f"{name} is new" for name in other if name not in whole]
    for name in whole.keys() & other.keys():
        one, two = whole[name], other[name]
        if isinstance(one, dict):
            equal = one.keys() == two.keys() and all(
                torch.equal(one[key], two[key]) if isinstance(one[key], torch.Tensor) else one[key] == two[key]
                for key in one
            )
        else:
            equal = one == two
        if not equal:
            different.append(f"{name} differs")
    return different
