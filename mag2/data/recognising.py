"""Whose label files lie in a folder: to say which dataset was given where another one was requested."""

from collections.abc import Iterable
from pathlib import Path

from mag2.data.layouts import files_in
from mag2.data.spec import DatasetSpec

__all__ = ["datasets_in", "label_files_in", "refusal_of"]


def datasets_in(folder: Path, specs: Iterable[DatasetSpec]) -> list[str]:
    """The names of the datasets whose label files lie in the folder itself, not below it, and can be read."""
    return [spec.name for spec in specs if any(refusal_of(folder, spec, target) is None for target in spec.targets)]


def label_files_in(folder: Path, spec: DatasetSpec, target: str) -> dict[str, Path] | None:
    """The files in a folder that have the names of a dataset's label files; None unless all of them are there."""
    names = {key: (name,) for key, name in spec.label_files.items()} | dict(spec.layouts.label_files)
    paths = {key: tuple(str(spec.path_of(name, target)) for name in known) for key, known in names.items()}
    return files_in(folder, paths) if paths else None


def refusal_of(folder: Path, spec: DatasetSpec, target: str) -> str | None:
    """Why the label files in a folder are not those of a dataset, "" where there are none; None where they are."""
    files = label_files_in(folder, spec, target)
    if files is None:
        return ""
    try:
        spec.require_own(files, target)
    except (ValueError, OSError, LookupError, TypeError) as fault:  # a dataset of the user's own may raise any
        return str(fault) or type(fault).__name__
    return None
