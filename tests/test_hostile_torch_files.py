"""Torch files and checkpoints that are damaged or made to exhaust: one sentence, in time linear in the file."""

import collections
import io
import os
import pickle
import struct
import zipfile

import pytest
import torch
from torch import nn

from mag2.encoders.clip import _overlay_text_side, load_clip
from mag2.extraction.weights import read_weights
from mag2.saving.torch_files import TorchFileError, load_torch
from mag2.texts import TextFeatures


def same(left, right):
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert (left.dtype, left.stride()) == (right.dtype, right.stride())
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            same(a, b)
    else:
        assert left == right


def trained(kind):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = kind(model.parameters(), lr=0.1)
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


SAVED = {
    "a tensor": lambda: torch.randn(3, 4),
    "bfloat16": lambda: torch.randn(3, 4).bfloat16(),
    "float16": lambda: torch.randn(3, 4).half(),
    "whole numbers": lambda: [torch.arange(3, dtype=getattr(torch, d)) for d in ("uint8", "int16", "int32", "int64")],
    "complex": lambda: torch.randn(3, dtype=torch.complex64),
    "truth values": lambda: torch.tensor([True, False]),
    "no numbers": lambda: torch.zeros(0, 3),
    "a scalar": lambda: torch.tensor(3.0),
    "a transposed view": lambda: torch.randn(3, 4).t(),
    "an expanded tensor": lambda: torch.randn(3, 1).expand(3, 300_000),
    "a part of a storage": lambda: [t := torch.randn(6, 4), t[2:], t[:, 1:3]],
    "a state_dict": lambda: trained(torch.optim.Adam)[0].state_dict(),
    "a parameter": lambda: dict(trained(torch.optim.SGD)[0].named_parameters()),
    "Adam": lambda: trained(torch.optim.Adam)[1].state_dict(),
    "AdamW": lambda: trained(torch.optim.AdamW)[1].state_dict(),
    "SGD": lambda: trained(torch.optim.SGD)[1].state_dict(),
    "Adagrad": lambda: trained(torch.optim.Adagrad)[1].state_dict(),
    "a schedule": lambda: torch.optim.lr_scheduler.MultiStepLR(trained(torch.optim.SGD)[1], [2, 3]).state_dict(),
    "plain values": lambda: {
        "list": [1, 2.5, "text", None, True, (1, (2,)), 10**30],
        ("a", 1): {1, 2},
        "bytes": b"x\xff",
        "array": bytearray(b"xx"),
        "ordered": collections.OrderedDict(a=1),
        "torch": (torch.Size([1, 2]), torch.float32, torch.device("cpu"), 1 + 2j, torch.strided),
    },
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAVED)
def test_what_torch_saves_is_read_as_torch_reads_it(tmp_path, name):
    torch.manual_seed(0)
    torch.save(SAVED[name](), tmp_path / "x.pt")
    same(load_torch(tmp_path / "x.pt", checksums=True), torch.load(tmp_path / "x.pt", weights_only=True))


