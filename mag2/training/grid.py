"""Many trainings: a grid of cells over workers, each trained once, kept on disk, and resumed after a kill."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from mag2.saving.full_disk import naming_full_disk
from mag2.training.cells import Cell, Outcome, read_result, write_result
from mag2.training.process_pool import Ended, error_line, run_in_processes
from mag2.training.threads import THREADS, threads_of_torch

__all__ = ["Work", "run_grid"]

# Trains a cell: `work(cell, folder, tick)` calls `tick` once an epoch, and returns the result, plain JSON.
Work = Callable[[Cell, Path, Callable[[], object]], dict[str, Any]]


def run_grid(
    cells: Iterable[Cell],
    work: Work,
    out: Path,
    *,
    workers: int = 1,
    threads: int = THREADS,
    on_tick: Callable[[], object] = lambda: None,
    ray: str | None = None,
    gpus: float = 0,
) -> Iterator[Outcome]:
    """Train the cells of a table, and yield the outcome of each; finished cells come first.

    A worker writes the result of its cell into the cell's folder, and it is read from there. If a cell fails, its
    outcome has the error, and the others continue.

    Args:
        work: can be imported by a fresh process where there are several workers.
        out: the folder of results.
        workers: processes; with 1 everything runs in this one.
        threads: of each cell, however many workers there are: the numbers of a cell depend on them.
        on_tick: called in this process for every epoch trained anywhere.
        ray: the address of a Ray cluster to train on instead (`mag2.training.ray_cluster`); all its machines have `out`
            under the same path.
        gpus: number of GPUs for each of its trainings.

    Raises:
        ValueError: no such cluster, or one of its machines has no access to the folder.
    """
    waiting = []
    for cell in cells:
        finished = read_result(cell, out)
        if finished is None:
            waiting.append(cell)
        else:
            yield Outcome(cell, finished, fresh=False)
    # Another machine has another working folder.
    job = partial(_train, work=work, out=out if ray is None else out.resolve(), threads=threads)
    if ray is not None and waiting:
        from mag2.training.ray_cluster import run_on_ray

        ended: Ended = run_on_ray(waiting, job, ray, out=out.resolve(), on_tick=on_tick, cores=threads, gpus=gpus)
    elif workers > 1 and len(waiting) > 1:
        ended = run_in_processes(waiting, job, min(workers, len(waiting)), on_tick=on_tick)
    else:
        ended = ((cell, job(cell, on_tick)) for cell in waiting)
    with closing(ended):  # a caller that stops early stops the workers
        for cell, error in ended:
            yield _outcome(cell, out, error)


def _train(cell: Cell, tick: Callable[[], object], *, work: Work, out: Path, threads: int) -> str | None:
    """Train a cell and write its result; returns what went wrong, in one line."""
    folder = cell.folder(out)
    started = time.perf_counter()
    try:
        with naming_full_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with threads_of_torch(threads):
            result = work(cell, folder, tick)
        result["seconds"] = round(time.perf_counter() - started, 3)
        write_result(cell, out, result)
    except Exception as error:
        return error_line(error)
    return None


def _outcome(cell: Cell, out: Path, error: str | None) -> Outcome:
    result = read_result(cell, out) if error is None else None
    if error is None and result is None:
        error = f"it ended without a result.json in {cell.folder(out)}; every machine must see that folder"
    return Outcome(cell, result, error)
