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
    """Show what a package logged in the block: which files were read, and how.

    Where the block raises nothing is shown: the error is one sentence, and names the file itself.
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
