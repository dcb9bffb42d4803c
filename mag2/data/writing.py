"""Write the files of a simulated dataset."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mag2.data.errors import DataError
from mag2.data.reading import SIMULATED
from mag2.saving.atomic_io import remove_leftovers, replacing, write_atomically

__all__ = ["start_folder", "write_pickled", "write_rows", "write_videos"]


def start_folder(folder: Path, about: str, feature_paths: Iterable[str | Path]) -> None:
    """Make a folder for simulated files, mark it as simulated, and remove features of an older simulation from it.

    Raises:
        DataError: the folder holds files that no simulation has written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / SIMULATED).is_file():
        raise DataError(f"{folder} holds other files: give a new or empty folder to the simulation")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(about, folder / SIMULATED)
    remove_leftovers(folder)
    for relative in feature_paths:
        path = folder / relative
        remove_leftovers(path)
        for old in [path] if path.is_symlink() or path.is_file() else path.glob("*.npy"):
            old.unlink()
        with suppress(OSError):  # no folder, or one with other things in it
            path.rmdir()


def write_rows(path: Path, rows: Iterable[Sequence[str]], separator: str = " ") -> None:
    """Write the rows of a label file, the fields of a row with a blank or another separator between."""
    write_atomically("".join(separator.join(row) + "\n" for row in rows), path)


def write_videos(folder: Path, names: Sequence[str], videos: Iterable[NDArray]) -> None:
    """Write one `<name>.npy` per video."""
    folder.mkdir(exist_ok=True)
    for name, video in zip(names, videos, strict=True):
        with replacing(folder / f"{name}.npy") as partial, partial.open("wb") as file:
            np.save(file, video)


def write_pickled(file: Path, names: Sequence[str], videos: Iterable[NDArray]) -> None:
    """Write all videos into one file, a dict name -> array as `numpy.save` pickles it."""
    with replacing(file) as partial, partial.open("wb") as stream:
        np.save(stream, np.array(dict(zip(names, videos, strict=True)), dtype=object), allow_pickle=True)
