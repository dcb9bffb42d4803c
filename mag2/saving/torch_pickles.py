"""Go through the pickle of a `torch.save` archive with stand-ins for tensors: nothing is allocated for what it says."""

import math
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch

from mag2.saving.bounded_unpickler import BoundedUnpickler, RefusedPickleError, checked_key
from mag2.saving.sentences import printable

__all__ = ["check_torch_pickle"]

MAX_AXES = 64
# How many numbers a tensor may have for each of its storage: torch keeps an expanded tensor without its copies.
MAX_EXPANSION, EXPANSION_FREE = 16, 2**20


class _Stand:
    """Stands for a value of torch that holds no memory of its own: a dtype, a device, a class."""

    def __init__(self, itemsize: int = 0):
        self.itemsize = itemsize


class _Storage:
    """Stands for the numbers of a tensor."""

    def __init__(self, size: int, itemsize: int):
        self.size = size  # in bytes
        self.itemsize = itemsize


class _Tensor:
    """Stands for a tensor."""


def check_torch_pickle(stream: BinaryIO, sizes: Mapping[str, int]) -> None:
    """Refuse a pickle that torch could not read in time and memory in proportion to its file.

    Args:
        stream: of the pickle.
        sizes: of the records of storage, in bytes, by their key.

    Raises:
        RefusedPickleError: it contains anything but plain values and dense tensors whose numbers are in the records.
        Exception: it is damaged; of any kind.
    """
    _DryRun(stream, sizes).load()


