"""The header of a `.npy` file, checked before anything is allocated for what it announces."""

import math
import os
from typing import BinaryIO

import numpy as np

__all__ = ["NPY_MAGIC", "checked_header"]

NPY_MAGIC = np.lib.format.MAGIC_PREFIX


def checked_header(stream: BinaryIO) -> np.dtype:
    """The dtype of a `.npy` file that is whole; the stream stands at its first number, or at its pickle, afterwards.

    Args:
        stream: at the file's first byte.

    Raises:
        ValueError: a damaged header, or numbers that the file does not have; the reason, for the end of a sentence.
    """
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    except OSError:
        raise
    except Exception as fault:  # numpy evaluates the header as Python text, which can fail in any way
        raise ValueError("has a damaged .npy header") from fault
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"has a .npy header with the shape {shape}")
    if dtype.hasobject:
        return dtype
    here = stream.tell()
    held = stream.seek(0, os.SEEK_END) - here
    stream.seek(here)
    wanted = math.prod(shape) * max(dtype.itemsize, 1)
    if wanted > held:
        raise ValueError(f"announces {wanted:,} bytes of numbers and has {held:,}")
    return dtype
