"""The one error that faulty data raises."""

__all__ = ["DataError"]


class DataError(ValueError):
    """A fault of the input: one sentence that names the file (and line) and says what to do."""
