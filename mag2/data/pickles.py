"""A reader of pickled features that runs no code of the file."""

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mag2.data.errors import DataError
from mag2.data.npy_header import NPY_MAGIC, checked_header
from mag2.saving.bounded_unpickler import BoundedUnpickler, RefusedPickleError, checked_key
from mag2.saving.sentences import reason_of

__all__ = ["load_pickle"]

# Kinds of numpy numbers and strings that a feature or label file may hold; "O" holds plain values in turn.
PLAIN_KINDS = "biufcSUO"
MAX_OBJECT_ARRAYS = 16  # in one another; unlike lists, numpy frees them by recursion


def load_pickle(path: str | Path) -> Any:
    """Read a pickle of arrays and plain Python values without running any code of the file.

    A `.npy` file is accepted too: a plain array, or an object array as `numpy.save` writes a dict. Arrays are returned
    as `numpy.ndarray`; a dict that `numpy.save` put into an array is returned as the dict. Files of numpy 1 and 2, of
    every pickle protocol and of Python 2 are read. A pickle is a program. Here it can only build numbers, strings,
    bytes, tuples, lists, dicts, sets and arrays of these; no class or function outside a fixed list is imported.

    Args:
        path: the file.

    Raises:
        DataError: one sentence that names the file, and the class or function in it that was refused.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no regular file: give a pickle or a .npy file")
    try:
        with path.open("rb") as stream:
            magic = stream.read(len(NPY_MAGIC))
            stream.seek(0)
            return _load_npy(stream) if magic == NPY_MAGIC else _PlainUnpickler(stream).load()
    except OSError as fault:
        advice = "allow this user to read it" if isinstance(fault, PermissionError) else "give a pickle or a .npy file"
        raise DataError(f"{path} cannot be read ({reason_of(fault)}): {advice}") from None
    except RefusedPickleError as refusal:
        raise DataError(f"{path} {refusal}, and only arrays and plain values are read: save it again as such") from None
    except Exception as fault:  # a damaged pickle can fail in any way
        raise DataError(f"{path} is no whole pickle of arrays and plain values: fetch it again") from fault


def _load_npy(stream: BinaryIO) -> Any:
    dtype = checked_header(stream).dtype
    if not dtype.hasobject:
        stream.seek(0)
        return np.load(stream, allow_pickle=False)
    if dtype != np.dtype(object):
        raise RefusedPickleError("asks for an array with named fields")
    array = _PlainUnpickler(stream).load()
    return array.item() if isinstance(array, np.ndarray) and array.ndim == 0 else array


class _Marker:
    """Stands for the class `numpy.ndarray` in a pickle, where it is an argument and never called."""


class _Dtype:
    """A dtype under construction.

    numpy's own `dtype.__setstate__` trusts flags that a forged file can set, and would then read bytes as pointers.
    So only the name and the byte order are used.
    """

    def __init__(self, name: Any, align: Any = False, copy: Any = True):
        if not isinstance(name, str) or len(name) > 32:
            raise RefusedPickleError("asks for a dtype without a name")
        self.dtype = np.dtype(name)
        if self.dtype.kind not in PLAIN_KINDS or self.dtype.names or self.dtype.subdtype:
            raise RefusedPickleError(f"asks for the dtype {name!r}")

    def build(self, state: tuple) -> None:
        _, order, subarray, names, fields = state[:5]
        if subarray is not None or names is not None or fields is not None:
            raise RefusedPickleError("asks for an array with named fields")
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _PlainUnpickler(BoundedUnpickler):
    """An unpickler with a fixed list of names and its own way to fill arrays.

    numpy's own way trusts what the file says of an array; this one holds it against the bytes that are there.
    """

    def __init__(self, stream: BinaryIO):
        super().__init__(stream, encoding="latin1")  # so that Python 2's byte strings can be read
        # By id, with the array itself so that no other one gets its id.
        self._without_state: dict[int, np.ndarray] = {}
        self._of_objects: dict[int, tuple[np.ndarray, int]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function that the file names."""
        if (module, name) not in _ALLOWED:
            raise RefusedPickleError(f"asks for {module}.{name}")
        found = _ALLOWED[module, name]
        return getattr(self, found) if isinstance(found, str) else found

    def load_build(self) -> None:
        """Give a dtype or an array its state."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _Dtype):
            target.build(state)
        elif id(target) in self._without_state:
            self._fill(self._without_state.pop(id(target)), *state)
        else:
            raise RefusedPickleError(f"gives a state to a {type(target).__name__}")

    def _new_array(self, marker: Any, shape: Any, code: Any) -> np.ndarray:
        if marker is not _ARRAY:
            raise RefusedPickleError("asks for a subclass of numpy.ndarray")
        array = np.empty(0, dtype=np.int8)
        self._without_state[id(array)] = array
        return array

    def _fill(self, array: np.ndarray, version: Any, shape: tuple, dtype: _Dtype, fortran: Any, content: Any) -> None:
        count = _count(shape)
        if dtype.dtype.kind == "O":
            if type(content) is not list or len(content) != count:
                raise RefusedPickleError(f"gives an array of the shape {shape} another number of values")
            self._nest(array, content)
        else:
            if isinstance(content, str):  # Python 2 bytes, decoded as latin1
                content = self._latin1(content)
            _check_bytes(content, dtype.dtype, count)
            self.spend(len(content))  # a copy, where the bytes are in another order
        array.__setstate__((version, shape, dtype.dtype, fortran, content))

    def _nest(self, array: np.ndarray, content: list[Any]) -> None:
        depth = 1 + max((self._of_objects[id(part)][1] for part in content if id(part) in self._of_objects), default=0)
        if depth > MAX_OBJECT_ARRAYS:
            raise RefusedPickleError(f"nests more than {MAX_OBJECT_ARRAYS} arrays of objects")
        self._of_objects[id(array)] = array, depth

    def _array_from_bytes(self, content: Any, dtype: _Dtype, shape: tuple, order: str) -> np.ndarray:
        if dtype.dtype.kind == "O":
            raise RefusedPickleError("asks for objects in the place of bytes")
        _check_bytes(content, dtype.dtype, _count(shape))
        self.spend(len(content))
        # bytearray: an array that is read from a file can be written to, as numpy's own reader has it.
        flat = np.frombuffer(bytearray(content), dtype=dtype.dtype)
        return flat.reshape(shape, order="F" if order == "F" else "C")

    def _scalar(self, dtype: _Dtype, content: Any) -> Any:
        if dtype.dtype.kind == "O":
            raise RefusedPickleError("asks for an object as a numpy scalar")
        if isinstance(content, str):
            content = self._latin1(content)
        _check_bytes(content, dtype.dtype, 1)
        self.spend(len(content))
        return np.frombuffer(content, dtype=dtype.dtype, count=1)[0]

    def _latin1(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise RefusedPickleError(f"asks for the encoding {encoding!r}")
        self.spend(len(text))
        return text.encode("latin1")

    # The built-in types, without what makes many bytes of one number or hashes what is slow to hash.

    def _bytes(self, content: Any = b"", encoding: str | None = None) -> bytes:
        return bytes(self._items_of_bytes(content, encoding))

    def _bytearray(self, content: Any = b"", encoding: str | None = None) -> bytearray:
        return bytearray(self._items_of_bytes(content, encoding))

    def _items_of_bytes(self, content: Any, encoding: str | None) -> Any:
        if isinstance(content, str) and encoding is not None:
            return self._latin1(content, encoding)
        if not isinstance(content, bytes | bytearray | list | tuple):
            raise RefusedPickleError(f"asks for bytes of a {type(content).__name__}")
        self.spend(len(content))
        return content

    def _set(self, items: Any = ()) -> set:
        return set(self._keys(items))

    def _frozenset_of(self, items: Any = ()) -> frozenset:
        return frozenset(self._keys(items))

    def _keys(self, items: Any) -> list[Any]:
        if not isinstance(items, list | tuple):
            raise RefusedPickleError(f"asks for a set of a {type(items).__name__}")
        self.spend(8 * len(items))
        return [checked_key(item) for item in items]


def _count(shape: Any) -> int:
    """How many values an array of a shape has."""
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise RefusedPickleError(f"has an array of the shape {shape!r:.80}")
    return math.prod(shape)


def _check_bytes(content: Any, dtype: np.dtype, count: int) -> None:
    """Refuse content that is not `count` values; an array of nothing may still take memory for one."""
    if not isinstance(content, bytes | bytearray):
        raise RefusedPickleError(f"has numbers that are a {type(content).__name__}")
    if len(content) != count * dtype.itemsize or (not dtype.itemsize and count > 1_000_000):
        raise RefusedPickleError(f"announces {count:,} values of {dtype} and has {len(content):,} bytes of them")
    if dtype.itemsize > 2**20 + len(content):
        raise RefusedPickleError(f"asks for the dtype {dtype}")


_ARRAY = _Marker()
# By module and name: what stands for it, or the name of the method above that does.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): "_latin1",
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = "_new_array"
    _ALLOWED[f"{_core}.multiarray", "scalar"] = "_scalar"
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = "_array_from_bytes"
_PLAIN_TYPES = {
    "bytes": "_bytes",
    "bytearray": "_bytearray",
    "complex": complex,
    "set": "_set",
    "frozenset": "_frozenset_of",
}
for _builtins in ("builtins", "__builtin__"):  # Python 3 and Python 2
    _ALLOWED.update({(_builtins, _name): _found for _name, _found in _PLAIN_TYPES.items()})
