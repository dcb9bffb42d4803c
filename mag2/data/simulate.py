"""Simulated performances: features and scores with a known cause, in FS1000's released layout.

They exercise the whole pipeline where no features can be had, and give controls something to bite on. They
prove nothing about numbers measured on real skating; whatever is made from them is marked as simulated.

A performance is a strength s, and 7 to 12 different elements with transitions between. Element k is done with
execution q = clip(0.5 + 0.18 (0.6 s + 0.8 eps), 0, 1) and with music that fits or not. With e_k and c_k the
centred, unit-normed visual and audio texts of action k:

    visual clip  4 A_v e_k + 9 (q - 0.5) g_k                       in transitions a fixed vector
    audio clip   4 A_a c_k (of another action where the music does not fit) + 1.5 (fit - 0.5) h_0, likewise
    flow clip    F (4 A_v e_k + 9 (q - 0.5) g_k): a third random map of the same content, for PAMFN
    technical    sum b_k (0.4 + 1.2 q)
    component    0.6 mean q + 0.2 mean fit + 0.2 mean (q fit); the five marks are noisy views of it

A_v, A_a, F are random maps, g_k = unit(0.4 g_0 + 0.6 unit(G e_k)) is the direction of good execution and b_k
a base value. Every modality gets its own nuisance, constant within a video (rank 8, std 3), and its own
N(0, I) noise. Scores are mapped by rank onto the range of the target.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.fs1000 import COLUMNS, NAME, SIMULATED, TEST, TRAIN, fs1000_label
from mag2.data.labels import Example
from mag2.data.performances import Dataset, assemble, crop_starts
from mag2.data.targets import SCALES, TARGETS

WIDTHS = {"visual": 768, "audio": 768, "flow": 1024}
FOLDERS = {"visual": "video", "audio": "audio", "flow": "flow"}

# Features lie on this grid, on which adding and averaging the two written crops is exact in float32.
GRID = 4096.0

# How closely strength decides what a skater tries and how well the music is met. Set so that TES and PCS
# correlate by about 0.8 (0.83 in Fis-V).
DARING = 0.75
MUSICALITY = 1.0

# Invented, with what real competitions show in mind: scores lie well within their scales (TES 130, marks 10),
# TES has its tail upwards and marks theirs downwards. low + (high - low) Beta(a, b).
TES_RANGE = (18.0, 122.0, 2.2, 3.4)
MARK_RANGES = {
    "SS": (3.2, 9.8, 4.0, 2.6),
    "TR": (2.7, 9.7, 4.0, 2.6),
    "PE": (3.0, 9.9, 4.0, 2.6),
    "CO": (3.1, 9.9, 4.0, 2.6),
    "IN": (2.9, 9.9, 4.0, 2.6),
}
MARK_NOISE = 0.3  # of the component score's standard deviation
FACTORS = (0.8, 1.0, 1.6, 2.0)  # short programs and free skatings, of women and men


class Texts(Protocol):
    """Whatever has `.visual` (M, Dt) and `.audio` (M, Dt), the text features of M actions."""

    @property
    def visual(self) -> Tensor: ...  # noqa: D102

    @property
    def audio(self) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Simulation:
    """Simulated performances and everything that was planted in them; lists go over train, then test.

    Attributes:
        sport: whose vocabulary the texts are.
        seed: what all of it was drawn from.
        names: of n videos, the first `n_train` of which are for training.
        features: ClipFeatures of each modality.
        scores: for each of the seven FS1000 targets n scores as the label file has them, PCS with its factor.
        factor: n program factors.
        action: for each video (T,) integers, the action of each clip, -1 in transitions.
        fit: for each video (T,) integers, 1 where the music fits, 0 where not, -1 in transitions.
        q: for each video (T,) floats, the execution in [0, 1], NaN in transitions.
        texts: (M, Dt) float32, the centred unit vectors e_k.
        visual_map: (D, Dt) float32 with orthonormal columns where the simulation is aligned, else None:
            `clips @ visual_map` lies in the space of `texts`, as CLIP's images lie in that of its texts.
    """

    sport: str
    seed: int
    n_train: int
    names: list[str]
    features: dict[str, ClipFeatures]
    scores: dict[str, list[float]]
    factor: list[float]
    action: list[NDArray[np.int64]]
    fit: list[NDArray[np.int64]]
    q: list[NDArray[np.float64]]
    texts: Tensor
    visual_map: Tensor | None

    def dataset(self, target: str, clips: int = 95) -> Dataset:
        """The performances as `read_fs1000` would give them once written; always marked as simulated."""
        if target not in TARGETS[NAME]:
            raise DataError(f"{NAME} has no target {target!r}: choose one of {', '.join(TARGETS[NAME])}")
        examples = [
            Example(name, fs1000_label(target, score, factor, where=where), where)
            for name, score, factor, where in zip(
                self.names,
                self.scores[target],
                self.factor,
                map("simulated {}".format, self.names),
                strict=True,
            )
        ]
        return assemble(
            NAME,
            target,
            scale=SCALES[NAME][target],
            clips=clips,
            train=examples[: self.n_train],
            test=examples[self.n_train :],
            features=self.features,
            simulated=True,
        )

    def planted_actions(self, split: str, clips: int = 95) -> Tensor:
        """The planted actions in a split's centre crops (n, clips), -1 in transitions and padding."""
        splits = {"train": slice(0, self.n_train), "test": slice(self.n_train, None)}
        if split not in splits:
            raise ValueError(f"planted_actions wants 'train' or 'test', got {split!r}")
        videos = self.action[splits[split]]
        starts = crop_starts(np.asarray([len(video) for video in videos], dtype=np.int64), clips)
        planted = torch.full((len(videos), clips), -1)
        for row, video, start in zip(planted, videos, starts.tolist(), strict=True):
            crop = video[start : start + clips]
            row[: len(crop)] = torch.from_numpy(crop)
        return planted

    def write_fs1000(self, folder: str | Path) -> None:
        """Write the performances in FS1000's released layout; `read_fs1000` reads exactly them.

        Visual features are written as two crops per clip, whose average is the clip. `SIMULATED.txt` says
        what the folder is, and is written first.

        Raises:
            DataError: the folder holds files that no simulation has written.
        """
        folder = Path(folder)
        if folder.is_dir() and any(folder.iterdir()) and not (folder / SIMULATED).is_file():
            raise DataError(f"{folder} holds other files: give a new or empty folder to the simulation")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SIMULATED).write_text(self._description(), encoding="utf-8")
        self._write_labels(folder / TRAIN, range(self.n_train))
        self._write_labels(folder / TEST, range(self.n_train, len(self.names)))
        rng = np.random.default_rng(self.seed)
        for key, features in self.features.items():
            (folder / FOLDERS[key]).mkdir(exist_ok=True)
            for index, name in enumerate(self.names):
                clips = features.video(index).numpy()
                array = _two_crops(clips, rng) if key == "visual" else clips
                np.save(folder / FOLDERS[key] / f"{name}.npy", array)

    def _write_labels(self, path: Path, videos: range) -> None:
        # repr is the shortest text that parses back to the same float.
        rows = [
            [self.names[i], *(repr(self.scores[key][i]) for key in TARGETS[NAME]), repr(self.factor[i])] for i in videos
        ]
        assert all(len(row) == len(COLUMNS) for row in rows)
        path.write_text("".join(" ".join(row) + "\n" for row in rows), encoding="utf-8")

    def _description(self) -> str:
        return (
            "SIMULATED: no skater, no video, no judge.\n\n"
            "These files have the layout of FS1000. The numbers in them were drawn by mag2.data.simulate\n"
            "to try out programs. They prove nothing about skating or about published results.\n\n"
            f"sport {self.sport}, seed {self.seed}, "
            f"{self.n_train} videos for training and {len(self.names) - self.n_train} for testing, "
            f"{'not aligned' if self.visual_map is None else 'aligned'}\n"
        )


