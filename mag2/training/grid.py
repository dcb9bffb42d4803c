"""Many trainings: a grid of cells over worker processes, each done once, kept on disk, and resumed after a kill."""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mag2.saving.atomic_io import read_json, write_atomically


@dataclass(frozen=True)
class Cell:
    """One training of a table; a target may have a dataset before it, "FS1000/TES"."""

    row: str
    target: str
    seed: int

    def folder(self, out: Path) -> Path:
        """Where its files lie."""
        return out / "cells" / f"row-{self.row}" / self.target / f"seed-{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: its result, or the sentence that says why there is none."""

    cell: Cell
    result: dict[str, Any] | None
    error: str | None = None
    fresh: bool = True


# A cell is worked on as `work(cell, folder, tick)`: `tick` is called once an epoch, the result is plain JSON.
Work = Callable[[Cell, Path, Callable[[], object]], dict[str, Any]]


def read_result(cell: Cell, out: Path) -> dict[str, Any] | None:
    """The result of a cell that is done, else None."""
    path = cell.folder(out) / "result.json"
    return read_json(path, "cell", "result")["result"] if path.is_file() else None


def stored(out: Path) -> dict[Cell, dict[str, Any]]:
    """The cells that are done in a folder, whichever run did them, and their results."""
    files = (read_json(path, "cell", "result") for path in sorted((out / "cells").rglob("result.json")))
    return {Cell(**file["cell"]): file["result"] for file in files}


def run_grid(
    cells: Iterable[Cell],
    work: Work,
    out: Path,
    *,
    workers: int = 1,
    on_tick: Callable[[], object] = lambda: None,
    ray: str | None = None,
    gpus: float = 0,
) -> Iterator[Outcome]:
    """Yield the outcome of every cell, those that are done already first.

    A cell that fails is reported and does not stop the others. The cores are shared evenly among the workers.

    Args:
        work: must be importable by a fresh process where there are several workers.
        workers: processes; with 1 everything runs in this one.
        on_tick: called in this process for every epoch trained anywhere.
        ray: the address of a Ray cluster to train on instead (`mag2.training.clusters`), whose machines see `out`
            under the same path. gpus: graphics cards for each of its trainings.

    Raises:
        ValueError: no such cluster.
    """
    waiting = []
    for cell in cells:
        done = read_result(cell, out)
        if done is None:
            waiting.append(cell)
        else:
            yield Outcome(cell, done, fresh=False)
    if ray is not None and waiting:
        from mag2.training.clusters import on_ray

        # Another machine has another working folder.
        job = partial(_work_on_ray, work=work, out=out.resolve())
        for cell, outcome, error in on_ray(waiting, job, ray, on_tick=on_tick, gpus=gpus):
            yield outcome if error is None else Outcome(cell, None, _told(error))
    elif workers <= 1 or len(waiting) <= 1:
        for cell in waiting:
            yield _work_on(cell, work, out, on_tick)
    else:
        yield from _in_processes(waiting, work, out, min(workers, len(waiting)), on_tick)


def _in_processes(
    cells: list[Cell], work: Work, out: Path, workers: int, on_tick: Callable[[], object]
) -> Iterator[Outcome]:
    left = cells
    while left:
        left = yield from _in_pool(left, work, out, workers, on_tick)
        # A process that is killed takes its pool with it. It was one of those that began first: each is tried again,
        # alone, and the others in a new pool.
        for cell in left[:workers]:
            if (yield from _in_pool([cell], work, out, 1, on_tick)):
                yield Outcome(cell, None, "its process was killed, for want of memory perhaps")
        left = left[workers:]


def _in_pool(
    cells: list[Cell], work: Work, out: Path, workers: int, on_tick: Callable[[], object]
) -> Generator[Outcome, None, list[Cell]]:
    """Yield the outcomes; return the cells that are left, in their order, where a process was killed."""
    # Fresh processes and not forks: a fork inherits the threads of torch half-alive.
    context = multiprocessing.get_context("spawn")
    ticks = context.SimpleQueue()
    threads = max((os.cpu_count() or 1) // workers, 1)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(ticks, threads))
    pending = {}
    try:
        pending = {pool.submit(_work_in_process, cell, work, out): cell for cell in cells}
        broken = False
        while pending and not broken:
            done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            while not ticks.empty():
                ticks.get()
                on_tick()
            broken = any(isinstance(future.exception(), BrokenProcessPool) for future in done)
            if broken:
                done, _ = wait(pending)  # which then all end
            for future in done:
                error = future.exception()
                if not isinstance(error, BrokenProcessPool):
                    yield future.result() if error is None else Outcome(pending[future], None, _told(error))
                    del pending[future]
        return list(pending.values())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if pending:  # whoever stops does not train on: the folder is free for the next as soon as this returns
            mine = [process for process in multiprocessing.active_children() if process not in others]
            for process in mine:
                process.terminate()
            for process in mine:
                process.join()


_ticks: Any = None


def _begin(ticks: Any, threads: int) -> None:
    global _ticks
    _ticks = ticks
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed must not train on in the dark."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work_in_process(cell: Cell, work: Work, out: Path) -> Outcome:
    return _work_on(cell, work, out, lambda: _ticks.put(None))


def _work_on_ray(cell: Cell, tick: Callable[[], object], *, work: Work, out: Path) -> Outcome:
    return _work_on(cell, work, out, tick)


def _told(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _work_on(cell: Cell, work: Work, out: Path, tick: Callable[[], object]) -> Outcome:
    folder = cell.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        result = work(cell, folder, tick)
    except Exception as error:
        return Outcome(cell, None, _told(error))
    result["seconds"] = round(time.perf_counter() - started, 3)
    write_atomically(json.dumps({"cell": asdict(cell), "result": result}, indent=1), folder / "result.json")
    return Outcome(cell, result)
