"""Find the features of a dataset, read them through the store, and recognise files of a simulation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example
from mag2.data.npy_header import map_npy
from mag2.data.performances import VISION_LANGUAGE
from mag2.data.raw_features import RawFeatures, list_raw_features, mean_over_views
from mag2.data.store import default_cache_folders, short_hash, stored_features
from mag2.saving.places import absence_of

__all__ = [
    "SIMULATED",
    "Locations",
    "find_features",
    "is_simulated",
    "listed",
    "read_clips",
    "read_features",
    "require_folder",
]

# The simulator writes this file into its folders; their results must not pass for real ones.
SIMULATED = "SIMULATED.txt"

# Modalities that a dataset may lack.
OPTIONAL = ("flow", VISION_LANGUAGE)

# Where features lie: a folder, a file, or several of which the first that exists is taken.
Locations = str | Path | Sequence[str | Path]


def require_folder(folder: Path, name: str, *labels: str | Path) -> None:
    """Raise DataError unless the folder of the dataset of that name exists."""
    if not folder.is_dir():
        holds = f", which holds {' and '.join(map(str, labels))}" if labels else ""
        raise DataError(f"{absence_of(folder)}: give the folder of {name}{holds}")


def listed(locations: Locations) -> list[Path]:
    """One or several locations as a list."""
    return [Path(each) for each in ([locations] if isinstance(locations, str | Path) else locations)]


def find_features(folder: Path, modalities: Mapping[str, Locations | None]) -> dict[str, Path]:
    """The location of each modality's features that exists, as it was given: relative to the folder or absolute.

    A modality given as None is left out. So are flow and vision_language where nothing exists.

    Raises:
        DataError: another modality has no location that exists.
    """
    found = {}
    for modality, locations in modalities.items():
        if locations is None:
            continue
        choices = listed(locations)
        existing = [path for path in choices if (folder / path).exists()]
        if existing:
            found[modality] = existing[0]
        elif modality not in OPTIONAL:
            tried = " or ".join(str(folder / path) for path in choices)
            raise DataError(
                f"there is no feature folder or file {tried}: put the {modality} features there or name their place"
            )
    return found


def read_features(
    folder: Path,
    locations: Mapping[str, Path],
    examples: Sequence[Example],
    *,
    store_name: str,
    cache: str | Path | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, ClipFeatures]:
    """The features of all examples, by modality, from the store where it is current.

    Args:
        folder: the dataset's; the store lies in it unless `cache` names another.
        locations: of each modality, as `find_features` gives them.
        examples: the videos, in the order to keep.
        store_name: how the names of the stores begin. Two datasets in one folder need two.
        cache: folder of the store, or None.
        progress: called with the number of videos that are ready, counted once for each modality, and their total.

    Raises:
        DataError: one sentence naming the file and line at fault.
    """
    raw = {modality: list_raw_features(folder / path, examples) for modality, path in locations.items()}
    folders = default_cache_folders(folder) if cache is None else [Path(cache)]
    features: dict[str, ClipFeatures] = {}

    def report(ready: int) -> None:
        if progress is not None:
            progress(len(features) * len(examples) + ready, len(raw) * len(examples))

    for modality, path in locations.items():
        # The name has a hash of the location: features in two locations have two stores, also where two datasets
        # share one cache folder.
        location = path if cache is None else (folder / path).resolve()
        name = f"{store_name}-{modality}-{short_hash(str(location))}"
        features[modality] = stored_features(raw[modality], name=name, folders=folders, progress=report)
    return features


def is_simulated(folder: Path, files: Iterable[str | Path]) -> bool:
    """Whether the simulator wrote the folder, or a folder of any of the feature or label files."""
    paths = [folder / file for file in files]
    paths += [path.resolve() for path in paths]  # a link's target lies in another folder
    near = {folder, *paths, *(path.parent for path in paths)}
    return any((path / SIMULATED).is_file() for path in near)


def read_clips(file: str | Path) -> Tensor:
    """Read the features of one video from a `.npy` file, as a batch of one video.

    Use it for features that belong to no dataset, for example CLIP features of your own video.

    Args:
        file: contains (T, D), or (T, K, D) with K views that are averaged.

    Returns:
        A tensor (1, T, D) float32, a copy.

    Raises:
        DataError: no such file, or no finite features in it.
    """
    file = Path(file)
    if not file.is_file():
        raise DataError(f"there is no feature file {file}: give a .npy of one video's clips")
    clips = mean_over_views(RawFeatures(file.stem, "this call", file, lambda: map_npy(file)))
    return torch.from_numpy(np.array(clips))[None]  # a write to the file's read-only map would end the process
