"""Reading one epoch of a dataset: from the feature store, and anew for every sample as the released loaders do.

The folders are simulated, in the released forms, and are in the page cache: work is compared, not a disk.
Assumed of the released loaders: a sample loads its own files, averages the views of its clips and cuts its crop; where
all videos share one pickled dict, a sample loads the whole dict with `numpy.load` and takes its own entry. The visual
features of FS1000 have 15 views of every clip, as the released ones.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.measuring import Comparison, Plan, Row, measure
from mag2 import TextFeatures
from mag2.data import Dataset, Simulation, read_fisv, read_fs1000, read_rg, simulate, simulate_fisv

BATCH = 64


def run(plan: Plan) -> Iterator[Comparison]:
    """FS1000, Fis-V and RG."""
    skating, gymnastics = (TextFeatures.for_sport(sport) for sport in ("figure_skating", "rhythmic_gymnastics"))
    sizes = sizes_of(plan)
    yield _compare(plan, simulate(skating, **sizes), lambda at, **kw: read_fs1000(at, "TES", **kw), own_files, "K15")
    yield _compare(plan, simulate_fisv(skating, **sizes), lambda at, **kw: read_fisv(at, "TES", **kw), _fisv_dicts)
    # All four apparatuses are written; one is read, with a quarter of the videos.
    many = sizes | {"train": 4 * sizes["train"], "test": 4 * sizes["test"]}
    yield _compare(
        plan,
        simulate(gymnastics, sport="rhythmic_gymnastics", **many),
        lambda at, **kw: read_rg(at, "Ball", **kw),
        _ball_dicts,
    )


def _compare(
    plan: Plan, simulation: Simulation, read: Callable[..., Dataset], sample: Callable, variant: str | None = None
) -> Comparison:
    spec = simulation.spec
    clips = plan.sizes.crop or spec.clips
    with tempfile.TemporaryDirectory() as folder:
        simulation.write(folder, variant)
        started = time.perf_counter()
        dataset = read(folder, clips=clips, flow=None)
        built = time.perf_counter() - started
        names = dataset.train.names
        generator = torch.Generator().manual_seed(0)

        def ours() -> None:
            for index in torch.randperm(len(names), generator=generator).split(BATCH):
                dataset.train.batch(index, generator)

        def released() -> None:
            samples = Samples(names, lambda name: sample(Path(folder), name), clips)
            for _ in DataLoader(samples, BATCH, shuffle=True):
                pass

        medians = measure({"ours": ours, "released": released}, min(plan.rounds, 5), "cpu")
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.npy") if ".mag2-cache" not in file.parts)
    rows = [
        Row("from the store", 1000 * medians["ours"], "ms", 1.0),
        Row(
            "anew for every sample (released)", 1000 * medians["released"], "ms", medians["released"] / medians["ours"]
        ),
        Row("building the store, once", 1000 * built, "ms", built / medians["ours"]),
    ]
    title = f"one epoch of {spec.name}, {len(names)} videos, T={clips}"
    return Comparison(title, rows, (f"{size / 2**20:.0f} MiB of feature files, flow among them and not read",))


class Samples(torch.utils.data.Dataset):
    """Samples that are read when they are requested, a random crop of `clips` of each."""

    def __init__(self, names: list[str], load: Callable[[str], tuple[np.ndarray, np.ndarray]], clips: int):
        self.names, self.load, self.clips = names, load, clips

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        visual, audio = self.load(self.names[number])
        if visual.ndim == 3:
            visual = visual.mean(axis=1)
        start = random.randint(0, max(0, len(visual) - self.clips))
        return self._crop(visual, start), self._crop(audio, start)

    def _crop(self, features: np.ndarray, start: int) -> Tensor:
        window = np.zeros((self.clips, features.shape[1]), dtype=np.float32)
        part = features[start : start + self.clips]
        window[: len(part)] = part
        return torch.from_numpy(window)


def own_files(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Video and audio of one performance of FS1000."""
    return np.load(folder / "video" / f"{name}.npy"), np.load(folder / "audio" / f"{name}.npy")


def _fisv_dicts(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    return _entry(folder / "FISV_rgb_VST.npy", name), _entry(folder / "FISV_audio_AST.npy", name)


def _ball_dicts(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    return _entry(folder / "Ball_rgb_VST.npy", name), _entry(folder / "Ball_audio_AST.npy", name)


def _entry(file: Path, name: str) -> np.ndarray:
    # The file was written a moment ago by this process: the released loaders' way to read it is safe here.
    videos = np.load(file, allow_pickle=True).item()
    return videos[name if name in videos else int(name)]


def sizes_of(plan: Plan) -> dict:
    """The sizes of a simulated dataset."""
    held_out = max(4, plan.sizes.videos // 10)
    sizes: dict = {"train": plan.sizes.videos, "test": held_out}
    if plan.sizes.crop is not None:
        sizes["length"] = (plan.sizes.crop, plan.sizes.crop + 3)
        sizes["widths"] = {"visual": plan.sizes.feature, "audio": plan.sizes.feature, "flow": plan.sizes.feature}
    return sizes
