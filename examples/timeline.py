"""Name the action of every clip by its similarity to the action texts: a table, a plot, and the accuracy.

    python examples/timeline.py                                                     # simulated performances
    python examples/timeline.py --data FS1000 --texts open_clip:ViT-B-16/openai     # your CLIP features

Clips and texts must be encoded by the same model. With --data the clips are the dataset's vision_language features
(vision_language/<name>.npy beside video/, see docs/language.md). The accuracy of the names is then unknown, and table
and plot say so. For simulated performances it is known: noise is added to the similarity until it names the share
--top1 of the simulated actions correctly.
"""

import argparse
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import interrupts
import torch
from torch import Tensor

from mag2 import TextFeatures
from mag2.alignment import Timeline, clip_text_similarity, name_actions
from mag2.data import DATASETS, TARGETS, Dataset, simulate
from mag2.data.raw_features import map_npy
from mag2.data.simulate import simulatable
from mag2.saving.arguments import given_path, real_number, whole_number
from mag2.saving.sentences import one_line
from mag2.vocabulary import actions_of

# A simulation of a size for two cores; the shipped texts are 384 wide, and aligned features are no narrower.
SIZES = {"train": 8, "test": 24, "length": (40, 60)}
WIDTHS = {"visual": 384, "audio": 16}


def main(arguments: list[str] | None = None) -> int:
    """Name, measure, write."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        timeline = simulated(options) if options.data is None else read(options)
        plotted = [_number(timeline, video) for video in options.videos or [timeline.videos[0]]]
        out = options.out or Path("runs") / ("timeline" if options.data else "timeline-simulated")
        written = write(timeline, plotted, out)
    except (ValueError, OSError, ImportError) as error:
        parser.error(one_line(str(error)))
    print(f"{timeline.data}: {int((timeline.action >= 0).sum())} clips of {len(timeline.videos)} videos")
    print(f"named by the best matching of {len(timeline.vocabulary)} actions, {timeline.verdict}")
    print(f"Written: {', '.join(map(str, written))}")
    if timeline.accuracy is None:
        print("warning: no planted actions here, so how often the names are right is unknown", file=sys.stderr)
    return 0


def simulated(options: argparse.Namespace) -> Timeline:
    """The timeline of the test videos of an aligned simulation."""
    if options.texts is not None:
        raise ValueError("a simulation is made of the shipped texts; --texts goes with --data")
    spec = simulatable(DATASETS[options.dataset])
    texts = TextFeatures.for_sport(spec.sport)
    widths = {key: width for key, width in WIDTHS.items() if key in spec.widths}
    simulation = simulate(texts, spec=spec, seed=options.seed, widths=widths, aligned=True, top1=options.top1, **SIZES)
    dataset = simulation.dataset(options.target)
    clips = int(dataset.test.lengths.max())
    planted = simulation.planted_actions("test", clips, target=options.target)
    return name(dataset, texts.visual, clips, planted=planted)


def read(options: argparse.Namespace) -> Timeline:
    """The timeline of a split's videos in a folder."""
    spec = DATASETS[options.dataset]
    texts = visual_texts(options.texts, spec.sport)
    dataset = spec.read(options.data, options.target)
    return name(dataset, texts, int(getattr(dataset, options.split).lengths.max()), split=options.split)


def name(
    dataset: Dataset, texts: Tensor, clips: int, *, split: str = "test", planted: Tensor | None = None
) -> Timeline:
    """Name the actions in whole videos of a split by the visual texts (M, D) of its sport."""
    performances = getattr(dataset, split)
    seen = performances.batch(range(len(performances)), clips=clips).vision_language
    if seen is None:
        raise ValueError(f"{dataset.name} here has no vision_language features; put them beside the others")
    if seen.shape[-1] != texts.shape[1]:
        raise ValueError(
            f"the vision_language features are {seen.shape[-1]} wide and the texts {texts.shape[1]}; "
            f"give the texts of the same encoder with --texts"
        )
    mask = torch.arange(clips) < torch.as_tensor(performances.lengths)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the command prints its own warning
        return name_actions(
            clip_text_similarity(seen, texts),
            actions_of(DATASETS[dataset.name].sport),
            planted=planted,
            clip_mask=mask,
            videos=performances.names,
            data=f"SIMULATED {dataset.name}" if dataset.simulated else dataset.name,
        )


def visual_texts(given: str | None, sport: str) -> Tensor:
    """Features (M, D) of the sport's visual texts: the shipped ones, those in a file, or those of an encoder."""
    if given is None:
        return TextFeatures.for_sport(sport).visual
    path = Path(given)
    if not path.is_file():
        return TextFeatures.encode(sport, given).visual
    if path.read_bytes()[:6] != b"\x93NUMPY":
        return TextFeatures.from_released(path).visual
    try:
        rows = torch.from_numpy(map_npy(path).astype("float32"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; save the visual texts (M, D) with numpy.save") from None
    if rows.dim() != 2 or len(rows) != len(actions_of(sport)) or not rows.isfinite().all():
        raise ValueError(f"{path} wants finite features ({len(actions_of(sport))}, D), has shape {tuple(rows.shape)}")
    return rows


def write(timeline: Timeline, plotted: list[int], out: Path) -> list[Path]:
    """The table of all videos, and a plot of each of some."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / "timeline.csv"]
    timeline.to_csv(paths[0])
    for number in plotted:
        paths.append(out / f"timeline-{timeline.videos[number]}.png")
        timeline.plot(paths[-1], video=number)
    return paths


def _number(timeline: Timeline, video: str) -> int:
    if video not in timeline.videos:
        raise ValueError(f"no video {video!r}; there are {', '.join(timeline.videos[:4])} and so on")
    return timeline.videos.index(video)


class _Parser(argparse.ArgumentParser):
    """An error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)}\n")

    def parse_args(self, args=None, namespace=None):
        """Arguments that were checked against each other."""
        options = super().parse_args(args, namespace)
        targets = TARGETS[options.dataset]
        options.target = options.target or targets[0]
        if options.target not in targets:
            self.error(f"{options.dataset} has no target {options.target!r}; choose one of {', '.join(targets)}")
        return options


def _parser() -> _Parser:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=given_path, help="folder of a dataset's released files, with vision_language features")
    add("--dataset", choices=DATASETS, default="FS1000", help="dataset to read or to simulate (FS1000)")
    add("--target", help="a target of the dataset, by default its first; each apparatus of RG has its own videos")
    add("--split", choices=("train", "test"), default="test", help="split of --data (test)")
    add("--texts", metavar="FILE|ENCODER", help="the authors' text file, a .npy (M, D), or the name of an encoder")
    add("--videos", nargs="+", metavar="NAME", help="videos to plot (the first)")
    add("--top1", type=real_number(0, 1), default=0.8, help="share of planted actions that simulated clips name (0.8)")
    add("--seed", type=whole_number(0), default=0, help="seed of the simulation (0)")
    add("--out", type=given_path, help="folder to write to (runs/timeline, or runs/timeline-simulated)")
    return parser


if __name__ == "__main__":
    sys.exit(interrupts.run(main))
