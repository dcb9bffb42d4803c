"""A process that runs cases, one a line: `{"area", "number", "seed", "folder"}` in, `{"what", "fault"}` out."""

import contextlib
import json
import os
import random
import resource
import shutil
import sys
import time
import warnings
from pathlib import Path

from tests.campaign.judging import complaint, snapshot

# What a case may take beyond what the process has: more is an attack that succeeded.
MEMORY = 3 * 2**30


def areas() -> dict:
    from tests.campaign import broken, hostile, properties

    return broken.CASES | hostile.CASES | properties.CASES


def run(area: str, number: int, seed: int, folder: Path) -> dict:
    """Run a case in a folder of its own; beside it stands one that must stay as it is."""
    inside, outside = folder / "inside", folder / "outside"
    shutil.rmtree(folder, ignore_errors=True)
    inside.mkdir(parents=True)
    outside.mkdir()
    (outside / "precious").write_text("precious")
    before, rng, what, fault = snapshot(outside), random.Random(f"{area}-{number}-{seed}"), "it could not begin", None
    started = time.perf_counter()
    steps = areas()[area](rng, inside, outside)
    try:
        what = next(steps)
        next(steps, None)
    except Exception as error:
        fault = complaint(error)
    except BaseException as error:
        fault = f"{type(error).__name__} {error}"
    if snapshot(outside) != before:
        fault = f"the folder outside changed; {fault}"
    shutil.rmtree(folder, ignore_errors=True)
    return {"what": what, "fault": fault, "seconds": round(time.perf_counter() - started, 2)}


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a case prints is no answer
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    areas()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
    for line in sys.stdin:
        job = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            answer = run(job["area"], job["number"], job["seed"], Path(job["folder"]))
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
