"""A reader of pickled features that runs no code of the file."""

import pickle
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from mag2.data.errors import DataError

__all__ = ["load_pickle"]

# Kinds of numpy numbers and strings that a feature or label file may hold; "O" holds plain values in turn.
PLAIN_KINDS = "biufcSUO"


def load_pickle(path: str | Path) -> Any:
    """Read a pickle, or an object `.npy` as `numpy.save` writes a dict, of arrays and plain Python values.

    Arrays come back as `numpy.ndarray`; a dict that `numpy.save` wrapped into an array comes back as the
    dict. Files of numpy 1 and 2, of every pickle protocol and of Python 2 are read. A pickle is a program;
    here it can build numbers, strings, bytes, tuples, lists, dicts, sets and arrays of these, nothing else:
    no class or function outside a fixed list is even imported.

    Raises:
        DataError: one sentence naming the file, and the class or function it asked for if that was refused.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            magic = stream.read(len(np.lib.format.MAGIC_PREFIX))
            stream.seek(0)
            return _load_npy(stream) if magic == np.lib.format.MAGIC_PREFIX else _PlainUnpickler(stream).load()
    except OSError as fault:
        raise DataError(f"{path} cannot be read ({fault.strerror}): give a pickle or a .npy file") from None
    except _RefusalError as refusal:
        raise DataError(
            f"{path} asks for {refusal}, and only arrays and plain values are read: save it again as such"
        ) from None
    except Exception as fault:  # a damaged pickle can fail in any way
        raise DataError(
            f"{path} is no whole pickle of arrays and plain values ({type(fault).__name__}): fetch it again"
        ) from fault


def _load_npy(stream: BinaryIO) -> Any:
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = header(stream)
    if not dtype.hasobject:
        stream.seek(0)
        return np.load(stream, allow_pickle=False)
    if dtype != np.dtype(object):
        raise _RefusalError("an array with named fields")
    array = _PlainUnpickler(stream).load()
    return array.item() if array.ndim == 0 else array


class _RefusalError(Exception):
    """What a pickle asked for and was refused."""


class _Marker:
    """Stands for the class `numpy.ndarray` in a pickle, where it is an argument and never called."""


class _Dtype:
    """A dtype under construction.

    numpy's own `dtype.__setstate__` trusts flags that a forged file can set, and would then read bytes as pointers.
    So only the name and the byte order are used.
    """

    def __init__(self, name: Any, align: Any = False, copy: Any = True):
        self.dtype = np.dtype(name if isinstance(name, str) else _refuse("a dtype without a name"))
        if self.dtype.kind not in PLAIN_KINDS or self.dtype.names or self.dtype.subdtype:
            raise _RefusalError(f"the dtype {name!r}")

    def build(self, state: tuple) -> None:
        _, order, subarray, names, fields = state[:5]
        if subarray is not None or names is not None or fields is not None:
            raise _RefusalError("an array with named fields")
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


def _refuse(what: str) -> Any:
    raise _RefusalError(what)


def _empty_array(marker: Any, shape: Any, code: Any) -> np.ndarray:
    if marker is not _ARRAY:
        raise _RefusalError("a subclass of numpy.ndarray")
    return np.empty(0, dtype=np.int8)


def _build_array(array: np.ndarray, state: tuple) -> None:
    version, shape, dtype, fortran, content = state
    if isinstance(content, str):  # Python 2 bytes, decoded as latin1
        content = content.encode("latin1")
    array.__setstate__((version, shape, dtype.dtype, fortran, content))


def _array_from_bytes(content: Any, dtype: _Dtype, shape: tuple, order: str) -> np.ndarray:
    # bytearray: an array that is read from a file can be written to, as numpy's own reader has it.
    return np.frombuffer(bytearray(content), dtype=dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _Dtype, content: Any) -> Any:
    if dtype.dtype.kind == "O":
        raise _RefusalError("an object as a numpy scalar")
    if isinstance(content, str):
        content = content.encode("latin1")
    return np.frombuffer(content, dtype=dtype.dtype, count=1)[0]


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _RefusalError(f"the encoding {encoding!r}")
    return text.encode("latin1")


_ARRAY = _Marker()
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _empty_array
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _array_from_bytes
for _builtins in ("builtins", "__builtin__"):  # Python 3 and Python 2
    for _plain in (bytes, bytearray, complex, set, frozenset):
        _ALLOWED[_builtins, _plain.__name__] = _plain


class _PlainUnpickler(pickle._Unpickler):
    """The standard library's Python unpickler, with a fixed list of names and its own way to fill arrays.

    The C unpickler gives an object its state at once; this one checks it first.
    """

    def __init__(self, stream: BinaryIO):
        super().__init__(stream, encoding="latin1")  # so that Python 2's byte strings can be read

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _RefusalError(f"{module}.{name}")
        return _ALLOWED[module, name]

    def load_build(self) -> None:
        state = self.stack.pop()  # type: ignore[attr-defined]
        target = self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(target, _Dtype):
            target.build(state)
        elif type(target) is np.ndarray:
            _build_array(target, state)
        else:
            raise _RefusalError(f"the state of a {type(target).__name__}")

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}
