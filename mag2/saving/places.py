"""Where a command writes: refused before the work where nothing can be written there, and made where it is missing."""

from pathlib import Path

from mag2.saving.full_disk import is_full, naming_full_disk
from mag2.saving.sentences import reason_of

__all__ = ["absence_of", "check_file_place", "check_folder_place", "make_folder"]


def absence_of(folder: Path) -> str:
    """Why a path is no folder, as the beginning of a sentence."""
    return f"{folder} is a file" if folder.exists() else f"there is no folder {folder}"


def check_folder_place(folder: Path, use: str = "") -> None:
    """Raise ValueError where a file stands in the place of a folder, or of one above it; `use` ends the advice."""
    file = next((each for each in (folder, *folder.parents) if each.exists() and not each.is_dir()), None)
    if file == folder:
        raise ValueError(f"{folder} is a file; give a folder{use}")
    if file is not None:
        raise ValueError(f"{file} is a file, in which {folder} cannot lie; give another folder{use}")


def check_file_place(path: Path) -> None:
    """Raise ValueError where a folder stands in the place of a file, or a file in that of its folder."""
    if path.is_dir() and not path.is_symlink():
        raise ValueError(f"{path} is a folder; move it away, or give another path")
    check_folder_place(path.parent)


def make_folder(folder: Path, use: str = "") -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        ValueError: a file stands in its place, or the system refuses it; one sentence. DiskFullError: as named.
    """
    check_folder_place(folder, use)
    try:
        with naming_full_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        if is_full(fault):
            raise
        raise ValueError(f"{folder} cannot be made ({reason_of(fault)}); give another folder{use}") from fault
