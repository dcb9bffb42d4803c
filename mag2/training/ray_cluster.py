"""A grid over the machines of a Ray cluster, which share the folder of results; the extra `clusters` brings Ray."""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mag2.training.cells import Cell
from mag2.training.process_pool import Ended, Job, error_line

__all__ = ["run_on_ray"]


def run_on_ray(
    cells: Sequence[Cell], job: Job, address: str, *, on_tick: Callable[[], object], cores: int = 1, gpus: float = 0
) -> Ended:
    """Yield (cell, what `job(cell, tick)` returned), as they end.

    Args:
        job: every machine can import it by the names that it has here.
        address: "local" for a cluster of this machine alone, "auto" for the one this machine belongs to, or its
            address ("ray://host:10001").
        on_tick: called here for every tick of a job anywhere.
        cores: for each job.
        gpus: graphics cards for each job, 0.5 for two jobs on one.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """
    ray = _connected(address)
    try:
        from ray.util.queue import Queue

        # The actor of the queue must not take the core of a job.
        ticks = Queue(actor_options={"num_cpus": 0})
        task = ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=0)(_run_job)
        pending = {task.remote(job, cell, ticks): cell for cell in cells}
        while pending:
            done, _ = ray.wait(list(pending), timeout=0.5)
            for _ in range(ticks.size()):
                ticks.get()
                on_tick()
            for reference in done:
                cell = pending.pop(reference)
                try:
                    yield cell, ray.get(reference)
                except Exception as error:
                    yield cell, error_line(error)
    finally:
        ray.shutdown()


def _run_job(job: Job, cell: Cell, ticks: Any) -> str | None:
    return job(cell, partial(ticks.put, None))


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError:
        raise ValueError("a cluster is run by Ray: pip install 'mag2[clusters]'") from None
    # What this process can import, the workers can.
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}}
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, runtime_env=environment, log_to_driver=False, **options)
    except ConnectionError as error:
        raise ValueError(f"no Ray cluster at {address!r}; start one with `ray start --head`, or say local") from error
    return ray
