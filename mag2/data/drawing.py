"""How performances are drawn: elements with their execution and music, their two qualities, and their features.

A performance is a strength s, and 7 to 12 different elements with transitions between. Element k is done with
execution q = clip(0.5 + 0.18 (0.6 s + 0.8 eps), 0, 1) and with music that fits or not. With e_k and c_k the
centred, unit-normed visual and audio texts of action k:

    visual clip  4 A_v e_k + 9 (q - 0.5) g_k                       in transitions a fixed vector
    audio clip   4 A_a c_k (of another action where the music does not fit) + 1.5 (fit - 0.5) h_0, likewise
    flow clip    F (4 A_v e_k + 9 (q - 0.5) g_k): a third random map of the same content, for PAMFN
    technical    sum b_k (0.4 + 1.2 q)
    component    0.6 mean q + 0.2 mean fit + 0.2 mean (q fit)

A_v, A_a, F are random maps, g_k = unit(0.4 g_0 + 0.6 unit(G e_k)) is the direction of good execution and b_k
a base value. Every modality gets its own nuisance, constant within a video (rank 8, std 3), and its own
N(0, I) noise. How the two qualities become scores depends on the dataset and is in its file.

An aligned simulation keeps A_v orthonormal and has a fourth modality, visual clips @ A_v: features in the space of the
texts e_k, as CLIP's of images are. With noise on that map they name fewer of the planted actions.

Around a real performance (`mag2.data.programme`) actions, their order and q are real, and the chance that the music
fits an element is the same for all elements of the performance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mag2.data.features import ClipFeatures
from mag2.data.simulatable import on_grid

__all__ = [
    "DrawnPerformance",
    "World",
    "draw_performance",
    "draw_world",
    "lay_out",
    "qualities",
    "render",
    "text_directions",
]

# How closely strength decides what a skater tries and how well the music is met. Set so that technical and
# component scores correlate by about 0.8 (0.84 in Fis-V).
DARING = 0.75
MUSICALITY = 1.0


@dataclass(frozen=True)
class World:
    """What all performances share. Tables have a row per action and a last one, index -1, for transitions."""

    base_value: NDArray  # (M,)
    visual_map: NDArray  # (D, Dt)
    # For each modality two tables: what an action looks or sounds like, and what good execution or fitting music adds.
    content: dict[str, tuple[NDArray, NDArray]]


@dataclass(frozen=True)
class DrawnPerformance:
    """One performance of T clips and n elements; transitions are -1, and NaN in `q`."""

    action: NDArray[np.int64]  # (T,)
    music_action: NDArray[np.int64]  # (T,) the action that the music is about
    fit: NDArray[np.int64]  # (T,)
    q: NDArray[np.float64]  # (T,)
    elements: NDArray[np.int64]  # (n,)
    element_q: NDArray[np.float64]  # (n,)
    element_fit: NDArray[np.int64]  # (n,)


def text_directions(texts: Tensor, what: str) -> NDArray:
    """Texts (M, Dt) unit-normed, centred, and brought back to unit length: what they share is left out."""
    array = texts.detach().cpu().double().numpy()
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ValueError(f"simulate wants finite {what} texts (M, Dt), got shape {array.shape}")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    centred = array / np.maximum(lengths, 1e-12)
    centred = centred - centred.mean(axis=0)
    if (np.linalg.norm(centred, axis=1) < 1e-6).any():
        raise ValueError(f"simulate wants {what} texts that differ from one another: give those of real prompts")
    return _unit(centred)


def draw_world(
    visual: NDArray, audio: NDArray, widths: Mapping[str, int], aligned: bool, rng: np.random.Generator
) -> World:
    """Draw the maps and tables from the texts' directions (M, Dt) and (M, Da), for features of these widths."""
    d = widths["visual"]
    visual_map = _random_map(d, visual.shape[1], rng)
    if aligned:  # the same draws, so that nothing else changes
        visual_map = np.linalg.qr(visual_map)[0]
    readable = _standardised(visual @ rng.standard_normal(visual.shape[1]))
    base_value = np.exp(0.5 * (0.7 * readable + 0.7 * rng.standard_normal(len(visual))))
    good = _unit(0.4 * _unit(rng.standard_normal(d)) + 0.6 * _unit(visual @ _random_map(d, visual.shape[1], rng).T))
    looks = np.vstack([4 * visual @ visual_map.T, 4 * _unit(rng.standard_normal(d))])
    execution = np.vstack([9 * good, np.zeros(d)])

    content = {"visual": (looks, execution)}
    if "audio" in widths:
        a = widths["audio"]
        sounds = np.vstack([4 * audio @ _random_map(a, audio.shape[1], rng).T, 4 * _unit(rng.standard_normal(a))])
        fitting = np.tile(1.5 * _unit(rng.standard_normal(a)), (len(sounds), 1))
        fitting[-1] = 0
        content["audio"] = (sounds, fitting)
    if "flow" in widths:
        flow_map = _random_map(widths["flow"], d, rng)
        content["flow"] = (looks @ flow_map.T, execution @ flow_map.T)
    return World(base_value, visual_map, content)


