"""A figure with its caption, and the files that it becomes: the same figure gives the same bytes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mag2.figures.style import style
from mag2.saving.atomic_io import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "Drawing", "check_formats"]

# Without the date and the version of matplotlib, which would make equal figures differ.
METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
FORMATS = tuple(METADATA)
DPI = 160


@dataclass(frozen=True, eq=False, repr=False)
class Drawing:
    """One figure with its caption.

    Attributes:
        name: of its files, without the ending.
        title: a few words.
        caption: what it shows, of which data, protocol and seed.
        figure: the matplotlib figure.
    """

    name: str
    title: str
    caption: str
    figure: "Figure"

    def __repr__(self) -> str:
        return f"Drawing({self.name!r}: {self.title})"

    def encoded(self, format: str) -> bytes:
        """Return the content of its file, in the format "svg", "png" or "pdf"."""
        memory = io.BytesIO()
        with style():
            self.figure.savefig(memory, format=format, dpi=DPI, metadata=METADATA[format])
        return memory.getvalue()

    def save(self, folder: Path, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
        """Write its files into an existing folder, atomically, and return their paths.

        `formats` are any of "svg", "png" and "pdf".
        """
        paths = []
        for format in formats:
            path = folder / f"{self.name}.{format}"
            with replacing(path) as partial:
                partial.write_bytes(self.encoded(format))
            paths.append(path)
        return paths


def check_formats(formats: Sequence[str]) -> None:
    """Refuse formats that are not of `FORMATS`, before anything is drawn.

    Raises:
        ValueError: another format, or none.
    """
    unknown = [format for format in formats if format not in FORMATS]
    if unknown or not formats:
        given = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"figures are written as {', '.join(FORMATS)}; got {given}")