class _DryRun(BoundedUnpickler):
    def __init__(self, stream: BinaryIO, sizes: Mapping[str, int]):
        super().__init__(stream, encoding="utf-8")
        self._sizes = sizes
        self._storages: dict[str, _Storage] = {}
        self._ordered: dict[int, dict] = {}  # by id, with the dict itself so that no other one gets its id

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function that the file names."""
        if (module, name) in _METHODS:
            return getattr(self, _METHODS[module, name])
        if (module, name) in _STANDS:
            return _STANDS[module, name]
        raise RefusedPickleError(f"asks for {printable(f'{module}.{name}'):.100}")

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that a tensor refers to."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise RefusedPickleError("refers to a record in another way than torch.save")
        _, kind, key, location, count = pid
        if type(kind) is not _Stand or not kind.itemsize or not isinstance(key, str) or not isinstance(location, str):
            raise RefusedPickleError("refers to a record in another way than torch.save")
        size = _whole(count) * kind.itemsize
        if key not in self._sizes:
            raise RefusedPickleError(f"refers to the record {key!r:.40}, which is not there")
        if size > self._sizes[key]:
            raise RefusedPickleError(f"announces {size:,} bytes of numbers and has {self._sizes[key]:,}")
        known = self._storages.setdefault(key, _Storage(size, kind.itemsize))
        if (known.size, known.itemsize) != (size, kind.itemsize):
            raise RefusedPickleError("refers to one record in two ways")
        return known

    def load_build(self) -> None:
        """The attributes of an ordered dict: a state_dict has the versions of its modules there."""
        state = self.stack.pop()
        target = self.stack[-1]
        if id(target) not in self._ordered or type(state) is not dict or not all(type(key) is str for key in state):
            raise RefusedPickleError(f"gives a state to a {type(target).__name__}")
        target["\0state"] = state  # so that its depth counts

    def _ordered_dict(self, items: Any = ()) -> dict:
        made = self._items(items)
        self._ordered[id(made)] = made
        return made

    def _items(self, items: Any = ()) -> dict:
        """A dict of a dict, or of pairs."""
        if type(items) is dict:
            pairs = list(items.items())
        elif isinstance(items, list | tuple) and all(
            isinstance(item, list | tuple) and len(item) == 2 for item in items
        ):
            pairs = [(checked_key(key), value) for key, value in items]
        else:
            raise RefusedPickleError("asks for a dict of what is no pairs")
        self.spend(16 * len(pairs))
        return dict(pairs)

    def _set(self, items: Any = ()) -> set:
        if not isinstance(items, list | tuple):
            raise RefusedPickleError(f"asks for a set of a {type(items).__name__}")
        self.spend(8 * len(items))
        return {checked_key(item) for item in items}

    def _bytearray(self, content: Any = b"", encoding: str | None = None) -> bytearray:
        if isinstance(content, str) and encoding is not None:
            content = self._encoded(content, encoding)
        if not isinstance(content, bytes | bytearray):
            raise RefusedPickleError(f"asks for bytes of a {type(content).__name__}")
        self.spend(len(content))
        return bytearray(content)

    def _encoded(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise RefusedPickleError("asks for bytes in an encoding that torch.save does not use")
        self.spend(len(text))
        return text.encode("latin1")

    def _lengths(self, lengths: Any = ()) -> tuple[int, ...]:
        return tuple(map(_whole, _axes(lengths)))

    def _described(self, *about: Any) -> _Stand:
        """A device or a layout, from its name and number."""
        if not all(isinstance(each, str | int | None) for each in about):
            raise RefusedPickleError("asks for a device without a name")
        return _Stand()

    def _tensor(self, storage: Any, offset: Any, lengths: Any, strides: Any, *_: Any) -> _Tensor:
        """A dense tensor, if its storage holds all of it."""
        if type(storage) is not _Storage:
            raise RefusedPickleError("asks for a tensor without a storage")
        return self._strided(storage, offset, lengths, strides, storage.itemsize)

    def _tensor_of_dtype(
        self, storage: Any, offset: Any, lengths: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
    ) -> _Tensor:
        if type(storage) is not _Storage or type(dtype) is not _Stand or not dtype.itemsize:
            raise RefusedPickleError("asks for a tensor without a storage")
        return self._strided(storage, offset, lengths, strides, dtype.itemsize)

    def _strided(self, storage: _Storage, offset: Any, lengths: Any, strides: Any, itemsize: int) -> _Tensor:
        sizes, steps = list(map(_whole, _axes(lengths))), list(map(_whole, _axes(strides)))
        if len(sizes) != len(steps):
            raise RefusedPickleError("asks for a tensor whose sizes and strides differ in number")
        held = storage.size // itemsize
        last = _whole(offset) + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
        count = math.prod(sizes)
        if count and last >= held:
            raise RefusedPickleError("asks for a tensor larger than its storage")
        if count > MAX_EXPANSION * held + EXPANSION_FREE:
            raise RefusedPickleError("repeats the numbers of a small storage too often")
        return _Tensor()

    def _parameter(self, tensor: Any, *more: Any) -> tuple:
        """A parameter and what it carries; as a tuple, whose depth counts."""
        if type(tensor) is not _Tensor and not (isinstance(tensor, tuple) and tensor and type(tensor[0]) is _Tensor):
            raise RefusedPickleError("asks for a parameter of what is no tensor")
        return (tensor, *more)

    def _typed(self, rebuild: Any, kind: Any, arguments: Any, state: Any) -> tuple:
        """A tensor with attributes of its own."""
        if rebuild not in (self._tensor, self._tensor_of_dtype, self._parameter) or not isinstance(arguments, tuple):
            raise RefusedPickleError("asks for a tensor of another kind")
        return (rebuild(*arguments), state)


def _axes(values: Any) -> tuple | list:
    if not isinstance(values, tuple | list) or len(values) > MAX_AXES:
        raise RefusedPickleError(f"asks for a tensor with more than {MAX_AXES} axes, or none that can be read")
    return values


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise RefusedPickleError("has a size that is no whole number from 0 to 2^63")
    return value


# By module and name: the method that stands for a function, and what stands for a value.
_METHODS: dict[tuple[str, str], str] = {
    ("collections", "OrderedDict"): "_ordered_dict",
    ("collections", "Counter"): "_items",
    ("_codecs", "encode"): "_encoded",
    ("torch", "Size"): "_lengths",
    ("torch", "device"): "_described",
    ("torch.serialization", "_get_layout"): "_described",
    ("torch._utils", "_rebuild_tensor"): "_tensor",
    ("torch._utils", "_rebuild_tensor_v2"): "_tensor",
    ("torch._utils", "_rebuild_tensor_v3"): "_tensor_of_dtype",
    ("torch._utils", "_rebuild_parameter"): "_parameter",
    ("torch._utils", "_rebuild_parameter_with_state"): "_parameter",
    ("torch._tensor", "_rebuild_from_type_v2"): "_typed",
}
for _module in ("builtins", "__builtin__"):
    _METHODS |= {(_module, "bytearray"): "_bytearray", (_module, "set"): "_set"}
_STANDS: dict[tuple[str, str], Any] = {
    ("torch", "Tensor"): _Stand(),
    ("torch.nn.parameter", "Parameter"): _Stand(),
    ("torch.storage", "UntypedStorage"): _Stand(1),
    ("builtins", "complex"): complex,
    ("__builtin__", "complex"): complex,
}
for _name, _value in vars(torch).items():
    if isinstance(_value, torch.dtype) and not str(_value).startswith(("torch.q", "torch.bits")):
        _STANDS["torch", _name] = _Stand(_value.itemsize)
# Storages have kept these names since the first releases.
_KINDS = ("Byte 1", "Char 1", "Bool 1", "Short 2", "Half 2", "BFloat16 2", "Int 4", "Float 4", "Long 8", "Double 8")
for _kind, _width in map(str.split, (*_KINDS, "ComplexFloat 8", "ComplexDouble 16")):
    for _module in ("torch", "torch.cuda"):
        _STANDS[_module, f"{_kind}Storage"] = _Stand(int(_width))
