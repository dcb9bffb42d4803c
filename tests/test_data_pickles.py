"""Pickled features are read, and nothing else that a pickle can ask for."""

import codecs
import collections
import os
import pickle
import shutil
import struct

import numpy as np
import pytest

from mag2.data import DataError, load_pickle

FEATURES = {
    "Ball_001": np.arange(6, dtype=np.float32).reshape(2, 3),
    "Ball_002": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(3, 2)),
    "Ball_003": np.arange(4, dtype=">f8"),
    "Ball_004": np.array(["a", "bc"]),
    "Ball_005": np.array([{"deep": (1, np.ones(2))}, None], dtype=object),
    "Ball_006": np.zeros((0, 3), np.float32),
}
VALUES = {
    ("game", 3): (1, 87.5, "text", b"bytes\xff", None, True, [1, 2], {"a": {1, 2}}, frozenset({3}), 1 + 2j),
    "scalars": (np.float64(1.5), np.int32(-3), np.float32(0.1), np.str_("word"), np.bool_(True)),
    "big": 1 << 200,
    "empty": (b"", "", (), [], {}, bytearray(b"x")),
}


def same(left, right):
    assert type(left) is type(right)
    if isinstance(left, np.ndarray):
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        if left.dtype == object:
            for a, b in zip(left.flat, right.flat, strict=True):
                same(a, b)
        else:
            np.testing.assert_array_equal(left, right)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            same(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            same(a, b)
    else:
        assert left == right


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [FEATURES, VALUES], ids=["features", "values"])
def test_arrays_and_plain_values_of_every_protocol_are_read(tmp_path, value, protocol):
    raw = pickle.dumps(value, protocol=protocol)
    (tmp_path / "x.pkl").write_bytes(raw)
    same(load_pickle(tmp_path / "x.pkl"), pickle.loads(raw))


