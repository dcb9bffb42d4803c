"""Pickles that would exhaust memory, time or the stack: one sentence, in time linear in the file."""

import os
import pickle
import pickletools
import resource
import struct

import numpy as np
import pytest

from mag2.data import DataError, load_pickle
from mag2.saving import bounded_unpickler
from mag2.saving.bounded_unpickler import BoundedUnpickler, RefusedPickleError

HEAD = b"\x80\x04"


def number(value):
    return pickle.dumps(value, protocol=2)[2:-1]


def called(place, name, arguments):
    return HEAD + f"c{place}\n{name}\n".encode() + arguments + b"R."


def colliding(count):
    """Whole numbers of one hash: multiples of 2^61 - 1."""
    return [(2**61 - 1) * (8 + i) for i in range(count)]


DOUBLING = b")" + b"2\x86" * 40
BUILDS = {
    "a tuple nested a million deep": HEAD + b")" + b"\x85" * 1_000_000 + b".",
    "lists nested three thousand deep": HEAD + b"]" * 3000 + b"a" * 2999 + b".",
    "dicts nested three thousand deep": HEAD + b"}K\x00" * 3000 + b"}" + b"s" * 3000 + b".",
    "arrays of objects nested a hundred deep": None,
    "a key whose hash doubles forty times": HEAD + b"}" + DOUBLING + b"K\x01s.",
    "such a key among others": HEAD + b"}(" + DOUBLING + b"K\x01u.",
    "such a key in a set": HEAD + b"\x8f(" + DOUBLING + b"\x90.",
    "such a key in a frozen set": HEAD + b"(" + DOUBLING + b"\x91.",
    "such a key in a call of set": called("builtins", "set", b"](" + DOUBLING + b"e\x85"),
    "such a key in a call of frozenset": called("builtins", "frozenset", b"](" + DOUBLING + b"e\x85"),
    "frozen sets in one another as keys": HEAD + b"(" + b"(" * 50 + b"\x91" * 51 + b".",
    "a key that is a tuple of large numbers": HEAD + b"}" + number((2**70, 1)) + b"K\x01s.",
    "a key that is a number of 100 bytes": HEAD + b"}" + number(2**800) + b"K\x01s.",
    "keys of one hash": pickle.dumps(dict.fromkeys(colliding(10)), 4),
    "tuples of one hash": pickle.dumps({(key, 1): 0 for key in colliding(10)}, 4),
    "bytearray(3e9)": called("builtins", "bytearray", number(3_000_000_000) + b"\x85"),
    "bytes(3e9)": called("builtins", "bytes", number(3_000_000_000) + b"\x85"),
    "bytearray of an array that counts for its length": called("builtins", "bytearray", b"\x8f\x85"),
    "a bytearray that announces 2^40 bytes": HEAD + b"\x96" + struct.pack("<Q", 2**40) + b"x.",
    "bytes that announce 2^40": HEAD + b"\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "a text that announces 2^40 bytes": HEAD + b"\x8d" + struct.pack("<Q", 2**40) + b"x.",
    "a number of two billion bytes": HEAD + b"\x8b\xff\xff\xff\x7f\x01.",
    "a number of 60,000 bytes": HEAD + b"\x8b" + struct.pack("<i", 60_000) + b"\x01" * 60_000 + b".",
    "a number of negative length": HEAD + b"\x8b\xff\xff\xff\xff.",
    "a number of 200,000 digits": b"I" + b"7" * 200_000 + b"\n.",
    "a long number of 200,000 digits": b"L" + b"7" * 200_000 + b"L\n.",
    "a memo index of four billion": HEAD + b"Nr\xff\xff\xff\xff" + b"h\x07.",
    "parts that are shared forty times over": HEAD + b"]q\x00" + b"](h\x00h\x00eq\x00" * 40 + b".",
    "a list that holds itself": HEAD + b"]q\x00h\x00a.",
    "a dict that holds itself": HEAD + b"}q\x00K\x00h\x00s.",
    "a copy of one text again and again": HEAD
    + b"c_codecs\nencode\nq\x01X"
    + struct.pack("<I", 100_000)
    + b"a" * 100_000
    + b"q\x02X\x06\x00\x00\x00latin1q\x030"
    + b"h\x01h\x02h\x03\x86R0" * 2_000
    + b"N.",
    "an out-of-band buffer": HEAD + b"\x97.",
    "a key without a value": HEAD + b"(K\x01d.",
    "an item for a text": HEAD + b"X\x01\x00\x00\x00aK\x01a.",
    "a state for a list": HEAD + b"]}b.",
    "an array of 2^60 numbers without bytes": None,
    "an array of 2^60 numbers of no width": None,
}


