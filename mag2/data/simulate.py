"""Simulated performances: features and scores with a known cause, in the released layout of a dataset.

They exercise the whole pipeline where no features can be had, and give controls something to bite on. They
prove nothing about numbers measured on real performances; whatever is made from them is marked as simulated.

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
N(0, I) noise. How the two qualities become scores is a dataset's own affair, and stands in the dataset's file.

An aligned simulation keeps A_v orthonormal and has a fourth modality, visual clips @ A_v: features in the space of the
texts e_k, as CLIP's of images are. Noise on that map makes them name fewer of the planted actions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.fs1000 import FS1000
from mag2.data.labels import Example
from mag2.data.layout import GRID, Layout, ScoreSheet, start_folder
from mag2.data.logo import LOGO
from mag2.data.performances import VISION_LANGUAGE, Dataset, assemble, crop_starts
from mag2.data.reading import want_target
from mag2.data.rg import RG
from mag2.data.targets import SCALES

# The dataset that a sport is simulated as, unless another is asked for.
LAYOUTS: dict[str, Layout] = {layout.sport: layout for layout in (FS1000(), RG(), LOGO())}

# How closely strength decides what a skater tries and how well the music is met. Set so that technical and
# component scores correlate by about 0.8 (0.84 in Fis-V).
DARING = 0.75
MUSICALITY = 1.0


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
        layout: the dataset that they are simulated as.
        seed: what all of it was drawn from.
        n_train: how many of the n videos, the first ones, are for training.
        sheet: the videos' names and scores.
        features: ClipFeatures of each modality.
        technical: (n,) the technical quality.
        component: (n,) the component quality.
        action: for each video (T,) integers, the action of each clip, -1 in transitions.
        fit: for each video (T,) integers, 1 where the music fits, 0 where not, -1 in transitions.
        q: for each video (T,) floats, the execution in [0, 1], NaN in transitions.
        texts: (M, Dt) float32, the centred unit vectors e_k.
        visual_map: (D, Dt) float32 with orthonormal columns where the simulation is aligned, else None:
            `clips @ visual_map` lies in the space of `texts`, as CLIP's images lie in that of its texts.
        top1: how many of the planted actions the vision_language features name, as a share of those in the test
            split's crops, where they were spoilt; else None.
    """

    layout: Layout
    seed: int
    n_train: int
    sheet: ScoreSheet
    features: dict[str, ClipFeatures]
    technical: NDArray[np.float64]
    component: NDArray[np.float64]
    action: list[NDArray[np.int64]]
    fit: list[NDArray[np.int64]]
    q: list[NDArray[np.float64]]
    texts: Tensor
    visual_map: Tensor | None
    top1: float | None = None

    @property
    def sport(self) -> str:
        """Whose action texts the performances are made of."""
        return self.layout.sport

    @property
    def names(self) -> list[str]:
        """The n videos' names."""
        return self.sheet.names

    @property
    def scores(self) -> dict[str, list[float]]:
        """For each column of the label files n numbers as they stand there; FS1000's PCS with its factor."""
        return self.sheet.scores

    @property
    def factor(self) -> list[float]:
        """The n program factors; ones where the dataset has none."""
        return self.scores.get("factor", [1.0] * len(self.names))

    def dataset(self, target: str, clips: int | None = None) -> Dataset:
        """The performances as the dataset's loader would give them once written; always marked as simulated.

        Args:
            target: a target of the dataset.
            clips: the length of every crop; that of the loader by default.
        """
        name = self.layout.name
        want_target(name, target)
        videos = self.layout.videos(self.sheet, target)
        examples = []
        for video in videos:
            where = f"simulated {self.names[video]}"
            examples.append(Example(self.names[video], self.layout.label(self.sheet, target, video, where), where))
        border = sum(video < self.n_train for video in videos)
        return assemble(
            name,
            target,
            scale=SCALES[name][target],
            clips=self.layout.clips if clips is None else clips,
            train=examples[:border],
            test=examples[border:],
            features={key: self._chosen(part, videos) for key, part in self.features.items()},
            simulated=True,
        )

    def planted_actions(self, split: str, clips: int | None = None, *, target: str | None = None) -> Tensor:
        """The planted actions in a split's centre crops (n, clips), -1 in transitions and padding.

        Args:
            split: "train" or "test".
            clips: the length of the crops; that of the loader by default.
            target: the rows are those of `dataset(target)`. To be given where targets have videos of their own,
                as RG's have; all videos of the split otherwise.
        """
        splits = {"train": range(self.n_train), "test": range(self.n_train, len(self.names))}
        if split not in splits:
            raise ValueError(f"planted_actions wants 'train' or 'test', got {split!r}")
        if target is not None:
            want_target(self.layout.name, target)
        clips = self.layout.clips if clips is None else clips
        wanted = range(len(self.names)) if target is None else self.layout.videos(self.sheet, target)
        videos = [self.action[video] for video in wanted if video in splits[split]]
        starts = crop_starts(np.asarray([len(video) for video in videos], dtype=np.int64), clips)
        planted = torch.full((len(videos), clips), -1)
        for row, video, start in zip(planted, videos, starts.tolist(), strict=True):
            crop = video[start : start + clips]
            row[: len(crop)] = torch.from_numpy(crop)
        return planted

    def spoilt_map(self, top1: float, clips: int | None = None) -> tuple[Tensor, float]:
        """A map (D, Dt) to the space of the texts that names a smaller share of the planted actions, and that share.

        It is the `visual_map` with noise, the same direction for every share, found by bisection; an action is named
        where its text has the highest cosine with the mapped clip.

        Args:
            top1: the share of the planted actions in the test split's centre crops, above chance.
            clips: the length of these crops; that of the loader by default.

        Raises:
            ValueError: the simulation is not aligned, or names fewer already.
        """
        if self.visual_map is None:
            raise ValueError("only aligned simulations have a map to spoil: simulate with aligned=True")
        planted = self.planted_actions("test", clips)
        known = planted[planted >= 0]
        clean = self.visual_map
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(self.seed))
        # What a clip has in common with each text, through the map and through the noise: n planted clips, M texts.
        there = self._centre_crops("test", planted.shape[1])[planted >= 0]
        right, wrong = there @ clean @ self.texts.T, there @ noise @ self.texts.T

        def named(amount: float) -> float:
            return ((right + amount * wrong).argmax(dim=1) == known).double().mean().item()

        chance, best = 1 / len(self.texts), named(0.0)
        if not chance < top1 <= best:
            raise ValueError(f"top1 is a share above chance, {chance:.3f}, and up to {best:.3f} here, got {top1}")
        low, high, middle = 0.0, 2.0, 0.0  # more noise names fewer
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (middle, high) if named(middle) > top1 else (low, middle)
        return clean + middle * noise, named(middle)

    def seen_through(self, visual_map: Tensor, top1: float | None = None) -> "Simulation":
        """The same simulation whose vision_language features are the visual clips @ `visual_map` (D, Dt).

        Args:
            visual_map: see above.
            top1: the share of planted actions that they name, to be told with them.
        """
        visual = self.features["visual"]
        videos = [_on_grid((visual.video(i) @ visual_map).numpy()) for i in range(len(visual))]
        return replace(self, features={**self.features, VISION_LANGUAGE: ClipFeatures.stack(videos)}, top1=top1)

    def write(self, folder: str | Path, variant: str | None = None) -> None:
        """Write the performances in the dataset's released layout; its loader reads exactly them.

        `SIMULATED.txt` says what the folder is, and is written first.

        Args:
            folder: a new or empty one, or one of an older simulation, whose features are removed.
            variant: "files", one file per video, or "dict", one file per modality; the dataset's first by default.

        Raises:
            ValueError: the dataset has no such variant.
            DataError: the folder holds files that no simulation has written.
        """
        variants = self.layout.variants
        if variant is not None and variant not in variants:
            raise ValueError(f"{self.layout.name} has no variant {variant!r}: choose one of {', '.join(variants)}")
        folder = Path(folder)
        start_folder(folder, self._description(), self.layout.places)
        self.layout.write(
            folder,
            self.sheet,
            self.features,
            train=self.n_train,
            variant=variant or variants[0],
            rng=np.random.default_rng(self.seed),
        )

    def write_fs1000(self, folder: str | Path) -> None:
        """Write the performances in FS1000's released layout; DataError where they are those of another dataset."""
        if self.layout.name != FS1000.name:
            raise DataError(f"these are performances of {self.layout.name}, not {FS1000.name}: call write() for them")
        self.write(folder)

    def _centre_crops(self, split: str, clips: int) -> Tensor:
        """The visual clips (n, clips, D) in the crops of `planted_actions`."""
        videos = torch.arange(self.n_train) if split == "train" else torch.arange(self.n_train, len(self.names))
        visual = self.features["visual"]
        return visual.crop(videos, clips, crop_starts(visual.lengths[videos.numpy()], clips))

    def _chosen(self, part: ClipFeatures, videos: list[int]) -> ClipFeatures:
        if len(videos) == len(self.names):
            return part
        return ClipFeatures.stack([part.video(video).numpy() for video in videos])

    def _description(self) -> str:
        if self.sheet.real:
            what = "real labels, simulated features"
            scores = f"The scores and the split are real, those of {self.layout.name}; the features belong to no video."
        else:
            what = "no athlete, no video, no judge"
            scores = "The scores were drawn with them."
        return (
            f"SIMULATED: {what}.\n\n"
            f"These files have the layout of {self.layout.name}. The features in them were drawn by\n"
            f"mag2.data.simulate to try out programs. {scores}\n"
            "They prove nothing about sport or about published results.\n\n"
            f"sport {self.sport}, seed {self.seed}, "
            f"{self.n_train} videos for training and {len(self.names) - self.n_train} for testing, "
            f"{self._alignment()}\n"
        )

    def _alignment(self) -> str:
        if VISION_LANGUAGE not in self.features:
            return "not aligned"
        share = "" if self.top1 is None else f", which names {self.top1:.0%} of the planted actions in test"
        return f"aligned: vision_language lies in the space of the visual texts{share}"


