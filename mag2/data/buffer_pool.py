"""Memory that batch after batch is written to."""

import math
import sys
import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Two: while a training loop asks for a batch it still holds the one before.
_KEPT = 2
_LARGEST = 1 << 27


class ReusedMemory:
    """Float32 tensors whose memory serves again once nobody holds them.

    A batch of clips is tens of megabytes. Fresh memory of that size comes from the operating system page by page,
    each filled with zeros first, which takes as long as copying the batch. Whether a tensor, a view of it, its numpy
    array or a graph of autograd still needs the memory is told by the reference count of the array below: a batch that
    is kept is never written to again.

    At most the two newest pieces are kept, none larger than 128 MiB.
    """

    def __init__(self) -> None:
        self._pieces: list[NDArray[np.float32]] = []
        self._lock = threading.Lock()

    def empty(self, *shape: int) -> Tensor:
        """A contiguous tensor of this shape on the CPU, of any content."""
        count = math.prod(shape)
        # Two threads must not find the same piece free. Nobody waits: whoever comes second gets fresh memory, and so
        # does a process that was forked while the lock was held, where nobody will ever release it.
        if not self._lock.acquire(blocking=False):
            return torch.from_numpy(np.empty(shape, dtype=np.float32))
        try:
            piece = self._free(count)
            if piece is None:
                piece = np.empty(count, dtype=np.float32)
                if piece.nbytes <= _LARGEST:
                    self._pieces = [*self._pieces, piece][-_KEPT:]
            return torch.from_numpy(piece[:count].reshape(shape))
        finally:
            self._lock.release()

    def _free(self, count: int) -> NDArray[np.float32] | None:
        for place in range(len(self._pieces)):
            # Held by the list and, for this question, as its argument.
            if self._pieces[place].size >= count and sys.getrefcount(self._pieces[place]) == 2:
                return self._pieces[place]
        return None

    # A copy of whoever owns this, in another process say, begins with none.
    def __reduce__(self) -> tuple:
        return ReusedMemory, ()