def forged_array(dtype, shape, content):
    class Forged:
        def __reduce__(self):
            build = np.zeros(1).__reduce__()[0]
            return build, (np.ndarray, (0,), b"b"), (1, shape, np.dtype(dtype), False, content)

    return pickle.dumps(Forged(), 2)


def arrays_in_one_another(levels):
    value = np.array([1, None], dtype=object)
    for _ in range(levels):
        outer = np.empty(1, dtype=object)
        outer[0] = value
        value = outer
    return pickle.dumps(value, 4)


BUILDS["an array of 2^60 numbers without bytes"] = forged_array("f4", (2**60,), b"")
BUILDS["an array of 2^60 numbers of no width"] = forged_array("S0", (2**60,), b"")
BUILDS["arrays of objects nested a hundred deep"] = arrays_in_one_another(100)


@pytest.mark.parametrize("name", BUILDS)
def test_a_pickle_that_exhausts_is_one_sentence(tmp_path, name):
    (tmp_path / "x.pkl").write_bytes(BUILDS[name])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"^[ -~]*x\.pkl[ -~]+$") as caught:
        load_pickle(tmp_path / "x.pkl")
    assert len(str(caught.value)) < len(str(tmp_path)) + 250
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2_000_000  # KiB


@pytest.mark.parametrize(
    ("bound", "items"),
    [("MAX_CONTAINERS", b"\x8f"), ("MAX_CONTAINERS", b"]"), ("MAX_CONTAINERS", b")\x85"), ("MAX_MEMO", b"N\x94")],
)
def test_many_small_values_are_bounded_in_number(tmp_path, monkeypatch, bound, items):
    """One byte of a file each, and hundreds in memory. The real bounds are some millions."""
    assert getattr(bounded_unpickler, bound) <= 4_000_000
    (tmp_path / "x.pkl").write_bytes(HEAD + b"(" + items * 1000 + b"l.")
    load_pickle(tmp_path / "x.pkl")
    monkeypatch.setattr(bounded_unpickler, bound, 900)
    with pytest.raises(DataError, match="more than 900"):
        load_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize("name", ["lists nested three thousand deep", "a key whose hash doubles forty times"])
def test_the_same_inside_a_npy_is_one_sentence(tmp_path, name):
    with (tmp_path / "x.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        stream.write(BUILDS[name])
    with pytest.raises(DataError, match=r"^[ -~]*x\.npy[ -~]+$"):
        load_pickle(tmp_path / "x.npy")


def test_what_data_has_lies_within_the_bounds(tmp_path):
    """Nested ninety deep, two hundred thousand keys of every plain kind, one list in a thousand places."""
    deep = []
    for _ in range(90):
        deep = [deep]
    shared = [1.0] * 50
    value = {
        "deep": deep,
        "keys": {key: 0 for i in range(50_000) for key in (i, f"v{i}", ("game", i), float(i) + 0.5)},
        "shared": [shared] * 1000,
        "long": 1 << 4000,
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol=4))
    assert load_pickle(tmp_path / "x.pkl") == value


def test_every_opcode_that_makes_a_value_is_bounded_or_plain():
    """A new opcode of a later protocol would be read by the standard library's method, without a bound."""
    known = {ord(opcode.code) for opcode in pickletools.opcodes}
    assert set(BoundedUnpickler.dispatch) <= known
    assert max(opcode.proto for opcode in pickletools.opcodes) == 5


def test_a_pipe_and_a_folder_are_no_pickles(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(DataError, match="no regular file: give a pickle"):
            load_pickle(tmp_path / name)


def test_refusals_are_errors_of_values():
    assert issubclass(RefusedPickleError, ValueError)