def simulate(
    texts: Texts,
    *,
    sport: str = "figure_skating",
    train: int = 480,
    test: int = 200,
    length: tuple[int, int] = (80, 110),
    seed: int = 0,
    widths: Mapping[str, int] = WIDTHS,
    aligned: bool = False,
) -> Simulation:
    """Draw performances whose features and scores follow from planted actions, executions and music.

    Everything comes from the seed; no global random state is read or changed.

    Args:
        texts: the actions' text features, `.visual` (M, Dt) and `.audio` (M, Da).
        sport: whose vocabulary they are; recorded, nothing depends on it.
        train: videos for training; 480 and 200 are the sizes the simulator was measured at.
        test: videos for testing, drawn from the same world.
        length: fewest and most clips per video, every length between being as likely.
        seed: decides the maps, the skaters and the noise.
        widths: of "visual", "audio" and, unless left out, "flow" features; the released 768, 768 and 1024.
        aligned: give A_v orthonormal columns and hand it over, so that clips can be compared with the texts.

    Raises:
        ValueError: texts, sizes or widths that do not fit; the sentence says which.
    """
    _check_sizes(train, test, length, widths)
    visual, audio = _directions(texts.visual, "visual"), _directions(texts.audio, "audio")
    if len(visual) != len(audio) or len(visual) < 2:
        raise ValueError(
            f"simulate wants visual and audio texts of the same 2 or more actions, got {len(visual)} and {len(audio)}"
        )
    if aligned and widths["visual"] < visual.shape[1]:
        raise ValueError(
            f"aligned features are at least as wide as the texts, {visual.shape[1]}, got {widths['visual']}"
        )
    rng = np.random.default_rng(seed)
    world = _draw_world(visual, audio, widths, aligned, rng)
    lengths = rng.integers(length[0], length[1], size=train + test, endpoint=True)
    shows = [_perform(world.base_value, int(clips), rng) for clips in lengths]
    scores, factor = _scores(shows, world.base_value, rng)
    return Simulation(
        sport=sport,
        seed=seed,
        n_train=train,
        names=[f"simulated_{i:04d}" for i in range(train + test)],
        features=_render(world, shows, rng),
        scores=scores,
        factor=factor,
        action=[show.action for show in shows],
        fit=[show.fit for show in shows],
        q=[show.q for show in shows],
        texts=torch.from_numpy(visual.astype(np.float32)),
        visual_map=torch.from_numpy(world.visual_map.astype(np.float32)) if aligned else None,
    )


