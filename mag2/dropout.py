"""Dropout that does not wait for its random numbers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# A random number of 16 bits for each element, four from one draw of the generator.
_LEVELS = 1 << 16
_BITS_A_DRAW = 4


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """`torch.nn.functional.dropout`, its random numbers drawn four at a time on the CPU.

    There torch draws one number of the generator for each element, which was a sixth of a training step of MLAVL. Here
    an element is dropped where its 16 bits make a small number: with the probability q = round(65536 p) / 65536, but
    between 1 and 65535 of 65536, and the rest is divided by 1 - q, so that the expectation is x exactly. Elsewhere, on
    GPUs, torch's own is called. Nothing is drawn for p of 0 or 1, or in evaluation.

    Args:
        x: any shape, floating point.
        p: the probability to be dropped, 0 to 1.
        training: without, x itself is returned.

    Raises:
        ValueError: p is not a probability.
    """
    _check(p)
    if not training or p == 0:
        return x
    if not draws_cheaply(x):
        return F.dropout(x, p, training)
    mask, scale = kept(x.shape, p)
    return (x * mask).mul_(scale)


def kept(shape: Sequence[int], p: float) -> tuple[Tensor, float]:
    """What dropout keeps of a tensor on the CPU: a mask, and what the kept elements are to be multiplied by.

    The factor is apart so that it can go into the weights of the next layer, which are smaller than its input.

    Shapes: returns (shape) uint8 of 0 and 1: a product with bool is many times slower than with uint8.

    Args:
        shape: of what is dropped from.
        p: the probability to be dropped. For 0 and 1 nothing is drawn.
    """
    if p in (0, 1):
        return torch.full(tuple(shape), int(1 - p), dtype=torch.uint8, device="cpu"), 1.0
    # Some are kept and some dropped, however near to 0 or 1 the probability is.
    dropped = min(max(round(_LEVELS * p), 1), _LEVELS - 1)
    count = math.prod(shape)
    draws = torch.randint(-(2**63), 2**63 - 1, ((count + _BITS_A_DRAW - 1) // _BITS_A_DRAW,), device="cpu")
    bits = draws.view(torch.int16)[:count].view(tuple(shape))
    # A comparison, but without bool, which torch is slow to make of int16.
    below = dropped - _LEVELS // 2 - 1
    mask = (bits.clamp(below, below + 1) - below).to(torch.uint8)
    return mask, _LEVELS / (_LEVELS - dropped)


def draws_cheaply(x: Tensor) -> bool:
    """Whether `kept` is the faster way for this tensor: on the CPU, compiled or not; GPUs have a kernel for it."""
    return x.device.type == "cpu"


def _check(p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout wants a probability from 0 to 1, got {p}")
