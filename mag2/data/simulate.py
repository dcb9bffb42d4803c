"""Simulate performances: features and scores with a known cause, in the files of a dataset.

They test the whole pipeline where no features are available, and on them the controls can differ. They prove nothing
about real performances; everything made from them is marked as simulated.

`mag2.data.drawing` has the formulas, `mag2.data.simulation` the result.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mag2.data.drawing import (
    DrawnPerformance,
    World,
    draw_performance,
    draw_world,
    qualities,
    render,
    text_directions,
)
from mag2.data.drawing_around import draw_around
from mag2.data.fisv import FisV
from mag2.data.fisv_programmes import FisVProgrammes
from mag2.data.programme import Programme
from mag2.data.registry import DATASETS
from mag2.data.simulatable import ScoreSheet, SimulatableSpec
from mag2.data.simulation import Simulation
from mag2.data.spec import DatasetSpec
from mag2.vocabulary import actions_of

__all__ = ["Texts", "simulatable", "simulate", "simulate_fisv"]


class Texts(Protocol):
    """Any object that has `.visual` (M, Dt) and `.audio` (M, Da), the text features of M actions."""

    @property
    def visual(self) -> Tensor: ...  # noqa: D102

    @property
    def audio(self) -> Tensor: ...  # noqa: D102


def simulate(
    texts: Texts,
    *,
    sport: str | None = None,
    spec: DatasetSpec | None = None,
    train: int | None = 480,
    test: int | None = 200,
    length: tuple[int, int] | None = None,
    seed: int = 0,
    widths: Mapping[str, int] | None = None,
    aligned: bool = False,
    top1: float | None = None,
) -> Simulation:
    """Draw performances whose features and scores follow from planted actions, executions and music.

    For a dataset of real programmes (`spec.programmes()`: ISU-simulated, `FisVProgrammes`) scores, actions, their order
    and their execution are real, and only features are drawn for them.

    All random numbers come from the seed; no global random state is read or changed.

    Args:
        texts: has the text features of the M actions, `.visual` (M, Dt) and `.audio` (M, Da); a `TextFeatures` does.
        sport: the sport of these actions: "figure_skating" (the default) is simulated as FS1000, "rhythmic_gymnastics"
            as RG, "artistic_swimming" as LOGO, "figure_skating_elements" as ISU-simulated.
        spec: the dataset to simulate, of `DATASETS` for example; instead of `sport`.
        train, test: numbers of videos for training and testing; 480 and 200, the sizes at which the simulator was
            measured. Of real programmes they are the largest numbers, spread evenly over all of them; None means all.
        length: smallest and largest number of clips of a video; all lengths between are equally likely. By default
            about the length of the dataset's crops.
        seed: seed of the maps, the performances and the noise.
        widths: width of the features of each modality; by default those of the released features. "flow" may be left
            out.
        aligned: True makes the map A_v from texts to clips orthonormal and returns it (`Simulation.visual_map`), so
            that clips can be compared with the texts; the performances then have vision_language features (T, Dt).
        top1: add noise to the vision_language features until they name about this share of the planted actions
            (`Simulation.spoilt_map`); no noise by default. For aligned simulations.

    Returns:
        A `Simulation`.

    Raises:
        ValueError: a sport or dataset that cannot be simulated, or texts, sizes or widths that do not fit it.
    """
    if top1 is not None and not aligned:
        raise ValueError("top1 is for aligned simulations, whose features name actions: simulate with aligned=True")
    spec = _spec(sport) if spec is None else simulatable(spec)
    if sport not in (None, spec.sport):
        raise ValueError(f"{spec.name} is of {spec.sport}, got the sport {sport!r}: leave it out")
    length = spec.length if length is None else length
    widths = spec.widths if widths is None else widths
    _check_sizes(train, test, length, widths, spec)
    visual, audio = text_directions(texts.visual, "visual"), text_directions(texts.audio, "audio")
    if len(visual) != len(audio) or len(visual) < 2:
        raise ValueError(
            f"simulate wants visual and audio texts of the same 2 or more actions, got {len(visual)} and {len(audio)}"
        )
    if aligned and widths["visual"] < visual.shape[1]:
        raise ValueError(
            f"aligned features are at least as wide as the texts, {visual.shape[1]}, got {widths['visual']}"
        )
    rng = np.random.default_rng(seed)
    world = draw_world(visual, audio, widths, aligned, rng)
    real = spec.programmes()
    if real is None:
        assert train is not None
        assert test is not None
        performances, sheet, technical, component = _invented(spec, world, train, test, length, rng)
    else:
        programmes = [*_spread(real[0], train), *_spread(real[1], test)]
        train = len(programmes) - len(_spread(real[1], test))
        performances, sheet, technical, component = _around(spec, programmes, len(visual), length, rng)
    simulation = Simulation(
        spec=spec,
        seed=seed,
        n_train=train,
        sheet=sheet,
        features=render(world, performances, rng),
        technical=technical,
        component=component,
        action=[performance.action for performance in performances],
        fit=[performance.fit for performance in performances],
        q=[performance.q for performance in performances],
        texts=torch.from_numpy(visual.astype(np.float32)),
        visual_map=torch.from_numpy(world.visual_map.astype(np.float32)) if aligned else None,
    )
    if simulation.visual_map is None:
        return simulation
    visual_map, named = (simulation.visual_map, None) if top1 is None else simulation.spoilt_map(top1)
    return simulation.with_vision_language(visual_map, named)


# Performances, their scores, their technical and their component quality.
_Drawn = tuple[list[DrawnPerformance], ScoreSheet, NDArray[np.float64], NDArray[np.float64]]


def _invented(
    spec: SimulatableSpec, world: World, train: int, test: int, length: tuple[int, int], rng: np.random.Generator
) -> _Drawn:
    """Drawn performances, judged by their qualities."""
    lengths = rng.integers(length[0], length[1], size=train + test, endpoint=True)
    performances = [draw_performance(world.base_value, int(clips), rng) for clips in lengths]
    technical, component = qualities(performances, world.base_value)
    sheet = spec.judge(technical, component, train, rng)
    order = np.arange(len(performances)) if sheet.performance_of is None else sheet.performance_of
    return [performances[number] for number in order], sheet, technical[order], component[order]


def _around(
    spec: SimulatableSpec,
    programmes: Sequence[Programme],
    n_texts: int,
    length: tuple[int, int],
    rng: np.random.Generator,
) -> _Drawn:
    """Clips around real performances, with their real scores."""
    actions = actions_of(spec.sport)
    if n_texts != len(actions):
        raise ValueError(
            f"{spec.name} is made of the {len(actions)} actions of {spec.sport}, got texts of {n_texts}: give "
            f"TextFeatures.for_sport({spec.sport!r})"
        )
    lengths = rng.integers(length[0], length[1], size=len(programmes), endpoint=True)
    performances = [
        draw_around(each, actions, int(clips), rng) for each, clips in zip(programmes, lengths, strict=True)
    ]
    scores = {name: [each.scores[name] for each in programmes] for name in programmes[0].scores}
    sheet = ScoreSheet([each.name for each in programmes], scores, real=True)
    technical, component = (np.array([getattr(p, name) for p in programmes]) for name in ("technical", "component"))
    return performances, sheet, technical, component


def _spread(programmes: Sequence[Programme], count: int | None) -> list[Programme]:
    """So many of the programmes, spread evenly over them; all of them where there are fewer, or with None."""
    if count is None or count >= len(programmes):
        return list(programmes)
    return [programmes[i * len(programmes) // count] for i in range(count)]


def simulate_fisv(
    texts: Texts, *, labels: str | Path | None = None, elements: bool = False, **options: Any
) -> Simulation:
    """Simulate Fis-V, with the real scores and the real split if their files are given.

    With real labels every video keeps its number, its split and its scores, and gets a simulated performance that fits
    them. The videos in the order of their TES get the performances in the order of their technical quality; within each
    ten videos the order of PCS and of the component quality decides. On the real 500 videos TES then has a Spearman of
    0.999 with the technical quality, and PCS about 0.93 with the component quality. Labels are then real and features
    simulated; every dataset made of them is marked as simulated.

    Args:
        texts: text features of "figure_skating"; with `elements` those of "figure_skating_elements".
        labels: the folder with the real `train.txt` and `test.txt`; without it scores are simulated as well.
        elements: True draws the features for the real executed elements, from `elements.csv` in that folder.
        options: as in `simulate`; with real labels without train and test.

    Returns:
        A `Simulation`.

    Raises:
        DataError: a label file is missing or has an error.
        ValueError: an option that does not fit, or `elements` without `labels`.
    """
    if labels is None:
        if elements:
            raise ValueError("elements are those of real videos: give the folder of their labels too")
        return simulate(texts, spec=FisV(), **options)
    taken = {"train", "test"} & set(options)
    if taken:
        raise ValueError(f"the real labels say how many videos there are: leave {' and '.join(sorted(taken))} out")
    spec = FisVProgrammes.with_elements(labels) if elements else FisV.with_labels(labels)
    return simulate(texts, spec=spec, train=len(spec.train), test=len(spec.test), **options)


def simulatable(spec: DatasetSpec) -> SimulatableSpec:
    """Return the same spec; ValueError if it is no `SimulatableSpec`."""
    if not isinstance(spec, SimulatableSpec):
        raise ValueError(f"{spec.name} cannot be simulated: make it a SimulatableSpec, or read it from its folder")
    return spec


def _spec(sport: str | None) -> SimulatableSpec:
    """The dataset that a sport is simulated as: the first of it."""
    sport = "figure_skating" if sport is None else sport
    by_sport: dict[str, SimulatableSpec] = {}
    for spec in DATASETS.values():
        if isinstance(spec, SimulatableSpec):
            by_sport.setdefault(spec.sport, spec)
    if sport not in by_sport:
        raise ValueError(f"no dataset of {sport!r} is simulated; there are {', '.join(by_sport)}")
    return by_sport[sport]


def _check_sizes(
    train: int | None, test: int | None, length: tuple[int, int], widths: Mapping[str, int], spec: SimulatableSpec
) -> None:
    if None in (train, test) and spec.programmes() is None:
        raise ValueError(f"{spec.name} is drawn: say how many videos, with train and test")
    if any(count is not None and count < 1 for count in (train, test)):
        raise ValueError(f"simulate wants 1 or more videos in train and test, got {train} and {test}")
    if not 1 <= length[0] <= length[1]:
        raise ValueError(f"length is the fewest and most clips of a video, from 1 up, got {length}")
    needed = [key for key in spec.widths if key != "flow"]
    if not set(needed) <= set(widths) <= set(spec.widths):
        flow = ", and may have flow" if "flow" in spec.widths else ""
        raise ValueError(f"widths of {spec.name} wants {' and '.join(needed)}{flow}, got {sorted(widths)}")
