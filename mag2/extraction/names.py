"""The names of videos, which become the names of files."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mag2.saving.sentences import printable

__all__ = ["VIDEO_ENDINGS", "named_videos"]

_ENDINGS = ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv"
VIDEO_ENDINGS = frozenset(_ENDINGS.split())
_Path = str | os.PathLike[str]
# No separators, no control characters, nothing that is no text or that Windows refuses; no dot or blank at an end.
_NAME = re.compile(r'(?![. ])[^/\\:*?"<>|\x00-\x1f\ud800-\udfff]+(?<![. ])')
# A file name has 255 bytes at most on most systems, and a temporary one of ours is 29 longer.
LONGEST = 200


def named_videos(video: _Path | Sequence[_Path] | Mapping[str, _Path]) -> dict[str, Path]:
    """The files of all videos by name.

    Args:
        video: one path, several, or a mapping from names to paths. Without a mapping the name of a video is that of its
            file without the ending. A folder means all videos in it.

    Raises:
        ValueError: no video, two videos of one name, or a name that cannot be the name of a file.
    """
    pairs: list[tuple[str, Path]] = []
    if isinstance(video, Mapping):
        pairs = [(str(name), Path(path)) for name, path in video.items()]
    else:
        for path in [video] if isinstance(video, str | os.PathLike) else video:
            pairs += [(file.stem, file) for file in _files(Path(path))]
    if not pairs:
        raise ValueError("there are no videos; give the path of one, or several")
    videos: dict[str, Path] = {}
    for name, path in pairs:
        if not _NAME.fullmatch(name) or printable(name) != name or len(name.encode()) > LONGEST:
            raise ValueError(
                f'{name!r} is no name for the features of a video; give one without / \\ : * ? " < > |, '
                f"without a dot or blank at its ends, of {LONGEST} bytes at most"
            )
        if name in videos:
            raise ValueError(
                f"{videos[name]} and {path} would both be called {name!r}; give names as a mapping, or rename one"
            )
        videos[name] = path
    return videos


def _files(path: Path) -> list[Path]:
    """The videos of a folder, or the file itself."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_ENDINGS and file.is_file())
    if not files:
        raise ValueError(f"there is no video in {path}; their names end in {' '.join(sorted(VIDEO_ENDINGS))}")
    return files
