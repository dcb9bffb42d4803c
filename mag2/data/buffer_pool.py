"""Memory that batch after batch is written to."""

import math
import sys
import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BufferPool"]

# Two: while a training loop requests a batch it still holds the one before.
_KEPT = 2
_LARGEST = 1 << 27


class BufferPool:
    """Float32 tensors whose memory is used again when no object refers to it any more.

    A batch of clips is tens of megabytes. Fresh memory of that size comes from the operating system page by page,
    each filled with zeros first, which takes as long as copying the batch. The reference count of the array below
    says whether a tensor, a view of it, its numpy array or a graph of autograd still needs the memory: a batch that
    is kept is never overwritten.

    At most the two newest buffers are kept, none larger than 128 MiB.
    """

    def __init__(self) -> None:
        self._buffers: list[NDArray[np.float32]] = []
        self._lock = threading.Lock()

    def empty(self, *shape: int) -> Tensor:
        """A contiguous tensor of this shape on the CPU, of any content."""
        count = math.prod(shape)
        # Two threads must not find the same buffer free. Neither waits: the second one gets fresh memory. So does a
        # process that was forked while the lock was held: in it nothing would ever release the lock.
        if not self._lock.acquire(blocking=False):
            return torch.from_numpy(np.empty(shape, dtype=np.float32))
        try:
            buffer = self._free(count)
            if buffer is None:
                buffer = np.empty(count, dtype=np.float32)
                if buffer.nbytes <= _LARGEST:
                    self._buffers = [*self._buffers, buffer][-_KEPT:]
            return torch.from_numpy(buffer[:count].reshape(shape))
        finally:
            self._lock.release()

    def _free(self, count: int) -> NDArray[np.float32] | None:
        for place in range(len(self._buffers)):
            # The list refers to it, and the argument of getrefcount.
            if self._buffers[place].size >= count and sys.getrefcount(self._buffers[place]) == 2:
                return self._buffers[place]
        return None

    # A copy of the features that own this pool, in another process for example, begins with no buffer.
    def __reduce__(self) -> tuple:
        return BufferPool, ()
