"""Find the files of a dataset in a folder as it is downloaded: nothing is renamed, moved or linked.

Labels and features at the dataset's usual places are used first. Missing ones are searched for in the folder and below
it: label files by their names and rows, features by the videos that they contain.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mag2.data.errors import DataError
from mag2.data.labels import Example

__all__ = ["Layouts", "features_below", "files_in", "labels_below", "relative_to"]

log = logging.getLogger(__name__)

DEPTH = 3  # how far below the folder is searched
MOST_FOLDERS = 2000
# Words in the name of a feature folder, split where no letter or digit stands.
WORDS = {
    "vision_language": {"clip", "language", "vl"},
    "audio": {"audio", "ast", "vggish", "sound", "music", "mel"},
    "flow": {"flow", "i3d", "optical"},
    "visual": {"video", "videos", "visual", "rgb", "vst", "swin", "swintx", "timesformer", "tf", "c3d", "frames"},
}


@dataclass(frozen=True)
class Layouts:
    """The layouts of a dataset's files besides the usual one.

    Attributes:
        said: each layout in words, for the error about a folder that has none of them.
        label_files: for each label file, by argument name, the names that it may have, the preferred one first. The
            names are relative to one folder, which contains all of them.
        features: for each modality, further places of its features, relative to the folder of the labels.
    """

    said: tuple[str, ...] = ()
    label_files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    features: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of_target(self, path_of: Callable[[str], str]) -> "Layouts":
        """The same with every name and place as `path_of` makes it for one target."""
        labels = {key: tuple(map(path_of, names)) for key, names in self.label_files.items()}
        return Layouts(self.said, labels, {key: tuple(map(path_of, places)) for key, places in self.features.items()})

    def sentence(self) -> str:
        """What would do, in words; "" where nothing is known."""
        if not self.said:
            return ""
        return "; layouts that would do: " + "; ".join(f"({i}) {each}" for i, each in enumerate(self.said, 1))


def labels_below(
    root: Path, names: Mapping[str, Sequence[str]], check: Callable[[Mapping[str, Path]], object], what: str
) -> dict[str, Path] | None:
    """The label files in one folder at or below `root`; None where there are none.

    Args:
        root: where to search.
        names: for each label file, by argument name, the names that it may have.
        check: reads the files, and raises DataError where they are those of another dataset.
        what: the dataset, for errors.

    Raises:
        DataError: the files of the only folder that has them are at fault, or several folders have good ones.
    """
    found = [files for folder in _folders(root) if (files := files_in(folder, names))]
    good, faults = [], []
    for files in found:
        try:
            check(files)
        except DataError as fault:
            faults.append(fault)
        else:
            good.append(files)
    if len(good) > 1:
        # The same labels may lie beside each of several features: the ones that lie highest are taken, if one does.
        good = _highest(good, root)
    if len(good) > 1:
        some = " and ".join(str(next(iter(files.values())).parent) for files in good[:2])
        raise DataError(f"labels of {what} lie in {some}: name one of these folders as that of the labels")
    if good:
        return good[0]
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise DataError(f"none of {len(faults)} folders with label files below {root} has those of {what}: {faults[0]}")
    return None


def features_below(
    roots: Iterable[Path], examples: Sequence[Example], files: Mapping[str, Sequence[str]], wanted: Iterable[str]
) -> dict[str, Path]:
    """Return the paths of features at or below some folders, by modality; modalities that are not found are left out.

    Args:
        roots: folders to search, in this order.
        examples: videos whose features must be there.
        files: for each modality, the names of files that contain all its videos (a pickled dict).
        wanted: the modalities to find.

    Raises:
        DataError: several paths fit one modality, or it cannot be decided which modality a folder contains.
    """
    wanted = list(wanted)
    folders = list(dict.fromkeys(folder.resolve() for root in roots for folder in _folders(root)))
    found: dict[str, list[Path]] = {modality: [] for modality in WORDS}
    for folder in folders:
        for modality, names in files.items():
            found[modality] += [folder / name for name in names if (folder / name).is_file()]
    unnamed: list[Path] = []
    for folder in folders:
        first = folder / f"{examples[0].name}.npy"
        if first.is_file() and (folder / f"{examples[-1].name}.npy").is_file():
            said = _named(folder.name) or _shaped(first)
            (found[said] if said else unnamed).append(folder)
    # A folder whose name says nothing is the one modality that is still missing.
    missing = [modality for modality in wanted if modality in ("visual", "audio") and not found[modality]]
    if unnamed and missing:
        if len(unnamed) > 1:
            raise DataError(
                f"{unnamed[0]} and {unnamed[1]} hold features of these videos, and neither name nor shape says which "
                f"is {' or '.join(missing)}: name their modalities"
            )
        found[missing[0]] = unnamed
    return {modality: _only(modality, found[modality]) for modality in wanted if found[modality]}


def relative_to(folder: Path, path: Path) -> Path:
    """Return the path relative to the folder if it is inside, else the absolute path."""
    whole, base = path.resolve(), folder.resolve()
    return whole.relative_to(base) if whole.is_relative_to(base) else whole


def _folders(root: Path) -> Iterator[Path]:
    """A folder and those below it, level by level; hidden ones are left out."""
    level, seen = [root], 0
    for _ in range(DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            seen += 1
            if seen > MOST_FOLDERS:
                log.info("searched %d folders below %s and stopped there", MOST_FOLDERS, root)
                return
            yield folder
            try:
                with os.scandir(folder) as entries:
                    below += sorted(Path(e.path) for e in entries if not e.name.startswith(".") and e.is_dir())
            except OSError:  # not ours to read
                continue
        level = below


def files_in(folder: Path, names: Mapping[str, Sequence[str]]) -> dict[str, Path] | None:
    """The label files in a folder: those whose names end alike, as train_fs800 and val_fs800, before others."""
    there = {key: [name for name in known if (folder / name).is_file()] for key, known in names.items()}
    if not all(there.values()):
        return None
    chosen: dict[str, Path] = {}
    tail = ""
    for key, existing in there.items():
        alike = [name for name in existing if tail and name.partition("_")[2] == tail]
        chosen[key] = folder / (alike or existing)[0]
        tail = tail or chosen[key].name.partition("_")[2]
    return chosen


def _highest(choices: list[dict[str, Path]], root: Path) -> list[dict[str, Path]]:
    depths = [len(next(iter(files.values())).relative_to(root).parts) for files in choices]
    return [files for files, depth in zip(choices, depths, strict=True) if depth == min(depths)]


def _named(name: str) -> str | None:
    """The modality that the name of a folder says, None where it says none or several."""
    words = set("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())
    said = [modality for modality, known in WORDS.items() if words & known]
    return said[0] if len(said) == 1 else None


def _shaped(file: Path) -> str | None:
    """Visual, where a video has several views of every clip: no other released features do."""
    try:
        return "visual" if np.load(file, mmap_mode="r", allow_pickle=False).ndim == 3 else None
    except (ValueError, OSError, EOFError):  # the reader will say what is wrong with it
        return None


def _only(modality: str, places: Sequence[Path]) -> Path:
    if len(places) > 1:
        raise DataError(f"{places[0]} and {places[1]} both hold {modality} features of these videos: name one of them")
    return places[0]
