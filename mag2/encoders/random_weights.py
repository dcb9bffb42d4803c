"""Weights that were never trained, `random:SEED`: for trials without a download."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["from_seed", "seed_of"]


def seed_of(weights: str) -> int | None:
    """The seed of `random:SEED`; None for all other weights.

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
    """Draw from a seed inside a `with`; torch's global generator is as before after it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
