"""Names, paths and reasons in error sentences: on one line and without control characters."""

import re
import reprlib

__all__ = ["one_line", "printable", "reason_of", "shortened"]

# Control characters, those that turn the direction of the text after them, separators of lines, and halves of pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def printable(text: str) -> str:
    """Return the text with every control or invisible character escaped."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return the text on one line: blanks and breaks between words become a blank, control characters are escaped."""
    return printable(" ".join(re.split(r"[ \t\r\n]+", text.strip())))


def shortened(value: object) -> str:
    """A value in one short line, however long it is."""
    try:
        return one_line(_SHORT.repr(value))
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return f"a {type(value).__name__} too long to write"


def reason_of(fault: OSError) -> str:
    """Return the reason of an error of the operating system, in its words."""
    return fault.strerror or one_line(str(fault)) or "the system refused it"