@dataclass(frozen=True)
class _World:
    """What all performances share. Tables have a row per action and a last one, index -1, for transitions."""

    base_value: NDArray  # (M,)
    visual_map: NDArray  # (D, Dt)
    # For each modality: what an action looks or sounds like, and what good execution or fitting music adds.
    content: dict[str, tuple[NDArray, NDArray]]


@dataclass(frozen=True)
class _Show:
    """One performance: clip by clip, and element by element."""

    action: NDArray[np.int64]  # (T,)
    heard: NDArray[np.int64]  # (T,) the action that the music is about
    fit: NDArray[np.int64]  # (T,)
    q: NDArray[np.float64]  # (T,)
    elements: NDArray[np.int64]  # (n,)
    element_q: NDArray[np.float64]  # (n,)
    element_fit: NDArray[np.int64]  # (n,)


def _draw_world(
    visual: NDArray, audio: NDArray, widths: Mapping[str, int], aligned: bool, rng: np.random.Generator
) -> _World:
    d = widths["visual"]
    visual_map = _random_map(d, visual.shape[1], rng)
    if aligned:  # the same draws, so that nothing else changes
        visual_map = np.linalg.qr(visual_map)[0]
    readable = _standardised(visual @ rng.standard_normal(visual.shape[1]))
    base_value = np.exp(0.5 * (0.7 * readable + 0.7 * rng.standard_normal(len(visual))))
    good = _unit(0.4 * _unit(rng.standard_normal(d)) + 0.6 * _unit(visual @ _random_map(d, visual.shape[1], rng).T))
    seen = np.vstack([4 * visual @ visual_map.T, 4 * _unit(rng.standard_normal(d))])
    execution = np.vstack([9 * good, np.zeros(d)])

    a = widths["audio"]
    heard = np.vstack([4 * audio @ _random_map(a, audio.shape[1], rng).T, 4 * _unit(rng.standard_normal(a))])
    fitting = np.tile(1.5 * _unit(rng.standard_normal(a)), (len(heard), 1))
    fitting[-1] = 0

    content = {"visual": (seen, execution), "audio": (heard, fitting)}
    if "flow" in widths:
        flow_map = _random_map(widths["flow"], d, rng)
        content["flow"] = (seen @ flow_map.T, execution @ flow_map.T)
    return _World(base_value, visual_map, content)


