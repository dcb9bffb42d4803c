"""Few performances to simulate: while a test runs, or for good in a process of its own."""

import pytest

from mag2.training.dataset_providers import SIZES, SIZES_OF

__all__ = ["few_performances"]


def few_performances(
    patch: pytest.MonkeyPatch | None = None,
    *,
    train: int = 16,
    test: int = 10,
    length: tuple[int, int] = (6, 10),
    clips: int = 8,
) -> None:
    """Let every dataset be simulated with so many performances of so many clips."""
    sizes = {"train": train, "test": test, "length": length, "clips": clips}
    # A real programme has more elements than the short performances that are made up have clips.
    programmes = {**sizes, "length": (16, 20)}
    _set(patch, SIZES, sizes)
    shared = {**sizes, "train": 2 * train, "test": 2 * test}  # by the four targets of RG
    for own in SIZES_OF.values():
        usual = programmes if "spec" in own else shared
        _set(patch, own, {name: usual[name] for name in own if name in usual})


def _set(patch: pytest.MonkeyPatch | None, sizes: dict, few: dict) -> None:
    for name, size in few.items():
        if patch is None:
            sizes[name] = size
        else:
            patch.setitem(sizes, name, size)
