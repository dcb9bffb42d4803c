"""The one error that faulty data raises."""

from mag2.saving.sentences import printable

__all__ = ["DataError"]


class DataError(ValueError):
    """A fault of the input: one sentence that names the file (and line) and says what to do.

    Names of files are of others: what a terminal would obey in them is escaped.
    """

    def __init__(self, sentence: str = ""):
        super().__init__(printable(sentence))
