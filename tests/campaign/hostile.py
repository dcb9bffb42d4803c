"""Files made to harm: pickles and torch files that run, exhaust or lie; links and pipes where files belong."""

import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

from tests.campaign.mutations import nasty_header

__all__ = ["CASES", "hostile_pickle"]


def hostile_pickle(rng: random.Random, outside: Path) -> tuple[bytes, str]:
    """A pickle that would touch `outside`, take all memory or time, or make no sense."""
    touch = f"touch {outside}/ran".encode()
    calls = [
        (b"posix", b"system"),
        (b"os", b"system"),
        (b"subprocess", b"getoutput"),
        (b"builtins", b"eval"),
        (b"builtins", b"exec"),
        (b"nt", b"system"),
        (b"builtins", b"__import__"),
        (b"numpy.testing._private.utils", b"runstring"),
        (b"timeit", b"timeit"),
        (b"torch", b"load"),
        (b"torch.hub", b"load"),
        (b"pathlib", b"Path.touch"),
        (b"numpy", b"load"),
        (b"pickle", b"loads"),
        (b"collections", b"Counter"),
        (b"functools", b"partial"),
        (b"operator", b"attrgetter"),
        (b"builtins", b"getattr"),
        (b"numpy", b"fromfile"),
        (b"numpy._core.multiarray", b"_reconstruct"),
        (b"codecs", b"encode"),
    ]
    module, name = rng.choice(calls)
    text = b"X" + struct.pack("<I", len(touch)) + touch
    number = rng.choice((1_000, 30_000, 300_000))
    ways = {
        "reduce": b"\x80\x02c" + module + b"\n" + name + b"\n" + text + b"\x85R.",
        "stack global": b"\x80\x04\x8c"
        + bytes([len(module)])
        + module
        + b"\x8c"
        + bytes([len(name)])
        + name
        + b"\x93"
        + text
        + b"\x85R.",
        "inst": b"(S'" + touch + b"'\ni" + module + b"\n" + name + b"\n.",
        "obj": b"(c" + module + b"\n" + name + b"\nS'" + touch + b"'\no.",
        "newobj": b"\x80\x02c" + module + b"\n" + name + b"\n" + text + b"\x85\x81.",
        "build": b"\x80\x02c" + module + b"\n" + name + b"\n}b.",
        "state": b"\x80\x02c" + module + b"\n" + name + b"\n)R}" + text + text + b"sb.",
        "persistent": b"\x80\x02" + text + b"Q.",
        "extension": b"\x80\x02\x82\x01.",
        "tuples": b"\x80\x02N" + b"\x85" * number + b".",
        "lists": b"\x80\x02" + b"]" * number + b"a" * (number - 1) + b".",
        "dicts": b"\x80\x02" + b"}" * number + b"Ns" * (number - 1) + b".",
        "doubling": b"\x80\x02K\x01" + b"q\x00h\x00\x86" * rng.choice((20, 40, 200)) + b".",
        "doubled keys": b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * rng.choice((30, 60)) + b"K\x01s.",
        "frozen sets": b"\x80\x04(K\x01" + b"\x91q\x00(h\x00h\x00" * 60 + b"\x91.",
        "bytearray": b"\x80\x05\x96" + struct.pack("<Q", rng.choice((3_000_000_000, 2**63 - 1, 2**40))) + b".",
        "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
        "unicode": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc.",
        "long": b"\x80\x02\x8b" + struct.pack("<i", rng.choice((2**31 - 1, -5, 10**6))) + b"\xff" * 100 + b".",
        "digits": b"I" + b"9" * 200_000 + b"\n.",
        "long digits": b"L" + b"9" * 200_000 + b"L\n.",
        "float": b"F" + b"1" * 200_000 + b"e" + b"9" * 9 + b"\n.",
        "memo": b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b"j" + struct.pack("<I", 2**32 - 1) + b".",
        "text memo": b"Np99999999999999\n.",
        "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
        "marks": b"(" * number + b".",
        "pops": b"\x80\x02" + b"0" * 10 + b".",
        "itself": b"\x80\x02]q\x00h\x00a.",
        "protocol": b"\x80" + bytes([rng.randrange(6, 256)]) + b"N.",
        "no stop": pickle.dumps({"a": [1.0] * 50})[:-1],
        "byte array of bytes": b"\x80\x05" + (b"B" + struct.pack("<I", 1000) + bytes(1000)) * 3 + b".",
        "out of band": b"\x80\x05\x97\x98.",
    }
    if rng.random() < 0.35:
        return _program(rng, touch), "a random program"
    way = rng.choice(sorted(ways))
    return ways[way], f"{way}, {module.decode()}.{name.decode()}"


