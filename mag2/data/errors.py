"""The one error that faulty data raises."""

from mag2.saving.sentences import printable

__all__ = ["DataError"]


class DataError(ValueError):
    """An error in the input data: one sentence that names the file (and line) and what to do.

    Control characters in names of files are escaped, so that they have no effect in a terminal.
    """

    def __init__(self, sentence: str = ""):
        super().__init__(printable(sentence))
