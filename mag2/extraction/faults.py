"""Errors about videos and about missing packages."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from mag2.saving.sentences import printable

__all__ = ["VideoError", "needed", "reason"]


class VideoError(ValueError):
    """The error about a video that cannot be read: one sentence with the file and what to do."""

    def __init__(self, sentence: str = ""):
        super().__init__(printable(sentence))


def needed(module: str) -> ModuleType:
    """A module of the extra `video`.

    Raises:
        ValueError: it is not installed; the sentence says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = (error.name or module).partition(".")[0]
        raise ValueError(f"this needs the package {missing}; install it with: pip install 'mag2[video]'") from None


def reason(error: BaseException, path: Path | None = None) -> str:
    """The first line of an error's message, without FFmpeg's number and file name."""
    text = str(getattr(error, "strerror", None) or error).strip()
    line = printable(text.splitlines()[0]) if text else "no reason is given"
    return line if path is None else line.replace(f"'file:{path}'", "").strip(" :")
