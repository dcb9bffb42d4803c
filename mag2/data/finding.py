"""Find the label files and the features of a dataset: at their usual places, or by a search."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mag2.data.errors import DataError
from mag2.data.labels import Example
from mag2.data.layouts import Layouts, features_below, labels_below, relative_to
from mag2.data.performances import VISION_LANGUAGE
from mag2.data.reading import OPTIONAL, Locations, find_features, listed

__all__ = ["FilesOf", "Found", "find_files", "find_labels"]

log = logging.getLogger(__name__)

NO_LAYOUTS = Layouts()
MOST_NAMED = 6  # entries of a folder that a sentence names


@dataclass(frozen=True)
class FilesOf:
    """The files to find for one target of one dataset.

    Attributes:
        name: of the dataset.
        folder: the folder that was given.
        label_files, features: the usual or the given places, relative to the folder or absolute; None leaves out a
            modality.
        chosen: the label files and modalities whose places were given; they are not searched for.
        layouts: other layouts of the files.
        label_folder, feature_folder: separate folders of labels and of features, if any.
    """

    name: str
    folder: Path
    label_files: Mapping[str, str | Path]
    features: Mapping[str, Locations | None]
    chosen: frozenset[str] = frozenset()
    layouts: Layouts = NO_LAYOUTS
    label_folder: Path | None = None
    feature_folder: Path | None = None


@dataclass(frozen=True)
class Found:
    """Paths of the features by modality, relative to the dataset's folder or absolute, and every path that was read."""

    features: dict[str, Path]
    every: list[Path]


def find_labels(own: FilesOf, check: Callable[[Mapping[str, Path]], object]) -> dict[str, Path]:
    """Return the label files, as absolute paths or relative to the present folder.

    Args:
        own: the files to find.
        check: raises DataError where label files are those of another dataset.

    Raises:
        DataError: they are not found; the sentence names the layouts that are accepted.
    """
    root = own.label_folder or own.folder
    usual = {key: (own.folder if key in own.chosen else root) / path for key, path in own.label_files.items()}
    if own.chosen & set(own.label_files) or all(path.is_file() for path in usual.values()):
        return usual
    if not root.is_dir():
        raise DataError(f"there is no folder {root} for the labels of {own.name}: give one that exists")
    names = {key: own.layouts.label_files.get(key, (str(path),)) for key, path in own.label_files.items()}
    found = labels_below(root, names, check, own.name)
    if found is None:
        if not own.layouts.said:  # how this dataset reads its labels is its own affair
            return usual
        missing = next(path for path in usual.values() if not path.is_file())
        if missing.exists():
            raise DataError(f"the label file {missing} is no regular file: give a text file")
        raise DataError(
            f"there is no label file {missing} of {own.name}, and {root} holds {_contents(root)}: put it there or give "
            f"its folder{own.layouts.sentence()}"
        )
    log.info("%s: labels %s", own.name, " and ".join(map(str, found.values())))
    return found


def find_files(own: FilesOf, labels: Mapping[str, Path], examples: Sequence[Example], needs: Collection[str]) -> Found:
    """Return the paths of the features of some videos.

    Args:
        own: the files to find.
        labels: the label files.
        examples: the videos.
        needs: modalities that must exist.

    Raises:
        DataError: a needed modality is not found, or found twice.
    """
    given = {key: place for key, place in own.features.items() if key in own.chosen}
    found = find_features(own.folder, given)
    label_folder = next(iter(labels.values())).parent
    roots = [own.feature_folder] if own.feature_folder else list(dict.fromkeys([own.folder, label_folder]))
    missing = [key for key, place in own.features.items() if key not in own.chosen and place is not None]
    for modality in list(missing):
        place = _at_usual_place(own, modality, roots, label_folder)
        if place is not None:
            found[modality] = place
            missing.remove(modality)
    unusual = "visual" in missing
    if unusual or set(missing) - set(OPTIONAL):
        # Beside visual features at their usual place, what is optional is at its usual place or not there.
        wanted = [key for key in missing if key != VISION_LANGUAGE and (unusual or key not in OPTIONAL)]
        files = {
            key: [Path(name).name for name in listed(place) if str(name).endswith(".npy")]
            for key, place in own.features.items()
            if place is not None
        }
        searched = features_below(roots, examples, files, wanted)
        found |= {modality: relative_to(own.folder, path) for modality, path in searched.items()}
        if searched:
            log.info("%s: %s", own.name, ", ".join(f"{key} features {path}" for key, path in searched.items()))
    _require(own, found, needs, roots)
    every = [*labels.values(), *found.values()]
    if label_folder != own.folder or any(path not in _usual(own) for path in found.values()):
        every += [label_folder, *((own.folder / path).parent for path in found.values())]
    return Found({key: found[key] for key in own.features if key in found}, every)


def _contents(folder: Path) -> str:
    """What lies in a folder, in a few words."""
    try:
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    except OSError:  # not there, or not ours to read
        return "nothing that can be listed"
    names = [name for name in names if not name.startswith(".")]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}" if names else "nothing"


def _at_usual_place(own: FilesOf, modality: str, roots: Sequence[Path], label_folder: Path) -> Path | None:
    for root in roots:
        for place in listed(own.features[modality] or ()):
            if (root / place).exists():
                return place if root == own.folder else relative_to(own.folder, root / place)
    for name in own.layouts.features.get(modality, ()) if own.feature_folder is None else ():
        if (label_folder / name).exists():
            return relative_to(own.folder, label_folder / name)
    return None


def _usual(own: FilesOf) -> set[Path]:
    return {path for place in own.features.values() if place is not None for path in listed(place)}


def _require(own: FilesOf, found: Mapping[str, Path], needs: Collection[str], roots: Sequence[Path]) -> None:
    for modality, place in own.features.items():
        if modality in found or place is None:
            continue
        if modality in needs:
            tried, held = " or ".join(str(roots[0] / path) for path in listed(place)), _contents(roots[0])
            raise DataError(
                f"there is no feature folder or file {tried} of {own.name}, and {roots[0]} holds {held}: put the "
                f"{modality} features there or name their place{own.layouts.sentence()}"
            )
        if modality not in OPTIONAL:
            log.info("%s: no %s features found; it is read without them", own.name, modality)
