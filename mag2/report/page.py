"""A page of HTML in one file: no network, no tracker, everything from data escaped, readable without its script."""

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mag2.saving import library_version

if TYPE_CHECKING:
    from mag2.figures import Drawing

__all__ = [
    "Code",
    "Column",
    "Entry",
    "Facts",
    "Heading",
    "Items",
    "Page",
    "Picture",
    "Points",
    "Section",
    "Sentence",
    "SortableTable",
    "TableBlock",
    "number",
    "render",
]


@dataclass(frozen=True)
class Column:
    """A column of a table. kind: "text", "number". first: of its group. name: holds names from the data."""

    title: str
    kind: str = "number"
    first: bool = False
    name: bool = False

    @property
    def look(self) -> str:
        """The class of its cells."""
        return "name" if self.name else "words" if self.kind == "text" else "number"


@dataclass(frozen=True)
class Entry:
    """A cell: its text, the number it is sorted by, and a remark in small letters."""

    text: str
    value: float | None = None
    small: str = ""


@dataclass(frozen=True)
class SortableTable:
    """A table. groups: (title, columns) of a line above the headings; none for no such line."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Entry]]
    groups: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class TableBlock:
    """A table on the page. folded: the sentence behind which it is folded away; "" for an open one."""

    table: SortableTable
    folded: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Sentence:
    """A paragraph. scripted: it describes the effect of the script, and is shown only where that runs."""

    text: str
    scripted: bool = False
    kind: str = "sentence"


@dataclass(frozen=True)
class Heading:
    """A heading below that of the section."""

    text: str
    kind: str = "heading"


@dataclass(frozen=True)
class Points:
    """A score in large letters, with a text next to it."""

    text: str
    more: str
    kind: str = "score"


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: Sequence[str]
    kind: str = "list"


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    facts: Sequence[tuple[str, str]]
    kind: str = "facts"


@dataclass(frozen=True)
class Code:
    """Commands."""

    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Picture:
    """A figure as an image: nothing in it can run. source: a data URI. wide: keeps its width on a phone and scrolls."""

    title: str
    caption: str
    source: str
    width: int
    height: int
    wide: bool
    kind: str = "figure"

    @classmethod
    def of(cls, drawing: "Drawing") -> "Picture":
        """The picture of a figure."""
        svg = drawing.encoded("svg")
        width, height = (round(float(each) * 96) for each in drawing.figure.get_size_inches())
        source = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
        return cls(drawing.title, drawing.caption, source, width, height, width > 520)


@dataclass(frozen=True)
class Section:
    """A part of the page, with its title in the list of parts."""

    title: str
    blocks: Sequence[Any]


@dataclass(frozen=True)
class Page:
    """A page. lead: lines below the title. marks: what a reader must not miss."""

    title: str
    sections: Sequence[Section]
    lead: Sequence[str] = ()
    marks: Sequence[str] = ()
    made_by: str = field(default_factory=lambda: f"Written by mag2 {library_version()}. This page loads nothing.")


def render(page: Page) -> str:
    """The page as HTML. Equal pages give equal texts.

    Raises:
        ValueError: Jinja2 is not installed.
    """
    css, script = (_own(name) for name in ("page.css", "page.js"))
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_digest(css)}'",
            f"script-src '{_digest(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    markup = _markup()
    return _template().render(page=page, css=markup(css), script=markup(script), policy=policy) + "\n"


def number(value: float | None, digits: int = 4) -> Entry:
    """A number to so many significant digits; an empty entry for none."""
    if value is None or value != value:
        return Entry("" if value is None else "nan")
    return Entry(f"{value:.{digits}g}", float(value))


@cache
def _template() -> Any:
    try:
        import jinja2
    except ImportError:
        raise ValueError("a report needs Jinja2: pip install 'mag2[report]'") from None
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_shown, keep_trailing_newline=False
    )
    return environment.from_string(_own("page.html"))


def _markup() -> Any:
    import markupsafe

    return markupsafe.Markup


# What HTML may not hold, and what turns the direction of the text around it.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def _shown(value: Any) -> Any:
    """A value as it may stand on the page; Markup stays as it is."""
    return _FORBIDDEN.sub("\ufffd", value) if type(value) is str else value


def _own(name: str) -> str:
    """A file beside this one, with the line ends that its digest is of."""
    return io.StringIO((files("mag2.report") / name).read_text(encoding="utf-8"), newline=None).read()


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
