"""Untrained weights, `random:SEED`, for trials without a download."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["from_seed", "seed_of"]


def seed_of(weights: str) -> int | None:
    """Return the seed in `random:SEED`; None for any other name of weights.

    Raises:
        ValueError: the seed is no whole number from 0 up.
    """
    kind, _, seed = weights.partition(":")
    if kind != "random":
        return None
    if not seed.isdecimal():
        raise ValueError(f"random weights are random:SEED with a whole number from 0 up, got {weights!r}")
    return int(seed)


@contextmanager
def from_seed(seed: int) -> Iterator[None]:
    """Draw random numbers from a seed inside a `with` block; torch's global generator is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
