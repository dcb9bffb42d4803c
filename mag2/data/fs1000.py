"""FS1000: figure skating, seven targets, features of 95 clips in the released layout."""

from collections.abc import Callable
from pathlib import Path

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example, read_lines, scaled, want_unique_names
from mag2.data.performances import Dataset, assemble
from mag2.data.sources import npy_sources
from mag2.data.store import default_places, short_hash, stored
from mag2.data.targets import SCALES, TARGETS

NAME = "FS1000"
COLUMNS = ("name", *TARGETS[NAME], "factor")
TRAIN, TEST = "train_fs1000_new.txt", "val_fs1000_new.txt"
# A folder with this file was written by the simulator; its results must not pass for real ones.
SIMULATED = "SIMULATED.txt"


def read_fs1000(
    folder: str | Path,
    target: str,
    *,
    clips: int = 95,
    video: str | Path = "video",
    audio: str | Path = "audio",
    flow: str | Path | None = "flow",
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read FS1000 for one target from its released files.

    `<video>/<name>.npy` (T, K, 768), averaged over the K crops, or (T, 768); `<audio>/<name>.npy` (T, 768);
    `<flow>/<name>.npy` (T, K, 1024) or (T, 1024), optional; any other width will do if all videos share it.
    `train_fs1000_new.txt` and `val_fs1000_new.txt` have the columns name TES PCS SS TR PE CO IN factor,
    without a header. Labels are checked before any feature is read. Features are read once, into a store
    that later calls map into memory; the store is rebuilt when a file changes.

    Args:
        folder: holds the label files and, unless said otherwise, the feature folders.
        target: TES, PCS, SS, TR, PE, CO or IN. PCS is divided by the factor of its row first.
        clips: the length of every crop; 95 as released.
        video: folder of the visual features, relative to `folder` or absolute; `audio` and `flow` likewise.
            Without a flow folder, or with `flow=None`, the batches have no flow.
        cache: folder of the store; by default `<folder>/.mag2-cache` or, where that cannot be written, a
            folder of the user's cache (`$XDG_CACHE_HOME` or `~/.cache`).
        progress: called with the number of feature files that are ready and their total.

    Raises:
        DataError: one sentence naming the file and line at fault.
    """
    folder = Path(folder)
    if target not in TARGETS[NAME]:
        raise DataError(f"{NAME} has no target {target!r}: choose one of {', '.join(TARGETS[NAME])}")
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: give the one that holds {TRAIN} and {TEST}")
    train, test = _examples(folder / TRAIN, target), _examples(folder / TEST, target)
    want_unique_names(train, test)

    subfolders = {"visual": Path(video), "audio": Path(audio)}
    if flow is not None and (folder / flow).is_dir():
        subfolders["flow"] = Path(flow)
    wanted = [(example.name, example.where) for example in (*train, *test)]
    sources = {key: npy_sources(folder / subfolder, wanted) for key, subfolder in subfolders.items()}

    places = default_places(folder) if cache is None else [Path(cache)]

    def tell(ready: int) -> None:
        if progress is not None:
            progress(len(features) * len(wanted) + ready, len(sources) * len(wanted))

    features: dict[str, ClipFeatures] = {}
    for key, subfolder in subfolders.items():
        # Two sets of features of one dataset, in two folders, do not displace each other's store.
        stem = f"fs1000-{key}-{short_hash(str(subfolder))}"
        features[key] = stored(sources[key], stem=stem, places=places, progress=tell)
    return assemble(
        NAME,
        target,
        scale=SCALES[NAME][target],
        clips=clips,
        train=train,
        test=test,
        features=features,
        simulated=(folder / SIMULATED).is_file(),
    )


def fs1000_label(target: str, score: float, factor: float, *, where: str) -> float:
    """The label in [0, 1] of a score as the label file gives it; PCS is divided by the factor first."""
    value = score / factor if target == "PCS" else score
    meaning = "PCS / factor" if target == "PCS" else target
    return scaled(value, SCALES[NAME][target], meaning=meaning, where=where)


def _examples(path: Path, target: str) -> list[Example]:
    examples = []
    for line in read_lines(path):
        line.want(COLUMNS)
        row = {meaning: line.real(column, meaning) for column, meaning in enumerate(COLUMNS) if column > 0}
        if row["factor"] <= 0:
            raise DataError(f"{line.where} has the factor {row['factor']:g}: a factor is greater than zero")
        label = fs1000_label(target, row[target], row["factor"], where=line.where)
        examples.append(Example(line.cells[0], label, line.where))
    return examples
