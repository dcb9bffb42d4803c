"""How the clips of a real performance are drawn."""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from mag2.data.drawing import DrawnPerformance, lay_out
from mag2.data.programme import Programme

__all__ = ["draw_around"]


def draw_around(programme: Programme, actions: Sequence[str], clips: int, rng: np.random.Generator) -> DrawnPerformance:
    """Draw the clips of a real performance: which of them show which element, and which elements the music fits.

    Actions and executions are real. If there are fewer clips than actions, each action gets one clip.

    Args:
        programme: the real performance.
        actions: the M actions of the texts and features, in their order.
        clips: number of clips of the longest kind of programme.
        rng: source of all random numbers.

    Raises:
        ValueError: the programme has an action that is none of these.
    """
    names = list(chain.from_iterable(element.actions for element in programme.elements))
    number = {name: i for i, name in enumerate(actions)}
    unknown = [name for name in names if name not in number]
    if unknown:
        raise ValueError(f"{programme.name} has the action {unknown[0]!r}, which is none of the {len(number)} actions")
    sizes = [len(element.actions) for element in programme.elements]
    element_fit = (rng.random(len(sizes)) < programme.music).astype(np.int64)
    action = np.array([number[name] for name in names])
    fit = np.repeat(element_fit, sizes)
    other = (action + rng.integers(1, len(number), size=len(action))) % len(number)
    return lay_out(
        action,
        np.where(fit == 1, action, other),
        fit,
        np.repeat([element.execution for element in programme.elements], sizes),
        np.repeat(np.arange(len(sizes)), sizes),
        clips=max(round(clips * programme.length), len(action)),
        share=max(40, 4 * len(action)),
        rng=rng,
    )
