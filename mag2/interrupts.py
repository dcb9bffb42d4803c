"""Ctrl-C while a command imports torch: one line and status 130, no traceback. Imports the standard library alone."""

import os
import signal
import sys
import threading
from pathlib import Path

__all__ = ["end"]


def _end(*_: object) -> None:
    os.write(2, b"\nstopped\n")
    os._exit(130)  # an exception within an import may become another one there


def _begin() -> None:
    """End at once, in the process of a command.

    That is `mag2`, or `python -m mag2...`, whose name is "-m" while its package is imported. A process that imports the
    library keeps its own handler, and so does a worker of a command.
    """
    name = sys.argv[0] if getattr(sys, "argv", None) else ""
    is_command = name == "-m" or (Path(name).stem == "mag2" and "__mp_main__" not in sys.modules)
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_command and own and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end)


def end() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt as usual, so that what is open is closed."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_begin()  # the package imports this module first
