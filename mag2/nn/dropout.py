"""Dropout with cheap random numbers on the CPU."""

import math
import numbers
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# Each element has a random number of 8 bits, or of 16 where 8 are not fine enough; torch's generator draws 64.
_FEW, _MANY, _DRAWN = 8, 16, 64
_TOLERANCE = 0.005

__all__ = ["check_probability", "draws_cheaply", "dropout", "kept"]


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """`torch.nn.functional.dropout`, its random numbers drawn eight at a time on the CPU.

    There torch draws one number of the generator for each element, which was a sixth of a training step of MLAVL. Here
    an element is dropped where its 8 bits, as many as FlashAttention takes, make a small number: with the probability
    q = round(256 p) / 256, 0.3008 for 0.3. Where that is off by more than half a percent of p or of 1 - p, 16 bits are
    drawn and q = round(65536 p) / 65536, but between 1 and 65535 of 65536. The rest is divided by 1 - q, so that the
    expectation is x exactly. Elsewhere, on GPUs, torch's own is called. Nothing is drawn for p of 0 or 1, or in
    evaluation.

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
    bits = _bits(p)
    levels, count = 1 << bits, math.prod(shape)
    # Some are kept and some dropped, however near to 0 or 1 the probability is.
    dropped = min(max(round(levels * p), 1), levels - 1)
    draws = torch.randint(-(2**63), 2**63 - 1, (-(-count * bits // _DRAWN),), device="cpu")
    numbers = draws.view(torch.int8 if bits == _FEW else torch.int16)[:count].view(tuple(shape))
    # A comparison, but without bool, which torch is slow to make of integers.
    below = dropped - levels // 2 - 1
    mask = (numbers.clamp(below, below + 1) - below).to(torch.uint8)
    return mask, levels / (levels - dropped)


def _bits(p: float) -> int:
    few = 1 << _FEW
    return _FEW if abs(round(few * p) / few - p) <= _TOLERANCE * min(p, 1 - p) else _MANY


def draws_cheaply(x: Tensor) -> bool:
    """Whether `kept` is faster for this tensor than torch: on the CPU, compiled or not; GPUs have a kernel for it."""
    return x.device.type == "cpu"


def check_probability(p: object) -> None:
    """Raise a ValueError unless this is a number from 0 to 1."""
    if isinstance(p, bool) or not isinstance(p, numbers.Real):
        raise ValueError(f"dropout wants a probability from 0 to 1, got {p!r}")
    _check(float(p))


def _check(p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout wants a probability from 0 to 1, got {p}")
