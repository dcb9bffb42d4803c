"""What the loaders share: finding features and storing them, header lines, and telling simulated data from real."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.labels import Example, Line, read_lines
from mag2.data.performances import VISION_LANGUAGE
from mag2.data.raw_features import Source, averaged, feature_sources, map_npy
from mag2.data.store import default_places, short_hash, stored
from mag2.data.targets import TARGETS

# A folder with this file was written by the simulator; its results must not pass for real ones.
SIMULATED = "SIMULATED.txt"

# Modalities that a dataset may lack.
OPTIONAL = ("flow", VISION_LANGUAGE)

# Where features may lie: a folder, a file, or several of which the first that is there is taken.
Places = str | Path | Sequence[str | Path]


def want_target(dataset: str, target: str) -> None:
    """Raise DataError unless the dataset is scored on that target."""
    if target not in TARGETS[dataset]:
        raise DataError(f"{dataset} has no target {target!r}: choose one of {', '.join(TARGETS[dataset])}")


def want_folder(folder: Path, *labels: str | Path) -> None:
    """Raise DataError unless the folder is there."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: give the one that holds {' and '.join(map(str, labels))}")


def labelled_rows(path: Path) -> list[Line]:
    """The rows of a label file whose header line may be left out: a first line without a digit or a number."""
    rows = read_lines(path)
    first = rows[0].cells
    if not any(letter.isdigit() for cell in first for letter in cell) and not any(map(_is_number, first[1:])):
        rows = rows[1:]
    if not rows:
        raise DataError(f"the label file {path} has a header and no rows: one row per video is wanted")
    return rows


def find_features(folder: Path, modalities: Mapping[str, Places | None]) -> dict[str, Path]:
    """The place of each modality's features, as it was given: relative to the folder or absolute.

    A modality given as None is left out, and so are flow and vision_language where nothing is found.

    Raises:
        DataError: another modality is not there.
    """
    found = {}
    for key, places in modalities.items():
        if places is None:
            continue
        choices = [Path(place) for place in ([places] if isinstance(places, str | Path) else places)]
        there = [place for place in choices if (folder / place).exists()]
        if there:
            found[key] = there[0]
        elif key not in OPTIONAL:
            tried = " or ".join(str(folder / place) for place in choices)
            raise DataError(
                f"there is no feature folder or file {tried}: put the {key} features there or name their place"
            )
    return found


def read_features(
    folder: Path,
    places: Mapping[str, Path],
    examples: Sequence[Example],
    *,
    stem: str,
    cache: str | Path | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, ClipFeatures]:
    """The features of all examples, by modality, from the store where it is current.

    Args:
        folder: the dataset's; the store lies in it unless `cache` names another.
        places: of each modality, as `find_features` gives them.
        examples: the videos, in the order to keep.
        stem: what the names of the stores begin with; two datasets in one folder need two.
        cache: folder of the store, or None.
        progress: called with the number of videos that are ready, counted once for each modality, and their total.

    Raises:
        DataError: one sentence naming the file and line at fault.
    """
    wanted = [(example.name, example.where) for example in examples]
    sources = {key: feature_sources(folder / place, wanted) for key, place in places.items()}
    stores = default_places(folder) if cache is None else [Path(cache)]
    features: dict[str, ClipFeatures] = {}

    def tell(ready: int) -> None:
        if progress is not None:
            progress(len(features) * len(wanted) + ready, len(sources) * len(wanted))

    for key, place in places.items():
        # Two sets of features in two places do not displace each other's store, nor do two folders that share one.
        where = place if cache is None else (folder / place).resolve()
        name = f"{stem}-{key}-{short_hash(str(where))}"
        features[key] = stored(sources[key], stem=name, places=stores, progress=tell)
    return features


def is_simulated(folder: Path, places: Iterable[str | Path]) -> bool:
    """Whether the simulator wrote the folder, or one that any of the features or labels lie in."""
    paths = [folder / place for place in places]
    paths += [path.resolve() for path in paths]  # what is linked lies elsewhere
    near = {folder, *paths, *(path.parent for path in paths)}
    return any((path / SIMULATED).is_file() for path in near)


def _is_number(text: str) -> bool:
    """nan and inf are numbers, and for the row to refuse."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_clips(file: str | Path) -> Tensor:
    """The features of one video, in a `.npy` (T, D) or (T, K, D), as a batch of one (1, T, D) float32; K is averaged.

    For features of your own, CLIP's of a video say, that belong to no dataset.

    Raises:
        DataError: no such file, or no finite features in it; one sentence.
    """
    file = Path(file)
    if not file.is_file():
        raise DataError(f"there is no feature file {file}: give a .npy of one video's clips")
    clips = averaged(Source(file.stem, "this call", file, lambda: map_npy(file)))
    return torch.from_numpy(clips)[None]
