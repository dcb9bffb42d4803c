"""A grid of trainings over the processes of one machine."""

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from mag2.saving.sentences import one_line
from mag2.training.cells import Cell

__all__ = ["Ended", "Job", "error_line", "run_in_processes"]

_LIBRARY = __name__.partition(".")[0]
# Trains a cell: `job(cell, tick)` calls `tick` once an epoch, and returns why there is no result, or None.
Job = Callable[[Cell, Callable[[], object]], str | None]
# Cells as they end, each with what its job returned.
Ended = Generator[tuple[Cell, str | None], None, None]


def run_in_processes(cells: Sequence[Cell], job: Job, workers: int, *, on_tick: Callable[[], object]) -> Ended:
    """Yield (cell, what `job(cell, tick)` returned), as they end.

    Where a process is killed (it ran out of memory for example) its cell fails alone.

    Args:
        job: can be imported by a fresh process. on_tick: called in this process for every tick of a job.
    """
    left = list(cells)
    while left:
        left = yield from _run_in_pool(left, job, workers, on_tick)
        # A process that is killed takes its pool with it. It was one of those that began first: each of them is tried
        # again, alone, and the others in a new pool.
        for cell in left[:workers]:
            if (yield from _run_in_pool([cell], job, 1, on_tick)):
                yield cell, "its process was killed, for want of memory perhaps"
        left = left[workers:]


def _run_in_pool(
    cells: list[Cell], job: Job, workers: int, on_tick: Callable[[], object]
) -> Generator[tuple[Cell, str | None], None, list[Cell]]:
    """Yield what ended; return the cells that are left, in their order, where a process was killed."""
    # Fresh processes and not forks: a forked process inherits torch's thread pools without their threads.
    context = multiprocessing.get_context("spawn")
    ticks = context.SimpleQueue()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(ticks,))
    pending = {}
    try:
        pending = {pool.submit(_run_job, cell, job): cell for cell in cells}
        broken = False
        while pending and not broken:
            done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            while not ticks.empty():
                ticks.get()
                on_tick()
            broken = any(isinstance(future.exception(), BrokenProcessPool) for future in done)
            if broken:
                done, _ = wait(pending)  # they all end now
            for future in done:
                error = future.exception()
                if not isinstance(error, BrokenProcessPool):
                    yield pending[future], future.result() if error is None else error_line(error)
                    del pending[future]
        return list(pending.values())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if pending:  # a caller that stops early stops the training too: the folder is free when this returns
            mine = [process for process in multiprocessing.active_children() if process not in others]
            for process in mine:
                process.terminate()
            for process in mine:
                process.join()


_ticks: Any = None


def _begin(ticks: Any) -> None:
    global _ticks
    _ticks = ticks
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker ends when its parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_job(cell: Cell, job: Job) -> str | None:
    return job(cell, lambda: _ticks.put(None))


def error_line(error: BaseException) -> str:
    """An error in one line: the sentence alone where the library refuses something, else with the error's class.

    The class of an error that nobody expected is half of what it says: of `KeyError: 'visual'` for example.
    """
    sentence = one_line(str(error))
    if sentence and _is_refusal(error):
        return sentence
    return f"{type(error).__name__}: {sentence}" if sentence else type(error).__name__


def _is_refusal(error: BaseException) -> bool:
    """Whether it is a sentence of the library: of a class of its own, or raised in its own code."""
    if type(error).__module__.partition(".")[0] == _LIBRARY:
        return True
    if not isinstance(error, ValueError | FloatingPointError):
        return False
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and str(frames[-1][0].f_globals.get("__name__")).partition(".")[0] == _LIBRARY