def _program(rng: random.Random, touch: bytes) -> bytes:
    """A random sequence of instructions, most of which have what they take."""
    atoms = [
        b"N",
        b"\x88",
        b"K\x05",
        b"]",
        b"}",
        b")",
        b"(",
        b"\x8f",
        b"G" + bytes(8),
        b"\x8c\x03abc",
        b"\x8a\x01\x05",
        b"C\x02ab",
        b"cos\nsystem\n",
        b"cbuiltins\nset\n",
        b"cnumpy\nndarray\n",
        b"cnumpy\ndtype\n",
        b"h\x00",
        b"X\x03\x00\x00\x00abc",
        b"ccollections\nOrderedDict\n",
        b"c_codecs\nencode\n",
        b"X" + struct.pack("<I", len(touch)) + touch,
    ]
    acts = [
        b"\x85",
        b"\x86",
        b"\x87",
        b"t",
        b"l",
        b"d",
        b"a",
        b"e",
        b"s",
        b"u",
        b"R",
        b"b",
        b"\x81",
        b"\x92",
        b"2",
        b"0",
        b"1",
        b"q\x00",
        b"\x94",
        b"\x90",
        b"\x91",
        b"\x93",
    ]
    parts = [rng.choice(atoms) if rng.random() < 0.6 else rng.choice(acts) for _ in range(rng.choice((5, 20, 80)))]
    return b"\x80\x04" + b"".join(parts) + b"."


def torch_archive(rng: random.Random, data: bytes, file: Path) -> str:
    """A file as torch saves it, around a pickle."""
    way = rng.choice(("whole", "whole", "cut", "plain", "bomb", "names"))
    if way == "plain":
        file.write_bytes(data)
        return way
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if way == "bomb" else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", rng.choice(("little", "big", "middle")))
        archive.writestr("archive/data/0", bytes(50_000_000 if way == "bomb" else 16))
        if way == "names":
            archive.writestr("../../outside/ran", b"x")
            archive.writestr("/archive/data.pkl", data)
    if way == "cut":
        whole = file.read_bytes()
        file.write_bytes(whole[: rng.randrange(len(whole))])
    return way


def read_pickle(rng: random.Random, folder: Path, outside: Path) -> str:
    from mag2.data import load_pickle

    data, how = hostile_pickle(rng, outside)
    file = folder / "features.pkl"
    if rng.random() < 0.25:
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }\n"
        data, how = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data, f"{how} in a .npy"
    file.write_bytes(data)
    yield f"load_pickle of {how}"
    load_pickle(file)


def read_torch(rng: random.Random, folder: Path, outside: Path) -> str:
    from mag2 import TextFeatures

    data, how = hostile_pickle(rng, outside)
    file = folder / "FS_text_feature.npy"
    how = f"{how} in a torch file ({torch_archive(rng, data, file)})"
    yield f"texts of {how}"
    TextFeatures.load("figure_skating", str(file))


def read_header(rng: random.Random, folder: Path, outside: Path) -> str:
    from mag2.data import read_clips

    file = folder / "clips.npy"
    file.write_bytes(nasty_header(rng))
    yield f"read_clips of {file.read_bytes()[8:90]!r}"
    read_clips(file)


def odd_place(rng: random.Random, folder: Path, outside: Path) -> str:
    """Links, pipes and folders where the library reads or writes a file."""
    from mag2 import MLAVL, TextFeatures, load_plugin
    from mag2.data import load_pickle, read_clips
    from mag2.saving.atomic_io import alone_in, save_atomically, write_atomically
    from tests.saved import Scorer, texts

    kind = rng.choice(("pipe", "loop", "folder", "link out", "link nowhere", "null", "dangling folder"))
    reader = rng.choice(
        ("pickle", "clips", "texts", "saved texts", "model", "plugin", "lock", "write", "save", "texts save")
    )
    name = {"model": "config.json", "plugin": "mag2_plugin.json", "lock": ".lock", "saved texts": "texts.json"}.get(
        reader, "file"
    )
    place = folder / name
    {
        "pipe": lambda: os.mkfifo(place),
        "loop": lambda: place.symlink_to(place),
        "folder": lambda: place.mkdir(),
        "link out": lambda: place.symlink_to(outside / "precious"),
        "link nowhere": lambda: place.symlink_to(outside / "new"),
        "null": lambda: place.symlink_to("/dev/null"),
        "dangling folder": lambda: place.symlink_to(outside / "no" / "such"),
    }[kind]()
    yield f"{reader} where there is a {kind}"
    if reader == "pickle":
        load_pickle(place)
    elif reader == "clips":
        read_clips(place)
    elif reader == "texts":
        TextFeatures.from_released(place)
    elif reader == "saved texts":
        TextFeatures.from_saved(folder)
    elif reader == "model":
        MLAVL.from_pretrained(folder)
    elif reader == "plugin":
        load_plugin(Scorer(), folder)
    elif reader == "lock":
        with alone_in(folder):
            pass
    elif reader == "texts save":
        texts().save(folder)
    elif kind == "folder":
        return
    elif reader == "write":
        write_atomically("text", place)
    elif reader == "save":
        save_atomically({"a": 1}, place)


CASES = {"pickles": read_pickle, "torch files": read_torch, "headers": read_header, "places": odd_place}
