"""Break a file or a folder in one random way, and say how."""

import io
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np

__all__ = ["break_something", "nasty_header"]

FIELDS = (
    "nan",
    "inf",
    "-1",
    "1e999",
    "-0",
    "1e-400",
    "9" * 5000,
    "٣",
    "5_2.5",
    "½",
    "0x10",
    "True",
    "None",
    "",
    "\x00",
    "\x1b[31m",
    "../../x",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "💥",
    "1,5",
    "1 2",
    "#",
    "%s",
    "{0}",
    "\u202e",
    "\uff11\uff12",
    "1e5",
    "+3",
    "'1'",
)
VALUES = (
    None,
    True,
    False,
    -1,
    0,
    7,
    10**30,
    2**63,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../x",
    "\x00",
    [],
    {},
    [[]],
    {"": 0},
    [1, 2, 3],
    "9" * 3000,
    -0.5,
    [None],
)


def break_something(rng: random.Random, folder: Path, outside: Path) -> str:
    """Break one file of a folder; the words say which and how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in ("lock", ".lock"))
    # Few label files stand beside many feature files; each kind comes equally often.
    kinds = sorted({path.suffix for path in files})
    kind = rng.choice(kinds)
    file = rng.choice([path for path in files if path.suffix == kind])
    name = file.relative_to(folder)
    own = {".npy": _break_npy, ".json": _break_json, ".txt": _break_text, ".csv": _break_text, ".jsonl": _break_text}
    ways = [_break_bytes, _break_place] + [own.get(kind, _break_bytes)] * 4
    return f"{name}: {rng.choice(ways)(rng, file, outside)}"


def _break_bytes(rng: random.Random, file: Path, _: Path) -> str:
    data = bytearray(file.read_bytes())
    way = rng.choice(("flip", "cut", "insert", "empty", "noise", "repeat", "zeros"))
    at = rng.randrange(max(len(data), 1))
    if way == "flip" and data:
        data[at] ^= 1 << rng.randrange(8)
    elif way == "cut":
        del data[at:]
    elif way == "insert":
        data[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
    elif way == "empty":
        data.clear()
    elif way == "noise":
        data[:] = rng.randbytes(rng.choice((1, 10, 1000)))
    elif way == "repeat":
        data.extend(bytes(data))
    else:
        data[at : at + 16] = bytes(min(16, len(data) - at))
    file.write_bytes(data)
    return f"bytes, {way} at {at}"


def _break_place(rng: random.Random, file: Path, outside: Path) -> str:
    way = rng.choice(("missing", "folder", "pipe", "loop", "link out", "link nowhere", "link to folder", "zero device"))
    file.unlink()
    if way == "folder":
        file.mkdir()
    elif way == "pipe":
        os.mkfifo(file)
    elif way == "loop":
        file.symlink_to(file)
    elif way == "link out":
        file.symlink_to(outside / "precious")
    elif way == "link nowhere":
        file.symlink_to(outside / "missing")
    elif way == "link to folder":
        file.symlink_to(outside)
    elif way == "zero device":
        file.symlink_to("/dev/zero")
    return way


def _break_text(rng: random.Random, file: Path, outside: Path) -> str:
    text = file.read_bytes().decode("utf-8", "replace")
    lines = text.splitlines() or [""]
    at = rng.randrange(len(lines))
    fields = lines[at].split(" ")
    way = rng.choice(
        ("field", "field", "field", "drop", "twice", "swap", "join", "blank", "bytes", "more", "newline", "header")
    )
    which = rng.randrange(len(fields))
    if way == "field":
        fields[which] = rng.choice(FIELDS)
    elif way == "drop":
        del fields[which]
    elif way == "swap":
        rng.shuffle(fields)
    elif way == "more":
        fields.append(rng.choice(FIELDS))
    elif way == "twice":
        lines.insert(at, lines[at])
    elif way == "join" and at + 1 < len(lines):
        fields += lines.pop(at + 1).split(" ")
    elif way == "blank":
        lines.insert(at, rng.choice(("", " ", "\t", "\x0c")))
    elif way == "header":
        lines.insert(0, rng.choice(("name score", "\ufeff", "#", "\x00" * 50, "a" * 100_000)))
    if way not in ("twice", "blank", "header"):
        lines[at] = " ".join(fields)
    data = rng.choice(("\n", "\n", "\n", "\r\n", "\r")).join(lines).encode("utf-8", "surrogatepass")
    if way == "bytes":
        cut = rng.randrange(len(data) + 1)
        data = data[:cut] + rng.choice((b"\xff\xfe", b"\xc3", b"\x80", b"\x00")) + data[cut:]
    file.write_bytes(data)
    return (
        f"text, {way} in line {at + 1}, {fields[which][:20]!r}"
        if which < len(fields)
        else f"text, {way} in line {at + 1}"
    )


def _break_json(rng: random.Random, file: Path, outside: Path) -> str:
    text = file.read_text(encoding="utf-8")
    way = rng.choice(("value", "value", "value", "value", "key", "add", "deep", "cut", "twice", "top", "long number"))
    if way in ("value", "key", "add"):
        content = json.loads(text)
        holder = content
        path = []
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                return "json, nothing to change"
            key = rng.choice(keys)
            path.append(str(key))
            if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.7:
                holder = holder[key]
                continue
            break
        if way == "key":
            holder.pop(key)
        elif way == "add" and isinstance(holder, dict):
            holder[rng.choice(("x", "", "__class__", "../x"))] = rng.choice(VALUES)
        else:
            holder[key] = rng.choice(VALUES)
            path.append(f"= {holder[key]!r}"[:30])
        file.write_text(json.dumps(content), encoding="utf-8")
        return f"json, {way} at {'.'.join(path)}"
    if way == "deep":
        file.write_text(rng.choice(("[", '{"a":')) * 200_000, encoding="utf-8")
    elif way == "cut":
        file.write_text(text[: rng.randrange(len(text) + 1)], encoding="utf-8")
    elif way == "twice":
        file.write_text(text + text, encoding="utf-8")
    elif way == "top":
        file.write_text(json.dumps(rng.choice(VALUES)), encoding="utf-8")
    else:
        file.write_text(text.replace("1", "9" * 100_000, 1), encoding="utf-8")
    return f"json, {way}"


def nasty_header(rng: random.Random) -> bytes:
    """A `.npy` file whose header announces something odd, and some numbers."""
    shapes = (
        "(-1, 3)",
        "(3, -8)",
        "(10**9, 10**9)",
        "(2.5, 3)",
        "(True, 8)",
        "()",
        "(0, 8)",
        "(3, 0)",
        "(3,)",
        "(3, 8, 0)",
        "('3', 8)",
        "None",
        "[3, 8]",
        "(3, 8)",
        "(" * 500 + ")" * 500,
        "(2**62, 2**62)",
        "(3, 2, 8)",
        "(1,)*40",
        "(3, 1, 1, 8)",
    )
    types = (
        "'<f4'",
        "'<f8'",
        "'<f2'",
        "'|b1'",
        "'<c8'",
        "'|O'",
        "'<U5'",
        "'<M8[s]'",
        "[('a', '<f4')]",
        "'|V9'",
        "'>f4'",
        "'<i8'",
        "'x'",
        "3",
        "'<f16'",
        "'|S0'",
    )
    shape = "(3, 8)" if rng.random() < 0.4 else rng.choice(shapes)
    kind = "'<f4'" if rng.random() < 0.4 else rng.choice(types)
    text = f"{{'descr': {kind}, 'fortran_order': {rng.choice(('False', 'True', '2', 'None'))}, 'shape': {shape}, }}"
    if rng.random() < 0.2:
        text = rng.choice(("{", "__import__('os').getpid()", text[:-9], text * 2, "[" * 90_000, "{**{}}", "\x00" * 30))
    raw = text.encode() + b"\n"
    version = rng.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"))
    long = version[0] > 1
    length = len(raw) if rng.random() < 0.8 else rng.choice((0, 1, 65535))
    size = length.to_bytes(4, "little") if long else min(length, 65535).to_bytes(2, "little")
    numbers = np.ones(rng.choice((0, 1, 24, 1000)), "<f4")
    if rng.random() < 0.2 and len(numbers):
        numbers[rng.randrange(len(numbers))] = rng.choice((np.nan, np.inf, -np.inf, 3e38))
    return b"\x93NUMPY" + version + size + raw + numbers.tobytes()


def _break_npy(rng: random.Random, file: Path, outside: Path) -> str:
    if rng.random() < 0.4:
        file.write_bytes(nasty_header(rng))
        return "npy, header"
    try:
        array = np.load(file, allow_pickle=False)
    except ValueError:
        return _break_bytes(rng, file, outside)
    way = rng.choice(
        ("nan", "inf", "bool", "complex", "wide", "empty", "flat", "huge", "text", "object", "views", "half", "npz")
    )
    changes = {
        "nan": lambda: np.where(np.arange(array.size).reshape(array.shape) == 1, np.nan, array),
        "inf": lambda: np.where(np.arange(array.size).reshape(array.shape) == 1, np.inf, array),
        "bool": lambda: array > 0,
        "complex": lambda: array.astype(complex),
        "wide": lambda: np.concatenate([array, array], -1),
        "empty": lambda: array[:0],
        "flat": lambda: array.ravel(),
        "huge": lambda: array.astype("f8") * 1e300,
        "text": lambda: array.astype(str),
        "object": lambda: array.astype(object),
        "views": lambda: np.stack([array] * 3, 1),
        "half": lambda: array.astype("f2"),
    }
    if way == "npz":
        stream = io.BytesIO()
        np.savez(stream, a=array)
        file.write_bytes(stream.getvalue())
    else:
        with file.open("wb") as stream:
            np.save(stream, changes[way](), allow_pickle=True)
    return f"npy, {way}"


def copy_tree(source: Path, target: Path) -> None:
    """A copy to break."""
    shutil.copytree(source, target)