def with_pickle(path, raw, storage=b"\x00" * 64):
    """An archive of torch with a pickle of our own over one record of 16 float32."""
    torch.save(torch.zeros(16), path)
    with zipfile.ZipFile(path) as archive:
        parts = {record.filename: archive.read(record) for record in archive.infolist()}
    parts["archive/data.pkl" if "archive/data.pkl" in parts else next(n for n in parts if n.endswith("data.pkl"))] = raw
    parts[next(name for name in parts if name.endswith("data/0"))] = storage
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def tensor(offset, size, stride, count=16, kind="FloatStorage", key="0", rebuild="_rebuild_tensor_v2"):
    """The pickle of a tensor with sizes of our choice."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return getattr(value, "pid", None)

    storage = type("Storage", (), {"pid": ("storage", getattr(torch, kind), key, "cpu", count)})()

    class Tensor:
        def __reduce__(self):
            return (getattr(torch._utils, rebuild), (storage, offset, size, stride, False, collections.OrderedDict()))

    stream = io.BytesIO()
    Pickler(stream, 2).dump(Tensor())
    return stream.getvalue()


def nested(levels):
    return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."


HASH_BOMB = b"\x80\x02}(K\x00K\x01\x86" + b"q\x00h\x00h\x00\x86" * 40 + b"K\x01u."
PICKLES = {
    "a million tuples in one another": b"\x80\x02)" + b"\x85" * 1_000_000 + b".",
    "three thousand lists in one another": nested(3000),
    "a key whose hash doubles forty times": b"\x80\x02}q\x01)" + b"2\x86" * 40 + b"K\x01s.",
    "such a key in an ordered dict": b"\x80\x02ccollections\nOrderedDict\n(]("
    + b")"
    + b"2\x86" * 40
    + b"K\x01\x86etR.",
    "such a key in a set": b"\x80\x02cbuiltins\nset\n](" + b")" + b"2\x86" * 40 + b"e\x85R.",
    "such a key in a counter": b"\x80\x02ccollections\nCounter\n](" + b")" + b"2\x86" * 40 + b"K\x01\x86e\x85R.",
    "three billion bytes in a call": b"\x80\x02cbuiltins\nbytearray\nJ\x00\x5e\xd0\xb2\x85R.",
    "two billion bytes in a call": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "a number of two billion bytes": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "a text of four billion bytes": b"\x80\x02X\xff\xff\xff\xffa.",
    "a function": b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
    "a function with an escape in its name": b"\x80\x02cos\nsys\x1b[2Jtem\nX\x02\x00\x00\x00ls\x85R.",
    "nothing": b"",
    "half a pickle": tensor(0, (4,), (1,))[:-20],
    "a state of a list": b"\x80\x02]}X\x01\x00\x00\x00aK\x01sb.",
    "a tensor beyond its storage": tensor(0, (17,), (1,)),
    "a tensor that begins beyond its storage": tensor(2**40, (1,), (1,)),
    "a tensor of a huge size": tensor(0, (2**40,), (1,)),
    "a huge expanded tensor": tensor(0, (2**40,), (0,)),
    "a negative size": tensor(0, (-1,), (1,)),
    "a negative stride": tensor(15, (4,), (-1,)),
    "a size that is no whole number": tensor(0, (1.5,), (1,)),
    "a size that is a truth value": tensor(0, (True,), (1,)),
    "sizes without strides": tensor(0, (4,), ()),
    "a thousand axes": tensor(0, (1,) * 1000, (1,) * 1000),
    "a storage beyond its record": tensor(0, (4,), (1,), count=2**40),
    "a storage of another width": tensor(0, (4,), (1,), kind="DoubleStorage", count=16),
    "a record that is not there": tensor(0, (4,), (1,), key="9"),
    "a record outside the archive": tensor(0, (4,), (1,), key="../../etc/passwd"),
    "a storage of a negative length": tensor(0, (4,), (1,), count=-16),
    "a quantized storage": tensor(0, (4,), (1,), kind="QInt8Storage"),
    "another persistent value": b"\x80\x02X\x03\x00\x00\x00abcQ.",
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "parts that are shared forty times over": b"\x80\x02]" + b"q\x00](h\x00h\x00e" * 40 + b".",
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_exhausts_or_lies_is_one_sentence(tmp_path, name):
    with_pickle(tmp_path / "x.pt", PICKLES[name])
    with pytest.raises(TorchFileError, match=r"^[ -~]+$") as caught:
        load_torch(tmp_path / "x.pt")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("kind", ["sparse", "quantized"])
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_dense_are_refused_by_name(tmp_path, kind):
    dense = torch.eye(3)
    value = dense.to_sparse() if kind == "sparse" else torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8)
    torch.save({"a": value}, tmp_path / "x.pt")
    with pytest.raises(TorchFileError, match=r"asks for torch\._utils\._rebuild_"):
        load_torch(tmp_path / "x.pt")


def archive(path, change):
    """The file of a state_dict whose records went through `change`: (name, bytes, ways to store) lists."""
    torch.save({"a": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path) as before:
        parts = [(record.filename, before.read(record), {}) for record in before.infolist()]
    with zipfile.ZipFile(path, "w") as after:
        for name, content, options in change(parts):
            after.writestr(name, content, **options)


def named(parts, end):
    return next(part for part in parts if part[0].endswith(end))


ARCHIVES = {
    "compressed": lambda parts: [(n, c, {"compress_type": zipfile.ZIP_DEFLATED}) for n, c, _ in parts],
    "a pickle twice": lambda parts: [*parts, named(parts, "data.pkl")],
    "two folders": lambda parts: [*parts, ("other/data.pkl", b"\x80\x02N.", {})],
    "names that lead out": lambda parts: [*parts, ("../data.pkl", b"\x80\x02N.", {})],
    "no pickle": lambda parts: [part for part in parts if not part[0].endswith("data.pkl")],
    "TorchScript": lambda parts: [*parts, (parts[0][0].partition("/")[0] + "/constants.pkl", b"\x80\x02).", {})],
    "nothing": lambda parts: [],
    "records without a folder": lambda parts: [("data.pkl", b"\x80\x02N.", {})],
    "a short record": lambda parts: [(n, c[:100] if n.endswith("data/0") else c, o) for n, c, o in parts],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_torch_did_not_write_is_one_sentence(tmp_path, name):
    archive(tmp_path / "x.pt", ARCHIVES[name])
    with pytest.raises(TorchFileError, match=r"^[ -~]+$"):
        load_torch(tmp_path / "x.pt")


def test_a_small_archive_that_unpacks_to_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", b"\x80\x02N.")
        bomb.writestr("archive/data/0", bytes(50_000_000))
    with pytest.raises(TorchFileError, match="compressed"):
        load_torch(tmp_path / "x.pt")


def test_records_that_overlap_are_refused(tmp_path):
    """Two entries of the directory with one record: the sum of sizes is beyond the file."""
    torch.save(torch.zeros(100_000), tmp_path / "x.pt")
    raw = bytearray((tmp_path / "x.pt").read_bytes())
    with zipfile.ZipFile(tmp_path / "x.pt") as whole:
        size = next(record.file_size for record in whole.infolist() if record.filename.endswith("data/0"))
    place = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"data/0"))
    for at in (20, 24):
        assert struct.unpack_from("<I", raw, place + at)[0] == size
        struct.pack_into("<I", raw, place + at, 3 * size)
    (tmp_path / "x.pt").write_bytes(raw)
    with pytest.raises(TorchFileError):
        load_torch(tmp_path / "x.pt")


OTHERS = {
    "empty": (b"", "is empty"),
    "text": (b"hello\nworld\n", "no file that torch.save wrote"),
    "a pickle": (pickle.dumps({"a": 1}), "no file that torch.save wrote"),
    "half a zip": (b"PK\x03\x04" + bytes(100), "damaged"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_kind_is_one_sentence(tmp_path, name):
    (tmp_path / "x.pt").write_bytes(OTHERS[name][0])
    with pytest.raises(TorchFileError, match=OTHERS[name][1]):
        load_torch(tmp_path / "x.pt")


def test_the_form_before_torch_1_6_is_said(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(TorchFileError, match=r"before 1\.6: save it again"):
        load_torch(tmp_path / "x.pt")


def test_a_pipe_a_folder_and_a_missing_file_are_one_sentence(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "no regular file"), (".", "no regular file"), ("nowhere", "No such file")):
        with pytest.raises(TorchFileError, match=words):
            load_torch(tmp_path / name)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_file_that_was_cut_is_one_sentence(tmp_path, share):
    torch.save(trained(torch.optim.Adam)[0].state_dict(), tmp_path / "x.pt")
    raw = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(TorchFileError, match=r"^[ -~]+$"):
        load_torch(tmp_path / "x.pt")


def test_a_changed_number_shows_where_checksums_are_looked_at(tmp_path):
    torch.save(torch.full((100,), 3.0), tmp_path / "x.pt")
    raw = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(raw.replace(struct.pack("<f", 3.0), struct.pack("<f", 4.0), 1))
    with pytest.raises(TorchFileError, match="numbers in it have changed"):
        load_torch(tmp_path / "x.pt", checksums=True)


def test_readers_of_torch_files_say_the_file_and_the_reason(tmp_path):
    file = tmp_path / "x.pt"
    with_pickle(file, PICKLES["a tensor of a huge size"])
    for read in (
        TextFeatures.from_released,
        read_weights,
        lambda path: _overlay_text_side(nn.Identity(), path),
        lambda path: load_clip(f"open_clip:ViT-B-16/{path}", None, ""),
    ):
        with pytest.raises(ValueError, match=r"^[^\n]*x\.pt[^\n]*larger than its storage[^\n]*$"):
            read(file)
