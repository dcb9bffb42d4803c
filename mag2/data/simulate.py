"""Simulate performances: features and scores with a known cause, in the files of a dataset.

They exercise the whole pipeline where no features can be had, and on them the controls can differ. They
prove nothing about numbers measured on real performances; everything made from them is marked as simulated.

`mag2.data.drawing` has the formulas, `mag2.data.simulation` the result.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mag2.data.drawing import draw_performance, draw_world, qualities, render, text_directions
from mag2.data.fisv import FisV
from mag2.data.registry import DATASETS
from mag2.data.simulatable import SimulatableSpec
from mag2.data.simulation import Simulation
from mag2.data.spec import DatasetSpec

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
        sport: the sport of these actions: "figure_skating" (the default) is simulated as FS1000, "rhythmic_gymnastics"
            as RG, "artistic_swimming" as LOGO.
        spec: another dataset to simulate, of `DATASETS` for example, with the sport that it has.
        train: videos for training; 480 and 200 are the sizes the simulator was measured at.
        test: videos for testing, drawn from the same world.
        length: fewest and most clips per video, every length between being as likely; by default about as
            long as the dataset's crops.
        seed: decides the maps, the performances and the noise.
        widths: of the features of each modality; by default those of the released ones. "flow" may be left out.
        aligned: give A_v orthonormal columns and return it, so that clips can be compared with the texts, and give
            the performances vision_language features (T, Dt) through it.
        top1: add noise to these until they name about this share of the planted actions (`Simulation.spoilt_map`); no
            noise by default. For aligned simulations.

    Raises:
        ValueError: a sport, texts, sizes or widths that do not fit; the sentence says which.
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
    lengths = rng.integers(length[0], length[1], size=train + test, endpoint=True)
    performances = [draw_performance(world.base_value, int(clips), rng) for clips in lengths]
    technical, component = qualities(performances, world.base_value)
    sheet = spec.judge(technical, component, train, rng)
    order = np.arange(len(performances)) if sheet.performance_of is None else sheet.performance_of
    performances = [performances[number] for number in order]
    simulation = Simulation(
        spec=spec,
        seed=seed,
        n_train=train,
        sheet=sheet,
        features=render(world, performances, rng),
        technical=technical[order],
        component=component[order],
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


def simulate_fisv(texts: Texts, *, labels: str | Path | None = None, **options: Any) -> Simulation:
    """Simulate Fis-V, with the real scores and the real split where their files are given.

    With real labels every video keeps its number, its split and its scores, and gets a simulated performance that
    fits them: videos in the order of their TES get the performances in the order of their technical quality;
    within each ten of these, the order of PCS and of the component quality decides. On the real 500 videos TES then
    follows the technical quality with a Spearman of 0.999, PCS the component quality with about 0.93. These are real
    labels with simulated features, and every dataset made of them says that it is simulated.

    Args:
        texts: figure skating's text features.
        labels: the folder with the real `train.txt` and `test.txt`; without it scores are simulated as well.
        options: as `simulate` has them; with real labels the files say how many videos there are.

    Raises:
        DataError: a label file is at fault.
        ValueError: an option that does not fit.
    """
    if labels is None:
        return simulate(texts, spec=FisV(), **options)
    taken = {"train", "test"} & set(options)
    if taken:
        raise ValueError(f"the real labels say how many videos there are: leave {' and '.join(sorted(taken))} out")
    spec = FisV.with_labels(labels)
    return simulate(texts, spec=spec, train=len(spec.train), test=len(spec.test), **options)


def simulatable(spec: DatasetSpec) -> SimulatableSpec:
    """The same spec; ValueError where it does not say how it is simulated."""
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
    train: int, test: int, length: tuple[int, int], widths: Mapping[str, int], spec: SimulatableSpec
) -> None:
    if train < 1 or test < 1:
        raise ValueError(f"simulate wants 1 or more videos in train and test, got {train} and {test}")
    if not 1 <= length[0] <= length[1]:
        raise ValueError(f"length is the fewest and most clips of a video, from 1 up, got {length}")
    needed = [key for key in spec.widths if key != "flow"]
    if not set(needed) <= set(widths) <= set(spec.widths):
        flow = ", and may have flow" if "flow" in spec.widths else ""
        raise ValueError(f"widths of {spec.name} wants {' and '.join(needed)}{flow}, got {sorted(widths)}")
