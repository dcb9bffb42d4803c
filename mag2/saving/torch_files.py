"""Files that `torch.save` wrote, checked before torch reads them: what they hold stays in proportion to their size."""

import io
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import unpack
from typing import Any, BinaryIO

import torch

from mag2.saving.bounded_unpickler import RefusedPickleError
from mag2.saving.sentences import printable, reason_of
from mag2.saving.torch_pickles import check_torch_pickle

__all__ = ["TorchFileError", "check_torch_file", "load_torch"]

_ZIP, _OLD = b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


class TorchFileError(ValueError):
    """Why a file was not read, as the end of a sentence that begins with the file."""


def load_torch(path: str | Path, map_location: Any = "cpu", *, checksums: bool = False) -> Any:
    """Read a file that `torch.save` wrote, with tensors and plain values, without running any code of the file.

    The archive is checked first, and its pickle is read with placeholders for tensors, because a crafted file can make
    `torch.load` allocate any amount of memory or hash without end.

    Args:
        path: of the file.
        map_location: the device for tensors, as in `torch.load`.
        checksums: whether the numbers are compared with their checksums, which torch does not do; the file is then read
            twice.

    Raises:
        TorchFileError: no such file, damaged, of torch before 1.6, or with other things in it than dense tensors and
            plain values.
    """
    check_torch_file(path, checksums=checksums)
    with _faults_as_clauses():
        return torch.load(path, map_location=map_location, weights_only=True)


def check_torch_file(path: str | Path, *, checksums: bool = False) -> None:
    """The checks of `load_torch`, for a file that another library is to read; the same errors."""
    path = Path(path)
    with _faults_as_clauses():
        if not stat.S_ISREG(path.stat().st_mode):
            raise TorchFileError("is no regular file")
        with path.open("rb") as file:
            sizes, pickled = _checked_archive(file, checksums)
        check_torch_pickle(io.BytesIO(pickled), sizes)


@contextmanager
def _faults_as_clauses() -> Iterator[None]:
    try:
        yield
    except TorchFileError:
        raise
    except MemoryError:
        raise TorchFileError("needs more memory than there is") from None
    except OSError as fault:
        raise TorchFileError(f"cannot be read ({reason_of(fault)})") from None
    except RefusedPickleError as refusal:
        raise TorchFileError(f"{printable(str(refusal))} (only dense tensors and plain values are read)") from None
    except Exception as fault:  # a damaged archive or pickle can fail in any way, in zipfile and in torch
        raise TorchFileError("is damaged: it holds no tensors and plain values that can be read") from fault


def _checked_archive(file: BinaryIO, checksums: bool) -> tuple[dict[str, int], bytes]:
    """The size of each record of storage by its key, and the pickle that refers to them."""
    begin = file.read(len(_OLD))
    if not begin.startswith(_ZIP):
        if begin == _OLD:
            raise TorchFileError("has the form of torch before 1.6: save it again with a newer torch")
        raise TorchFileError("is empty" if not begin else "is no file that torch.save wrote")
    end = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        names = [record.filename for record in records]
        folder = names[0].partition("/")[0]
        if not folder or not all(name.startswith(f"{folder}/") for name in names):
            raise TorchFileError("is an archive that torch.save did not write")
        if len(set(names)) < len(names):
            raise TorchFileError("has a record twice")
        if f"{folder}/constants.pkl" in names:
            raise TorchFileError("holds TorchScript: save the state_dict of the module")
        if f"{folder}/data.pkl" not in names:
            raise TorchFileError("is an archive without data.pkl, which torch.save writes")
        for record in records:
            plain = record.compress_type == zipfile.ZIP_STORED and not record.flag_bits & 1
            if not plain or record.compress_size != record.file_size:
                raise TorchFileError("has compressed or encrypted records, which torch.save does not write")
        if sum(record.file_size for record in records) > end:
            raise TorchFileError("is shorter than its records")
        place = f"{folder}/data/"
        sizes = {each.filename[len(place) :]: each.file_size for each in records if each.filename.startswith(place)}
        if checksums and archive.testzip() is not None:
            raise TorchFileError("is damaged: numbers in it have changed since they were saved")
        return sizes, _content(file, archive.getinfo(f"{folder}/data.pkl"))


def _content(file: BinaryIO, record: zipfile.ZipInfo) -> bytes:
    """The bytes of a record. Its checksum is not looked at, since torch can be told to write none."""
    file.seek(record.header_offset)
    header = file.read(30)
    name, more = unpack("<HH", header[26:30])
    if not header.startswith(_ZIP) or file.read(name) != record.orig_filename.encode():
        raise TorchFileError("is damaged: its records are not where it says")
    file.seek(more, 1)
    return file.read(record.file_size)