def simulate(
    texts: Texts,
    *,
    sport: str | None = None,
    layout: Layout | None = None,
    train: int = 480,
    test: int = 200,
    length: tuple[int, int] | None = None,
    seed: int = 0,
    widths: Mapping[str, int] | None = None,
    aligned: bool = False,
    top1: float | None = None,
) -> Simulation:
    """Draw performances whose features and scores follow from planted actions, executions and music.

    Everything comes from the seed; no global random state is read or changed.

    Args:
        texts: the actions' text features, `.visual` (M, Dt) and `.audio` (M, Da).
        sport: whose they are: "figure_skating" (the default) is simulated as FS1000, "rhythmic_gymnastics" as RG,
            "artistic_swimming" as LOGO.
        layout: another dataset to simulate, with the sport that it has.
        train: videos for training; 480 and 200 are the sizes the simulator was measured at.
        test: videos for testing, drawn from the same world.
        length: fewest and most clips per video, every length between being as likely; by default about as
            long as the dataset's crops.
        seed: decides the maps, the performances and the noise.
        widths: of the features of each modality; by default those of the released ones. "flow" may be left out.
        aligned: give A_v orthonormal columns and hand it over, so that clips can be compared with the texts, and give
            the performances vision_language features (T, Dt) through it.
        top1: spoil these until they name about this share of the planted actions (`Simulation.spoilt_map`); not at
            all by default. For aligned simulations.

    Raises:
        ValueError: a sport, texts, sizes or widths that do not fit; the sentence says which.
    """
    if top1 is not None and not aligned:
        raise ValueError("top1 is for aligned simulations, whose features name actions: simulate with aligned=True")
    layout = _layout(sport, layout)
    length = layout.length if length is None else length
    widths = layout.widths if widths is None else widths
    _check_sizes(train, test, length, widths, layout)
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
    technical, component = _qualities(shows, world.base_value)
    sheet = layout.judge(technical, component, train, rng)
    order = np.arange(len(shows)) if sheet.shows is None else sheet.shows
    shows = [shows[show] for show in order]
    simulation = Simulation(
        layout=layout,
        seed=seed,
        n_train=train,
        sheet=sheet,
        features=_render(world, shows, rng),
        technical=technical[order],
        component=component[order],
        action=[show.action for show in shows],
        fit=[show.fit for show in shows],
        q=[show.q for show in shows],
        texts=torch.from_numpy(visual.astype(np.float32)),
        visual_map=torch.from_numpy(world.visual_map.astype(np.float32)) if aligned else None,
    )
    if simulation.visual_map is None:
        return simulation
    visual_map, named = (simulation.visual_map, None) if top1 is None else simulation.spoilt_map(top1)
    return simulation.seen_through(visual_map, named)


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

    content = {"visual": (seen, execution)}
    if "audio" in widths:
        a = widths["audio"]
        heard = np.vstack([4 * audio @ _random_map(a, audio.shape[1], rng).T, 4 * _unit(rng.standard_normal(a))])
        fitting = np.tile(1.5 * _unit(rng.standard_normal(a)), (len(heard), 1))
        fitting[-1] = 0
        content["audio"] = (heard, fitting)
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


