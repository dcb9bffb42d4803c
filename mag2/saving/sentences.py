"""Names, paths and reasons in error sentences: on one line and without control characters."""

import re
import reprlib
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches

__all__ = [
    "check_name",
    "error_sentence",
    "nearest_name",
    "one_line",
    "printable",
    "reason_of",
    "shortened",
    "unknown_name",
]

# Control characters, those that turn the direction of the text after them, separators of lines, and halves of pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial$")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def printable(text: str) -> str:
    """Return the text with every control or invisible character escaped."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return the text on one line: blanks and breaks between words become a blank, control characters are escaped."""
    return printable(" ".join(re.split(r"[ \t\r\n]+", text.strip())))


def error_sentence(error: BaseException) -> str:
    """What an error says, in one line; of a fault of the system the file and the reason, without its number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        name = _PARTIAL.sub("", str(error.filename))  # the partial file is ours, not one that was given
        return one_line(f"{name} cannot be read or written ({error.strerror}); give another path")
    return one_line(str(error)) or type(error).__name__


def shortened(value: object) -> str:
    """A value in one short line, however long it is."""
    try:
        return one_line(_SHORT.repr(value))
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return f"a {type(value).__name__} too long to write"


def reason_of(fault: OSError) -> str:
    """Return the reason of an error of the operating system, in its words."""
    return fault.strerror or one_line(str(fault)) or "the system refused it"


def check_name(kind: str, given: object, known: Collection[str]) -> None:
    """Refuse a name that is not among the known ones."""
    if given not in known:
        raise ValueError(unknown_name(kind, given, known))


def unknown_name(kind: str, given: object, known: Iterable[str]) -> str:
    """That a name is unknown, the names that there are, and the one that is nearest to it, if one is near."""
    names = list(map(str, known))
    near = nearest_name(given, names) if isinstance(given, str) else None
    return f"unknown {kind} {given!r}; there are {', '.join(names)}{'' if near is None else f'; the nearest is {near}'}"


def nearest_name(given: str, known: Sequence[str]) -> str | None:
    """The name that is nearest to a given one, however it is spelt: it has it as a part, or nearly its letters."""
    plain = {_plain(name): name for name in reversed(known)}
    text = _plain(given)
    if text in plain:
        return plain[text]
    close = get_close_matches(text, plain, n=1)
    if not close and len(text) > 2:
        close = [name for name in plain if text in name or (len(name) > 2 and name in text)][-1:]
    return plain[close[0]] if close else None


def _plain(name: str) -> str:
    """Letters, digits and + in lower case: what is left of figure_skating, Figure skating and figure-skating."""
    return "".join(letter for letter in name.casefold() if letter.isalnum() or letter == "+")
