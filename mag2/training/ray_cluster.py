"""A grid over the machines of a Ray cluster, which share the folder of results; the extra `clusters` brings Ray."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mag2.training.cells import Cell
from mag2.training.process_pool import Ended, Job, error_line
from mag2.training.shared_folder import marked, unseen

__all__ = ["run_on_ray"]

# How often a job begins again where its process or its machine is lost; it goes on from its checkpoint.
RETRIES = 3


def run_on_ray(
    cells: Sequence[Cell],
    job: Job,
    address: str,
    *,
    out: Path,
    on_tick: Callable[[], object],
    cores: int = 1,
    gpus: float = 0,
) -> Ended:
    """Yield (cell, what `job(cell, tick)` returned), as they end.

    A job whose process or machine is lost is run again elsewhere. Before the first job a check runs on every machine:
    it must have access to the folder of results.

    Args:
        job: every machine can import it by the names that it has here.
        address: "local" for a cluster of this machine alone, "auto" for the one this machine belongs to, or its
            address ("ray://host:10001").
        out: the folder of results, an absolute path.
        on_tick: called here for every tick of a job anywhere; again for what is run again.
        cores: for each job.
        gpus: number of GPUs for each job; 0.5 for two jobs on one GPU.

    Raises:
        ValueError: Ray is not installed, there is no cluster at the address, no machine has that many cores or GPUs, or
            a machine has no access to the folder.
    """
    ray = _connected(address)
    try:
        with marked(out) as mark:
            _check_machines(ray, mark, cores, gpus)
            from ray.util.queue import Queue

            # The actor of the queue must not take the core of a job, and lives on this machine: others may be lost.
            ticks = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": _only_on(_here(ray))})
            task = ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=RETRIES)(_run_job)
            pending = {task.remote(job, cell, ticks, mark, Path.cwd()): cell for cell in cells}
            while pending:
                done, _ = ray.wait(list(pending), timeout=0.5)
                for _ in range(ticks.size()):
                    ticks.get()
                    on_tick()
                for reference in done:
                    yield pending.pop(reference), _ended(ray, reference)
    finally:
        ray.shutdown()


def _run_job(job: Job, cell: Cell, ticks: Any, mark: Path, home: Path) -> str | None:
    """A job on some machine. One that joined later was not asked whether it sees the folder."""
    fault = unseen(mark)
    if fault is not None:
        return fault
    with contextlib.suppress(OSError):  # paths in the arguments are relative to where the run was started
        os.chdir(home)
    return job(cell, partial(ticks.put, None))


def _ended(ray: Any, reference: Any) -> str | None:
    lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
    try:
        return ray.get(reference)
    except lost:
        return f"its process was killed {RETRIES + 1} times, for want of memory perhaps"
    except Exception as error:
        return error_line(error)


def _check_machines(ray: Any, mark: Path, cores: int, gpus: float) -> None:
    """Refuse a cluster that cannot run the jobs, or one of whose machines does not see the folder of results."""
    machines = [node for node in ray.nodes() if node["Alive"]]
    held = [node["Resources"] for node in machines]
    if not any(each.get("CPU", 0) >= cores and each.get("GPU", 0) >= gpus for each in held):
        cards = f" and {gpus:g} graphics cards" if gpus else ""
        raise ValueError(f"no machine of the cluster has {cores} cores{cards} for a training; start one that has")
    # The machine of this process included: `ray://` connects to a cluster that it does not belong to.
    look = ray.remote(num_cpus=0, max_retries=0)(unseen)
    looks = {look.options(scheduling_strategy=_only_on(node["NodeID"])).remote(mark): node for node in machines}
    for reference, node in looks.items():
        try:
            fault = ray.get(reference)
        except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError):
            continue  # it has gone meanwhile
        except Exception as error:
            raise ValueError(
                f"the machine {node['NodeManagerHostname']} cannot run mag2: {error_line(error)}"
            ) from None
        if fault is not None:
            raise ValueError(fault)


def _only_on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _here(ray: Any) -> str:
    """The machine of this process; of a process outside the cluster, the one that it is connected to."""
    return ray.get_runtime_context().get_node_id()


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
    except ValueError as error:
        raise ValueError(f"{address!r} is no address of a Ray cluster; say local, auto, or ray://host:port") from error
    except ConnectionError as error:
        raise ValueError(
            f"no Ray cluster at {address!r}; start one with `ray start --head`, or say local; where it "
            f"has a token, this process needs it too"
        ) from error
    return ray