def _perform(base_value: NDArray, clips: int, rng: np.random.Generator) -> _Show:
    actions = len(base_value)
    strength = rng.standard_normal()
    n = min(int(rng.integers(7, 12, endpoint=True)), actions, clips)
    harder = np.exp(DARING * strength * _standardised(np.log(base_value)))
    elements = rng.choice(actions, size=n, replace=False, p=harder / harder.sum())
    q = np.clip(0.5 + 0.18 * (0.6 * strength + 0.8 * rng.standard_normal(n)), 0, 1)
    fit = (rng.random(n) < 1 / (1 + np.exp(-MUSICALITY * strength))).astype(np.int64)
    other = (elements + rng.integers(1, actions, size=n)) % actions
    heard = np.where(fit == 1, elements, other)

    # 2 or 3 clips of 40; rounded down, they always leave room for transitions.
    long = np.maximum(1, rng.integers(2, 3, size=n, endpoint=True) * clips // 40)
    gaps = rng.multinomial(clips - long.sum(), np.full(n + 1, 1 / (n + 1)))
    element = np.full(clips, -1)
    begin = 0
    for i in range(n):
        begin += gaps[i]
        element[begin : begin + long[i]] = i
        begin += long[i]

    def by_clip(values: NDArray, transition: float) -> NDArray:
        return np.append(values, np.asarray(transition, dtype=values.dtype))[element]

    return _Show(by_clip(elements, -1), by_clip(heard, -1), by_clip(fit, -1), by_clip(q, np.nan), elements, q, fit)


def _scores(
    shows: list[_Show], base_value: NDArray, rng: np.random.Generator
) -> tuple[dict[str, list[float]], list[float]]:
    technical = [float((base_value[s.elements] * (0.4 + 1.2 * s.element_q)).sum()) for s in shows]
    component = np.asarray(
        [
            0.6 * s.element_q.mean() + 0.2 * s.element_fit.mean() + 0.2 * (s.element_q * s.element_fit).mean()
            for s in shows
        ]
    )
    spread = MARK_NOISE * component.std()
    marks = {
        key: _by_rank(component + spread * rng.standard_normal(len(shows)), span) for key, span in MARK_RANGES.items()
    }
    factor = [float(value) for value in rng.choice(FACTORS, size=len(shows))]
    # The judges' rule: the marks are summed, then multiplied by the factor of the program.
    pcs = [round(sum(mark) * f, 2) for mark, f in zip(zip(*marks.values(), strict=True), factor, strict=True)]
    return {"TES": _by_rank(np.asarray(technical), TES_RANGE), "PCS": pcs, **marks}, factor


def _render(world: _World, shows: list[_Show], rng: np.random.Generator) -> dict[str, ClipFeatures]:
    offsets = np.cumsum([0] + [len(show.action) for show in shows])
    features = {}
    for key, (content, bonus) in world.content.items():
        content, bonus = content.astype(np.float32), bonus.astype(np.float32)
        nuisance = _unit(rng.standard_normal((8, content.shape[1]))).astype(np.float32)
        rows = np.empty((offsets[-1], content.shape[1]), dtype=np.float32)
        for show, begin, end in zip(shows, offsets[:-1], offsets[1:], strict=True):
            action, value = (show.heard, show.fit) if key == "audio" else (show.action, show.q)
            clips = rng.standard_normal(dtype=np.float32, out=rows[begin:end])
            clips += content[action]
            clips += np.nan_to_num(value - 0.5).astype(np.float32)[:, None] * bonus[action]
            clips += 3 * rng.standard_normal(8, dtype=np.float32) @ nuisance
        rows *= GRID
        np.rint(rows, out=rows)
        rows /= GRID
        rows += 0  # -0.0 becomes 0.0, as it would when two crops are averaged
        features[key] = ClipFeatures(rows, offsets)
    return features


def _two_crops(clips: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Two different crops (T, 2, D) of every clip, on the grid, with exactly the clip as their mean."""
    apart = np.rint(0.3 * GRID * rng.standard_normal(clips.shape, dtype=np.float32)) / np.float32(GRID)
    return np.stack([clips + apart, clips - apart], axis=1)


def _by_rank(values: NDArray, span: tuple[float, float, float, float]) -> list[float]:
    """The values' ranks as quantiles of low + (high - low) Beta(a, b), to two decimals as judges publish."""
    low, high, a, b = span
    rank = np.empty(len(values))
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    quantile = betaincinv(a, b, (rank + 0.5) / len(values))
    # Python's round gives the float nearest to the decimal, which is the float that its text parses to.
    return [round(float(value), 2) for value in low + (high - low) * quantile]


def _directions(texts: Tensor, what: str) -> NDArray:
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


def _check_sizes(train: int, test: int, length: tuple[int, int], widths: Mapping[str, int]) -> None:
    if train < 1 or test < 1:
        raise ValueError(f"simulate wants 1 or more videos in train and test, got {train} and {test}")
    if not 1 <= length[0] <= length[1]:
        raise ValueError(f"length is the fewest and most clips of a video, from 1 up, got {length}")
    if not {"visual", "audio"} <= set(widths) <= set(WIDTHS):
        raise ValueError(f"widths wants visual and audio, and may have flow, got {sorted(widths)}")


def _random_map(to: int, width: int, rng: np.random.Generator) -> NDArray:
    """A map (to, width) that keeps lengths on average."""
    return rng.standard_normal((to, width)) / np.sqrt(to)


def _unit(vectors: NDArray) -> NDArray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _standardised(values: NDArray) -> NDArray:
    return (values - values.mean()) / values.std()
