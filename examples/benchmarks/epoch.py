"""One epoch of MLAVL's training on a folder of FS1000: read and trained here, and both the released way.

The folder is simulated, with 15 views of every clip as in the released features. Ours takes its batches from the store
that was built once; the released way reads, averages and crops the files of every sample, in the training process. Both
train with dropout 0.3 and Adam on the same videos. What reading alone costs stands beside.
"""

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.loading import Samples, own_files, sizes_of
from benchmarks.measuring import Comparison, Plan, Row, measure
from benchmarks.mlavl import DROPOUT, TEXTS, build
from benchmarks.released import ReleasedMLAVL
from mag2.data import read_fs1000, simulate


def run(plan: Plan) -> Iterator[Comparison]:
    """One comparison."""
    sizes = plan.sizes
    widths = {"visual": sizes.feature, "audio": sizes.feature}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(TEXTS, **(sizes_of(plan) | {"widths": widths})).write(folder, "K15")
        clips = sizes.crop or sizes.clips
        started = time.perf_counter()
        dataset = read_fs1000(folder, "TES", clips=clips)
        built = time.perf_counter() - started
        videos = dataset.train
        labels = dict(zip(videos.names, videos.label.tolist(), strict=True))
        generator = torch.Generator().manual_seed(0)
        model, theirs = build(plan), _released(plan)
        optimizers = {each: torch.optim.Adam(each.parameters(), fused=True) for each in (model, theirs)}

        def step(trained: nn.Module, visual: Tensor, audio: Tensor, label: Tensor) -> None:
            visual, audio, label = (part.to(plan.device) for part in (visual, audio, label))
            loss = trained.loss(trained(visual, audio), label)  # type: ignore[operator]
            optimizers[trained].zero_grad()
            (loss["total"] if isinstance(loss, dict) else loss).backward()
            optimizers[trained].step()

        def ours(train: bool) -> None:
            for index in torch.randperm(len(videos), generator=generator).split(sizes.batch):
                batch = videos.batch(index, generator)
                if train:
                    step(model, batch.visual, batch.audio, batch.label)

        def released(train: bool) -> None:
            samples = Labelled(videos.names, partial(own_files, folder), clips, labels)
            for visual, audio, label in DataLoader(samples, sizes.batch, shuffle=True):
                if train:
                    step(theirs, visual, audio, label)

        ways = {
            "read and trained here": partial(ours, True),
            "both the released way": partial(released, True),
            "reading alone, here": partial(ours, False),
            "reading alone, the released way": partial(released, False),
        }
        medians = measure(ways, min(plan.rounds, 5), plan.device)
        size = sum(file.stat().st_size for file in folder.rglob("*.npy") if ".mag2-cache" not in file.parts)
    first = next(iter(medians.values()))
    rows = [Row(way, 1000 * seconds, "ms", seconds / first) for way, seconds in medians.items()]
    rows.append(Row("building the store, once", 1000 * built, "ms", built / first))
    title = f"one epoch of MLAVL's training on FS1000, {len(videos)} videos, B={sizes.batch} T={clips} K=15"
    yield Comparison(title, rows, (f"{size / 2**20:.0f} MiB of feature files, in the page cache",))


class Labelled(Samples):
    """Samples with their labels."""

    def __init__(self, names: list[str], load, clips: int, labels: dict[str, float]):
        super().__init__(names, load, clips)
        self.labels = labels

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        return (*super().__getitem__(number), torch.tensor(self.labels[self.names[number]]))


def _released(plan: Plan) -> nn.Module:
    sizes = plan.sizes
    return ReleasedMLAVL(TEXTS, sizes.feature, sizes.dim, sizes.heads, DROPOUT).train().to(plan.device)
