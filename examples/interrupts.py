"""Start an example: Ctrl-C ends it with one line and status 130, also while torch is imported; errors are one line.

Examples import this module first. It imports nothing but the standard library.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["run"]


def _end(*_: object) -> None:
    os.write(2, b"\nstopped\n")
    os._exit(130)  # an exception within an import may become another one there


def run(main: Callable[..., int | None], *arguments: Any) -> int:
    """`main(*arguments)` as the end of an example: its exit status, 2 where the input is at fault, 130 after Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on, what is open is closed
    try:
        return main(*arguments) or 0
    except (ValueError, OSError) as error:
        from mag2.saving.sentences import one_line

        print(f"{Path(sys.argv[0]).name}: error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


# Where an example is the program itself, and not a module of a test or of a worker.
_program = getattr(sys.modules["__main__"], "__file__", None)
if _program is not None and Path(_program).resolve().parent == Path(__file__).resolve().parent:
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, _end)