def _qualities(shows: list[_Show], base_value: NDArray) -> tuple[NDArray, NDArray]:
    """The technical and the component quality (n,) of all performances."""
    technical = [float((base_value[s.elements] * (0.4 + 1.2 * s.element_q)).sum()) for s in shows]
    component = [
        0.6 * s.element_q.mean() + 0.2 * s.element_fit.mean() + 0.2 * (s.element_q * s.element_fit).mean()
        for s in shows
    ]
    return np.asarray(technical), np.asarray(component)


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
        features[key] = ClipFeatures(_on_grid(rows), offsets)
    return features


def _on_grid(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows themselves, rounded to the grid in place."""
    rows *= GRID
    np.rint(rows, out=rows)
    rows /= GRID
    rows += 0  # -0.0 becomes 0.0, as it would when two crops are averaged
    return rows


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


def _layout(sport: str | None, layout: Layout | None) -> Layout:
    if layout is None:
        sport = "figure_skating" if sport is None else sport
        if sport not in LAYOUTS:
            raise ValueError(f"no dataset of {sport!r} is simulated; there are {', '.join(LAYOUTS)}")
        return LAYOUTS[sport]
    if sport not in (None, layout.sport):
        raise ValueError(f"{layout.name} is of {layout.sport}, got the sport {sport!r}: leave it out")
    return layout


def _check_sizes(train: int, test: int, length: tuple[int, int], widths: Mapping[str, int], layout: Layout) -> None:
    if train < 1 or test < 1:
        raise ValueError(f"simulate wants 1 or more videos in train and test, got {train} and {test}")
    if not 1 <= length[0] <= length[1]:
        raise ValueError(f"length is the fewest and most clips of a video, from 1 up, got {length}")
    needed = [key for key in layout.widths if key != "flow"]
    if not set(needed) <= set(widths) <= set(layout.widths):
        flow = ", and may have flow" if "flow" in layout.widths else ""
        raise ValueError(f"widths of {layout.name} wants {' and '.join(needed)}{flow}, got {sorted(widths)}")


def _random_map(to: int, width: int, rng: np.random.Generator) -> NDArray:
    """A map (to, width) that keeps lengths on average."""
    return rng.standard_normal((to, width)) / np.sqrt(to)


def _unit(vectors: NDArray) -> NDArray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _standardised(values: NDArray) -> NDArray:
    return (values - values.mean()) / values.std()