@pytest.mark.parametrize("protocol", range(3))
@pytest.mark.parametrize(("ours", "theirs"), [(b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")])
def test_files_of_numpy_1_and_2_are_read(tmp_path, protocol, ours, theirs):
    value = {"features": FEATURES, "scalar": np.float32(2)}
    raw = pickle.dumps(value, protocol=protocol)
    (tmp_path / "x.pkl").write_bytes(raw.replace(ours, theirs))
    same(load_pickle(tmp_path / "x.pkl"), pickle.loads(raw))


def test_protocol_5_files_of_numpy_1_are_read(tmp_path):
    raw = pickle.dumps(FEATURES["Ball_001"], protocol=5)
    new, old = b"\x13numpy._core.numeric", b"\x12numpy.core.numeric"  # each after its length
    raw = raw.replace(new, old)
    raw = raw[:3] + struct.pack("<Q", len(raw) - 11) + raw[11:]  # the frame is shorter by now
    (tmp_path / "x.pkl").write_bytes(raw)
    same(load_pickle(tmp_path / "x.pkl"), FEATURES["Ball_001"])


def test_files_of_python_2_are_read(tmp_path):
    """What Python 2 wrote for {'a': numpy.array([1., -2.], 'f4')}, protocol 2: its strings are bytes."""
    raw = (
        b"\x80\x02}q\x01U\x01acnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02f4K\x00K\x01\x87Rq\x06(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x08\x00\x00\x80\x3f\x00\x00\x00\xc0tbs."
    )
    (tmp_path / "x.pkl").write_bytes(raw)
    same(load_pickle(tmp_path / "x.pkl"), {"a": np.array([1.0, -2.0], np.float32)})


def test_a_dict_saved_by_numpy_comes_back_as_a_dict(tmp_path):
    np.save(tmp_path / "FISV_rgb_VST.npy", FEATURES, allow_pickle=True)
    same(
        load_pickle(tmp_path / "FISV_rgb_VST.npy"),
        np.load(tmp_path / "FISV_rgb_VST.npy", allow_pickle=True).item(),
    )


def test_plain_and_object_arrays_saved_by_numpy_are_read(tmp_path):
    for name in ("Ball_001", "Ball_005"):
        np.save(tmp_path / "x.npy", FEATURES[name], allow_pickle=True)
        same(load_pickle(tmp_path / "x.npy"), FEATURES[name])


def test_arrays_that_are_read_can_be_written_to(tmp_path):
    for protocol in (2, 5):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(FEATURES["Ball_001"], protocol=protocol))
        load_pickle(tmp_path / "x.pkl")[0, 0] = 9


class Calls:
    """Pickles as a call of something."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def traps(ran):
    return {
        "system": (Calls(os.system, f"touch {ran}"), "system"),
        "eval": (Calls(eval, f"open({str(ran)!r}, 'w')"), "eval"),
        "getattr": (Calls(getattr, "", "join"), "getattr"),
        "open": (Calls(open, ran, "w"), "open"),
        "a removal": (Calls(shutil.rmtree, ran), "shutil.rmtree"),
        "inside a dict": ({"a": [1, (Calls(os.system, f"touch {ran}"),)]}, "system"),
        "inside an array": (np.array([Calls(os.system, f"touch {ran}")], dtype=object), "system"),
        "numpy's own functions": (Calls(np.load, str(ran), None, True), "load"),
        "an ordered dict": (collections.OrderedDict(a=1), "collections.OrderedDict"),
        "any class": (collections.Counter("a"), "collections.Counter"),
        "an array with fields": (np.zeros(2, dtype=[("a", "f4"), ("b", object)]), "dtype"),
        "a date": (np.zeros(2, dtype="M8[s]"), "dtype"),
        "an array of another class": (np.ma.array([1.0]), "numpy.ma"),
    }


@pytest.mark.parametrize("trap", traps("x"))
@pytest.mark.parametrize("kind", ["pickle", "npy"])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_everything_else_is_refused_by_name_and_nothing_runs(tmp_path, trap, kind, protocol):
    value, refused = traps(tmp_path / "ran")[trap]
    file = tmp_path / "features.bin"
    if kind == "pickle":
        file.write_bytes(pickle.dumps(value, protocol=protocol))
    else:
        wrapped = np.empty((), dtype=object)
        wrapped[()] = value
        with file.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
            pickle.dump(wrapped, stream, protocol=protocol)
    with pytest.raises(DataError, match=r"^[^\n]+$") as caught:
        load_pickle(file)
    assert str(file) in str(caught.value)
    assert refused in str(caught.value)
    assert not (tmp_path / "ran").exists()


def forged(reduce_arguments, state):
    """A pickle that builds an array from a state of our choice."""

    class Forged:
        def __reduce__(self):
            return (*np.zeros(1).__reduce__()[:1], reduce_arguments, state)

    return Forged()


@pytest.mark.parametrize(
    "forgery",
    [
        # Eight bytes that would become a pointer.
        forged((np.ndarray, (0,), b"b"), (1, (1,), np.dtype(object), False, b"\x01" * 8)),
        # More elements than bytes.
        forged((np.ndarray, (0,), b"b"), (1, (1000,), np.dtype("f8"), False, b"\x01" * 8)),
        # A class of numpy that is no array.
        forged((np.dtype, (0,), b"b"), (1, (1,), np.dtype("f8"), False, b"\x01" * 8)),
        # A dtype that is no dtype.
        forged((np.ndarray, (0,), b"b"), (1, (1,), "f8", False, b"\x01" * 8)),
        # An object as a scalar.
        Calls(np.float64(0).__reduce__()[0], np.dtype(object), b"\x01" * 8),
        # The encoding of numpy's byte strings as a door to other codecs.
        Calls(codecs.encode, "x", "rot13"),
    ],
)
def test_forged_arrays_are_refused(tmp_path, forgery):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(forgery, protocol=2))
    with pytest.raises(DataError, match=r"^[^\n]*x\.pkl[^\n]*$"):
        load_pickle(tmp_path / "x.pkl")


def test_flags_that_a_forged_dtype_sets_are_not_believed(tmp_path):
    """numpy would take the flags from the file and then read bytes as pointers to Python objects."""
    raw = pickle.dumps(np.array([None], dtype=object), protocol=2)
    assert raw.count(b"K?tq") == 1  # 63: an object dtype says so
    (tmp_path / "x.pkl").write_bytes(raw.replace(b"K?tq", b"K\x00tq"))
    same(load_pickle(tmp_path / "x.pkl"), np.array([None], dtype=object))


@pytest.mark.parametrize("raw", [b"", b"hello", b"\x80\x04", b"PK\x03\x04zip", b"\x93NUMPY", b"\x93NUMPY\x01\x00v\x00"])
def test_a_file_that_is_no_pickle_is_one_sentence(tmp_path, raw):
    (tmp_path / "x.pkl").write_bytes(raw)
    with pytest.raises(DataError, match=r"^[^\n]*x\.pkl is no whole pickle[^\n]*$"):
        load_pickle(tmp_path / "x.pkl")


def test_a_truncated_pickle_and_a_missing_file_are_one_sentence(tmp_path):
    raw = pickle.dumps(FEATURES)
    (tmp_path / "x.pkl").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match="no whole pickle"):
        load_pickle(tmp_path / "x.pkl")
    with pytest.raises(DataError, match=r"nowhere\.pkl cannot be read"):
        load_pickle(tmp_path / "nowhere.pkl")
