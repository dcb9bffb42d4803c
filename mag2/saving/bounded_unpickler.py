"""An unpickler that no file can exhaust: memory, time and depth stay in proportion to the size of the file."""

import os
import pickle
from collections.abc import Callable, Iterable
from struct import unpack
from typing import Any, BinaryIO, ClassVar

import numpy as np

__all__ = ["BoundedUnpickler", "RefusedPickleError", "check_nesting"]

# Far above what files of features, labels and checkpoints have, and far below what a process can bear.
MAX_DEPTH = 100  # of containers in one another
MAX_CONTAINERS = 2_000_000  # an empty set is one byte in a file and 216 in memory
MAX_MEMO = 4_000_000  # entries; one is one byte in a file and about a hundred in memory
MAX_NUMBER_BYTES = 1024  # of one whole number
MAX_SHARING = 64  # how many times larger than its file a value may be when what it shares is written out
MAX_KEY_ITEMS = 4  # of a tuple that is a key

_NARROW = range(-(2**31), 2**31)
_WIDE = range(-(2**63), 2**64)
_KEY_KINDS = "biufSU"  # of numpy scalars


class RefusedPickleError(ValueError):
    """What the content of a pickle was refused for, as the end of a sentence that begins with the file."""


class _SizedFile:
    """A file that takes no memory for bytes that it does not have, however many are requested."""

    def __init__(self, stream: BinaryIO):
        begin = stream.tell()
        self._end = stream.seek(0, os.SEEK_END)
        self.size = self._end - begin
        stream.seek(begin)
        self._stream = stream
        self.readline = stream.readline

    def read(self, count: int) -> bytes:
        if count > 65536:
            count = min(count, self._end - self._stream.tell())
        return self._stream.read(count)


class BoundedUnpickler(pickle._Unpickler):
    """The standard library's Python unpickler, within bounds.

    Dicts, lists and sets are the only things that items can be added to, and only plain keys are hashed: the hash of
    nested tuples that share their items takes a time that doubles with each level, and keys can be made to collide.

    Subclasses say with `find_class` what a pickle may name.

    Args:
        stream: a file that can seek, at the first byte of the pickle.

    Raises:
        RefusedPickleError: from `load`, where the pickle goes beyond a bound.
    """

    stack: list[Any]
    memo: dict[int, Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, stream: BinaryIO, **options: Any):
        file = _SizedFile(stream)
        self._size = file.size
        self._left = 4 * file.size + 2**20
        self._containers = 0
        super().__init__(file, **options)

    def load(self) -> Any:
        """The value, nested and shared within the bounds."""
        value = super().load()
        check_nesting(value, MAX_SHARING * self._size + 2**20)
        return value

    def spend(self, count: int) -> None:
        """Count bytes that a call makes. The same few bytes of a file can be copied again and again."""
        self._left -= count
        if self._left < 0:
            raise RefusedPickleError("makes far more bytes than it has")

    def load_build(self) -> None:
        """Give an object its state; here none has one."""
        raise RefusedPickleError(f"gives a state to a {type(self.stack[-1]).__name__}")

    def _top_that_is(self, kind: type) -> Any:
        top = self.stack[-1]
        if type(top) is not kind:
            raise RefusedPickleError(f"adds items to a {type(top).__name__}")
        return top

    def _count_container(self) -> None:
        self._containers += 1
        if self._containers > MAX_CONTAINERS:
            raise RefusedPickleError(f"has more than {MAX_CONTAINERS:,} lists, tuples, dicts and sets")

    def _bytearray8(self) -> None:
        (count,) = unpack("<Q", self.read(8))
        if count > self._size:
            raise RefusedPickleError(f"announces {count:,} bytes and has {self._size:,}")
        self.append(bytearray(self.read(count)))

    def _long4(self) -> None:
        (count,) = unpack("<i", self.read(4))
        if not 0 <= count <= MAX_NUMBER_BYTES:
            raise RefusedPickleError(f"has a number of {count:,} bytes")
        self.append(pickle.decode_long(self.read(count)))

    def _append(self) -> None:
        value = self.stack.pop()
        self._top_that_is(list).append(value)

    def _appends(self) -> None:
        items = self.pop_mark()
        self._top_that_is(list).extend(items)

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._top_that_is(dict)[checked_key(key)] = value

    def _setitems(self) -> None:
        items = self.pop_mark()
        self._top_that_is(dict).update(_pairs(items))

    def _additems(self) -> None:
        items = self.pop_mark()
        self._top_that_is(set).update(map(checked_key, items))

    def _dict(self) -> None:
        items = self.pop_mark()  # which sets `append` anew
        self.append(dict(_pairs(items)))

    def _frozenset(self) -> None:
        items = self.pop_mark()
        self.append(frozenset(map(checked_key, items)))

    def _refused(self) -> None:
        raise RefusedPickleError("refers to memory outside itself")

    # Extended below; the keys are opcodes.
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    if len(items) % 2:
        raise RefusedPickleError("has a key without a value")
    return zip(map(checked_key, items[::2]), items[1::2], strict=True)


