"""What the library's log says while a command runs, on the standard error stream, each line once."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["log_on_stderr"]


class _Once(logging.Filter):
    """Lets every line through once."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.getMessage()
        new = line not in self._seen
        self._seen.add(line)
        return new


@contextmanager
def log_on_stderr(name: str = "mag2") -> Iterator[None]:
    """Show the log of a package while the block runs: which files were read, and how."""
    logger, handler = logging.getLogger(name), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(_Once())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
