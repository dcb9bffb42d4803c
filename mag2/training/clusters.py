"""A grid over the machines of a Ray cluster, which share the folder of results; the extra `clusters` brings Ray."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import torch

Job = TypeVar("Job")


def on_ray(
    jobs: Sequence[Job],
    work: Callable[[Job, Callable[[], object]], Any],
    address: str,
    *,
    on_tick: Callable[[], object],
    gpus: float = 0,
) -> Iterator[tuple[Job, Any, BaseException | None]]:
    """Yield (job, what `work(job, tick)` returned, its error), as they end; one core for each job.

    Args:
        jobs: what `work` takes. work: importable on every machine by the names that it has here.
        address: "local" for a cluster of this machine alone, "auto" for the one this machine belongs to, or its
            address ("ray://host:10001").
        on_tick: called here for every tick of a job anywhere.
        gpus: graphics cards for each job, 0.5 for two jobs on one.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """
    ray = _joined(address)
    try:
        from ray.util.queue import Queue

        # The actor of the queue must not take the core of a job.
        ticks = Queue(actor_options={"num_cpus": 0})
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_on_one_core)
        pending = {task.remote(work, job, ticks): job for job in jobs}
        while pending:
            done, _ = ray.wait(list(pending), timeout=0.5)
            for _ in range(ticks.size()):
                ticks.get()
                on_tick()
            for reference in done:
                job = pending.pop(reference)
                try:
                    yield job, ray.get(reference), None
                except Exception as error:
                    yield job, None, error
    finally:
        ray.shutdown()


def _on_one_core(work: Callable, job: Any, ticks: Any) -> Any:
    torch.set_num_threads(1)
    return work(job, partial(ticks.put, None))


def _joined(address: str) -> Any:
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