def draw_performance(base_value: NDArray, clips: int, rng: np.random.Generator) -> DrawnPerformance:
    """Draw one performance of so many clips of the actions with these base values (M,)."""
    actions = len(base_value)
    strength = rng.standard_normal()
    n = min(int(rng.integers(7, 12, endpoint=True)), actions, clips)
    harder = np.exp(DARING * strength * _standardised(np.log(base_value)))
    elements = rng.choice(actions, size=n, replace=False, p=harder / harder.sum())
    q = np.clip(0.5 + 0.18 * (0.6 * strength + 0.8 * rng.standard_normal(n)), 0, 1)
    fit = (rng.random(n) < 1 / (1 + np.exp(-MUSICALITY * strength))).astype(np.int64)
    other = (elements + rng.integers(1, actions, size=n)) % actions
    music = np.where(fit == 1, elements, other)

    return lay_out(elements, music, fit, q, np.arange(n), clips=clips, share=40, rng=rng)


def lay_out(
    actions: NDArray[np.int64],
    music: NDArray[np.int64],
    fit: NDArray[np.int64],
    q: NDArray[np.float64],
    element: NDArray[np.int64],
    *,
    clips: int,
    share: int,
    rng: np.random.Generator,
) -> DrawnPerformance:
    """Spread n actions in their order over the clips, with transitions between elements.

    Args:
        actions: what is done (n,). music, fit, q: of each action, as `DrawnPerformance` has them.
        element: (n,) ascending from 0, the element that each action belongs to.
        clips: T. share: an action lasts 2 or 3 clips of so many, or one.
    """
    n, elements = len(actions), int(element[-1]) + 1
    # Rounded down, so that clips are left for transitions.
    long = np.maximum(1, rng.integers(2, 3, size=n, endpoint=True) * clips // share)
    gaps = rng.multinomial(clips - long.sum(), np.full(elements + 1, 1 / (elements + 1)))
    shown = np.full(clips, -1)
    begin = 0
    for i in range(n):
        begin += gaps[element[i]] if i == 0 or element[i] != element[i - 1] else 0
        shown[begin : begin + long[i]] = i
        begin += long[i]

    def by_clip(values: NDArray, transition: float) -> NDArray:
        return np.append(values, np.asarray(transition, dtype=values.dtype))[shown]

    return DrawnPerformance(
        by_clip(actions, -1), by_clip(music, -1), by_clip(fit, -1), by_clip(q, np.nan), actions, q, fit
    )


def qualities(performances: Sequence[DrawnPerformance], base_value: NDArray) -> tuple[NDArray, NDArray]:
    """The technical and the component quality (n,) of all performances."""
    technical = [float((base_value[p.elements] * (0.4 + 1.2 * p.element_q)).sum()) for p in performances]
    component = [
        0.6 * p.element_q.mean() + 0.2 * p.element_fit.mean() + 0.2 * (p.element_q * p.element_fit).mean()
        for p in performances
    ]
    return np.asarray(technical), np.asarray(component)


def render(world: World, performances: Sequence[DrawnPerformance], rng: np.random.Generator) -> dict[str, ClipFeatures]:
    """The features of all performances, by modality."""
    offsets = np.cumsum([0] + [len(performance.action) for performance in performances])
    features = {}
    for key, (content, bonus) in world.content.items():
        content, bonus = content.astype(np.float32), bonus.astype(np.float32)
        nuisance = _unit(rng.standard_normal((8, content.shape[1]))).astype(np.float32)
        rows = np.empty((offsets[-1], content.shape[1]), dtype=np.float32)
        for performance, begin, end in zip(performances, offsets[:-1], offsets[1:], strict=True):
            by_music = (performance.music_action, performance.fit)
            action, value = by_music if key == "audio" else (performance.action, performance.q)
            clips = rng.standard_normal(dtype=np.float32, out=rows[begin:end])
            clips += content[action]
            clips += np.nan_to_num(value - 0.5).astype(np.float32)[:, None] * bonus[action]
            clips += 3 * rng.standard_normal(8, dtype=np.float32) @ nuisance
        features[key] = ClipFeatures(on_grid(rows), offsets)
    return features


def _random_map(to: int, width: int, rng: np.random.Generator) -> NDArray:
    """A map (to, width) that keeps lengths on average."""
    return rng.standard_normal((to, width)) / np.sqrt(to)


def _unit(vectors: NDArray) -> NDArray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _standardised(values: NDArray) -> NDArray:
    return (values - values.mean()) / values.std()
