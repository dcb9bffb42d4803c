"""The header of a `.npy` file, checked before memory is allocated for its array."""

import math
import os
import reprlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["NPY_MAGIC", "NpyHeader", "checked_header", "map_npy"]

NPY_MAGIC = np.lib.format.MAGIC_PREFIX


class NpyHeader(NamedTuple):
    """Shape, order and dtype of the array in a `.npy` file."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


def checked_header(stream: BinaryIO) -> NpyHeader:
    """Read the header of a complete `.npy` file; afterwards the stream is at the first number, or at the pickle.

    Args:
        stream: at the first byte of the file.

    Raises:
        ValueError: a damaged header, or numbers that the file does not have; the reason, for the end of a sentence.
    """
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except OSError:
        raise
    except Exception as fault:  # numpy evaluates the header as Python text, which can fail in any way
        raise ValueError("has a damaged .npy header") from fault
    if not all(type(length) is int and 0 <= length < 2**63 for length in shape):
        raise ValueError(f"has a .npy header with the shape {reprlib.repr(shape)}")
    if dtype.hasobject:
        return NpyHeader(shape, fortran, dtype)
    here = stream.tell()
    held = stream.seek(0, os.SEEK_END) - here
    stream.seek(here)
    wanted = math.prod(shape) * max(dtype.itemsize, 1)
    if wanted > held:
        raise ValueError(
            f"announces the shape {reprlib.repr(shape)} of {dtype!s:.40} and has {held:,} bytes of numbers"
        )
    return NpyHeader(shape, fortran, dtype)


def map_npy(file: Path) -> NDArray:
    """A read-only memory map of a `.npy` file, whose header is read once. Nothing is ever unpickled.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no plain array, or is damaged; the reason, for the end of a sentence.
    """
    with file.open("rb") as stream:
        magic = stream.read(len(NPY_MAGIC))
        if magic.startswith(b"PK\x03\x04"):
            raise ValueError("holds several arrays")
        if magic != NPY_MAGIC:
            raise ValueError("holds no plain array")
        stream.seek(0)
        try:
            shape, fortran, dtype = checked_header(stream)
        except ValueError as fault:
            raise ValueError(f"holds no plain array (it {fault})") from fault
        if dtype.hasobject:
            raise ValueError("holds no plain array")
        begin = stream.tell()
    try:
        return np.memmap(file, dtype, "r", begin, shape, "F" if fortran else "C")
    except OSError:
        raise
    except Exception as fault:  # sizes that no array can have
        raise ValueError("holds no plain array") from fault
