"""What the library's log says while files are read: each line once, on the standard error stream."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["log_on_stderr"]


class _Kept(logging.Handler):
    """Keeps every line once."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.setdefault(record.getMessage())


@contextmanager
def log_on_stderr(name: str = "mag2") -> Iterator[None]:
    """Show the log lines of a package from inside the block: which files were read, and how.

    If the block raises an error, they are not shown, because the error names the file.
    """
    logger, handler = logging.getLogger(name), _Kept()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    for line in handler.lines:
        print(line, file=sys.stderr)
