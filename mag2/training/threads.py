"""The number of threads of a training: another number adds in another order, and gives slightly other results."""

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["THREADS", "threads_of_torch"]

# Of each cell of a grid, whatever the workers and the machine. With one thread a sum has one order everywhere; several
# trainings at a time use the other cores.
THREADS = 1


@contextlib.contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    """Let torch compute with `count` threads inside a `with` block; afterwards the number is as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