def checked_key(key: Any) -> Any:
    """The key, if its hash is quick and cannot be made equal to that of many others.

    Raises:
        RefusedPickleError: it is no text, bytes, number or None, nor a short tuple of text, bytes and small numbers.
    """
    kind = type(key)
    if kind is tuple:
        if len(key) > MAX_KEY_ITEMS or not all(map(_is_narrow, key)):
            raise RefusedPickleError("has a key that is no short tuple of names and small numbers")
    elif kind is int:
        if key not in _WIDE:
            raise RefusedPickleError("has a whole number of more than 64 bits as a key")
    elif kind not in (str, bytes, float, bool, type(None)) and (
        kind is frozenset or not isinstance(key, np.generic) or key.dtype.kind not in _KEY_KINDS
    ):
        raise RefusedPickleError(f"has a {kind.__name__} as a key")
    return key


def _is_narrow(item: Any) -> bool:
    if isinstance(item, int | np.integer):
        return int(item) in _NARROW
    return item is None or isinstance(item, str | bytes)


def check_nesting(value: Any, most_items: int) -> None:
    """Refuse a value that nests too deep, holds itself, or has too many items when what it shares is written out.

    Raises:
        RefusedPickleError: naming the bound.
    """
    measured: dict[int, tuple[int, int] | None] = {}  # by id: depth and items; None while its parts are looked at
    todo = [value]
    while todo:
        node = todo[-1]
        parts = _parts(node)
        if id(node) not in measured:
            measured[id(node)] = None
            for part in parts:
                if measured.get(id(part), ()) is None:
                    raise RefusedPickleError("has a list or dict that holds itself")
                if id(part) not in measured:
                    todo.append(part)
            continue
        todo.pop()
        if measured[id(node)] is None:
            known = [measured[id(part)] or (0, 0) for part in parts]
            depth = 1 + max((depth for depth, _ in known), default=0)
            items = _length(node) + sum(items for _, items in known)
            if depth > MAX_DEPTH:
                raise RefusedPickleError(f"nests more than {MAX_DEPTH} levels deep")
            if items > most_items:
                raise RefusedPickleError("shares its parts too often")
            measured[id(node)] = depth, items


def _parts(value: Any) -> list[Any]:
    """What a container holds that are containers themselves."""
    if isinstance(value, dict):
        return [part for part in value.values() if _is_container(part)]  # keys hold no containers but tuples of names
    if isinstance(value, list | tuple):
        return [part for part in value if _is_container(part)]
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return [part for part in value.ravel().tolist() if _is_container(part)]
    return []


def _is_container(value: Any) -> bool:
    if isinstance(value, list | tuple | dict):
        return True
    return isinstance(value, np.ndarray) and value.dtype.hasobject


def _length(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.size
    return len(value) if _is_container(value) else 0


def _counted(load: Callable[[Any], None], *, memo: bool = False) -> Callable[[Any], None]:
    def counted(self: Any) -> None:
        if memo and len(self.memo) >= MAX_MEMO:
            raise RefusedPickleError(f"keeps more than {MAX_MEMO:,} values to refer to")
        if not memo:
            self._count_container()
        load(self)

    return counted


_own = BoundedUnpickler
_replaced: dict[bytes, Callable[[Any], None]] = {
    pickle.BYTEARRAY8: _own._bytearray8,
    pickle.LONG4: _own._long4,
    pickle.APPEND: _own._append,
    pickle.APPENDS: _own._appends,
    pickle.SETITEM: _own._setitem,
    pickle.SETITEMS: _own._setitems,
    pickle.ADDITEMS: _own._additems,
    pickle.BUILD: lambda self: self.load_build(),
    pickle.NEXT_BUFFER: _own._refused,
    pickle.READONLY_BUFFER: _own._refused,
    pickle.DICT: _counted(_own._dict),
    pickle.FROZENSET: _counted(_own._frozenset),
}
for _code in (pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_SET):
    _replaced[_code] = _counted(pickle._Unpickler.dispatch[_code[0]])
for _code in (pickle.LIST, pickle.EMPTY_LIST, pickle.EMPTY_DICT):
    _replaced[_code] = _counted(pickle._Unpickler.dispatch[_code[0]])
for _code in (pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE):
    _replaced[_code] = _counted(pickle._Unpickler.dispatch[_code[0]], memo=True)
BoundedUnpickler.dispatch.update((code[0], load) for code, load in _replaced.items())
