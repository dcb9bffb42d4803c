"""Small files that are damaged or made to mislead: JSON, `.npy` headers, label files, names. One printable sentence."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest

from mag2 import ActionGraphGuidance, TextFeatures
from mag2.data import DataError, read_clips, read_fisv, read_fs1000, read_logo
from mag2.data.fisv import FisV
from mag2.data.names import require_inner_name
from mag2.extraction.names import named_videos
from mag2.saving import bounded_json
from mag2.saving.atomic_io import read_json
from mag2.saving.bounded_json import load_json
from mag2.saving.sentences import one_line, printable, shortened

SENTENCE = r"^[ -~]+$"

DEEP = "[" * 200_000
BAD_JSON = {
    "200,000 brackets": DEEP,
    "200,000 brackets that close": DEEP + "]" * 200_000,
    "objects 3,000 deep": '{"a":' * 3000 + "1" + "}" * 3000,
    "lists 100 deep": "[" * 100 + "]" * 100,
    "half": '{"a": 1',
    "two values": "{} {}",
    "a number of 100,000 digits": '{"a": ' + "7" * 100_000 + "}",
    "nothing": "",
    "other bytes": b"\xff\xfe{\x00}\x00",
    "a zero byte": b"{\x00}",
    "Python": "{'a': None}",
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_a_json_that_is_none_is_one_clause(tmp_path, name):
    content = BAD_JSON[name]
    (tmp_path / "a.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=SENTENCE):
        load_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"a\.json is damaged; delete it"):
        read_json(tmp_path / "a.json", "a")


def test_a_json_that_is_too_large_or_a_pipe_is_one_clause(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_json, "MAX_JSON_BYTES", 2**20)
    (tmp_path / "a.json").write_text(json.dumps("a" * 2**20))
    with pytest.raises(ValueError, match="more than 1 MiB"):
        load_json(tmp_path / "a.json")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        load_json(tmp_path / "pipe")


def test_a_json_of_ours_lies_within_the_bounds(tmp_path):
    value = {"videos": {f"v{i}": [i, f"{i}.npy", {"a": None}] for i in range(1000)}, "nested": [[[[[1.5]]]]]}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert load_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("content", [DEEP, "{", "[]", "7" * 100_000, '"texts"'])
def test_folders_of_weights_and_texts_say_which_json_is_at_fault(tmp_path, content):
    texts = TextFeatures.for_sport("figure_skating")
    texts.save(tmp_path / "texts")
    ActionGraphGuidance(16, texts.visual[:5]).save_pretrained(tmp_path / "guide")
    for file, read in (("texts/texts.json", TextFeatures.from_saved), ("guide/config.json", _guide)):
        (tmp_path / file).write_text(content)
        with pytest.raises(ValueError, match=rf"^[ -~]*{file}[ -~]*give a folder that"):
            read((tmp_path / file).parent)


def _guide(folder):
    return ActionGraphGuidance.from_pretrained(folder)


def header(shape, dtype="'<f4'", order="False", body=b"\x00" * 64):
    text = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


HEADERS = {
    "a negative shape": header("(-4, 4)"),
    "two negative lengths": header("(-4, -4)"),
    "a shape of 2^60": header("(1152921504606846976, 4)"),
    "a shape of 2^64": header("(18446744073709551616, 4)"),
    "a shape that overflows to a small one": header("(4294967296, 4294967296, 16)"),
    "lengths of 4,000 digits": header(f"({'9' * 4000}, {'9' * 4000})"),
    "lengths of 5,000 digits": header(f"({'9' * 5000}, 4)"),
    "a length that is no whole number": header("(4.0, 4)"),
    "a length that is a truth value": header("(True, 4)"),
    "a length that is a text": header("('4', 4)"),
    "no length of a huge width": header("(0, 9223372036854775807, 9223372036854775807)"),
    "a shape that is a list": header("[4, 4]"),
    "a shape that is none": header("None"),
    "three thousand brackets": header("(" * 3000 + ")" * 3000),
    "an order that is a number": header("(4, 4)", order="7"),
    "a dtype that is no type": header("(4, 4)", dtype="'rubbish'"),
    "a dtype of 2^30 bytes": header("(1,)", dtype="'V1073741824'"),
    "a dtype of fields": header("(4,)", dtype="[('a', '<f4'), ('b', 'O')]"),
    "a dtype within another": header("(4,)", dtype="('<f4', (1000000, 1000000))"),
    "a dtype of 3,000 brackets": header("(4,)", dtype="[" * 3000 + "]" * 3000),
    "objects": header("(4, 4)", dtype="'|O'"),
    "code": header("(__import__('os').system('true'), 4)"),
    "another key": b"\x93NUMPY\x01\x00\x0a\x00{'a': 1}\n ",
    "a version of the future": b"\x93NUMPY\x09\x00\x0a\x00{'a': 1}\n ",
    "a header of four billion bytes": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'",
    "half the numbers": header("(16, 4)"),
    "nothing": b"",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HEADERS)
def test_a_npy_header_that_lies_is_one_sentence(tmp_path, name):
    (tmp_path / "v.npy").write_bytes(HEADERS[name])
    with pytest.raises(DataError, match=r"^[ -~]*v\.npy[ -~]+: [ -~]+$") as caught:
        read_clips(tmp_path / "v.npy")
    assert len(str(caught.value)) < len(str(tmp_path)) + 320


ROW = "v1 40 30 1\n"


@pytest.fixture
def fisv(tmp_path):
    folder = tmp_path / "fisv"
    for place in ("video", "audio"):
        (folder / place).mkdir(parents=True)
        for name in ("v1", "v2"):
            np.save(folder / place / f"{name}.npy", np.zeros((3, 4), np.float32))
    (folder / "train.txt").write_text(ROW)
    (folder / "test.txt").write_text("v2 20 30 0\n")
    return folder


def test_the_folder_is_read(fisv):
    assert len(read_fisv(fisv, "TES").train) == 1


NUMBERS = {
    "an underscore": "5_2.5",
    "Arabic digits": "\u0665\u0662",
    "Devanagari digits": "\u096b\u0968",
    "full-width digits": "\uff15\uff12",
    "a superscript": "5\u00b2",
    "hexadecimal": "0x32",
    "nan": "nan",
    "infinity": "infinity",
    "a huge exponent": "1e999",
    "a comma": "52,5",
    "two points": "5.2.5",
    "a sign alone": "-",
    "a point alone": ".",
    "100,000 digits": "7" * 100_000,
    "100,000 letters": "x" * 100_000,
    "an escape": "5\x1b[2J",
    "a direction": "\u202e25",
}


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_in_plain_digits_is_refused(fisv, name):
    (fisv / "train.txt").write_text(ROW + f"v3 {NUMBERS[name]} 30 1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.txt line 2 has .* as its TES: write a number") as caught:
        read_fisv(fisv, "TES")
    sentence = str(caught.value)
    assert sentence == printable(sentence)
    assert len(sentence) < len(str(fisv)) + 200


@pytest.mark.parametrize("text", ["40", "40.", "+40.0", "4e1", "0.4E+2", "040", "." + "5" * 300])
def test_numbers_of_every_plain_form_are_read(fisv, text):
    (fisv / "train.txt").write_text(f"v1 {text} 30 1\n")
    assert 0 < float(read_fisv(fisv, "TES").train.label[0]) <= 1


NAMES = {
    "a way up": "../../etc/passwd",
    "a way up and back": "a/../../v1",
    "two points alone": "..",
    "a way up for Windows": "..\\..\\x",
    "absolute": "/etc/passwd",
    "absolute on Windows": "C:\\x",
    "a share": "\\\\host\\x",
    "a zero byte": "v\x001",
    "an escape": "v\x1b[2J1",
    "a bell": "v\x071",
    "a deletion": "v\x7f1",
    "a direction": "v\u202e1",
    "too long": "v" * 100_000,
    "just too long": "v" * 300,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_out_or_misleads_is_refused(fisv, name):
    (fisv / "train.txt").write_text(ROW + f"{NAMES[name]} 40 30 1\n", encoding="utf-8")
    for read in (lambda: read_fisv(fisv, "TES"), lambda: FisV.with_labels(fisv)):
        with pytest.raises(DataError, match=r"train\.txt line 2 names ") as caught:
            read()
        sentence = str(caught.value)
        assert sentence == printable(sentence)
        assert len(sentence) < len(str(fisv)) + 250


@pytest.mark.parametrize("name", ["v1", "game/v1", "a.b..c", "...", "Ball_001", "空手", "v 1", "C:"])
def test_names_that_stay_in_their_folder_are_taken(name):
    require_inner_name(name, "here")


@pytest.mark.parametrize("name", [*NAMES.values(), "a/b", ".hidden", ""])
def test_names_of_extraction_stay_in_their_folder(tmp_path, name):
    with pytest.raises(ValueError, match="is no name for the features") as caught:
        named_videos({name: tmp_path / "a.mp4"})
    assert "\x1b" not in str(caught.value)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder_of(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("make", [pipe, folder_of])
def test_a_label_file_that_is_a_pipe_or_folder_is_one_sentence(fisv, make):
    make(fisv / "train.txt")
    with pytest.raises(DataError, match=r"train\.txt is no regular file: give a text file"):
        read_fisv(fisv, "TES")
    shutil.copytree(fisv, fisv.parent / "fs", ignore=lambda *_: ["train.txt"])
    (fisv.parent / "fs" / "train_fs1000_new.txt").write_text("")
    make(fisv.parent / "fs" / "train_fs1000_new.txt")
    with pytest.raises(DataError, match=r"train_fs1000_new\.txt is no regular file"):
        read_fs1000(fisv.parent / "fs", "TES")


SPLITS = {
    "a number": 5,
    "a text": "train",
    "a dict": {("game", 1): 1},
    "a set": {("game", 1)},
    "an array of one value": np.array(5),
    "an array of one object": np.array({"a": 1}, dtype=object),
    "numbers": [1, 2],
    "triples": [("game", 1, 2)],
    "pairs of other things": [(1, "game")],
    "pairs with None": [("game", None)],
    "nothing": [],
    "a name that leads out": [("../../game", 1)],
    "an absolute name": [("/game", 1)],
    "a name with an escape": [("game\x1b[2J", 1)],
    "a name of 100,000 letters": [("g" * 100_000, 1)],
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_of_logo_that_is_no_list_of_pairs_is_one_sentence(tmp_path, name):
    keys = SPLITS[name] if isinstance(SPLITS[name], list) else []
    scores = {key: (0, 50.0) for key in keys if isinstance(key, tuple) and isinstance(key[0], str) and len(key) == 2}
    scores |= {("fine", 1): (0, 50.0), ("fine", 2): (0, 50.0)}
    scores = {key: value for key, value in scores.items() if key[1] is not None}
    (tmp_path / "anno_dict.pkl").write_bytes(pickle.dumps(scores))
    (tmp_path / "train_split3.pkl").write_bytes(pickle.dumps(SPLITS[name]))
    (tmp_path / "test_split3.pkl").write_bytes(pickle.dumps([("fine", 2)]))
    (tmp_path / "video").mkdir()
    with pytest.raises(DataError, match=r"split3\.pkl") as caught:
        read_logo(tmp_path)
    sentence = str(caught.value)
    assert sentence == printable(sentence)
    assert len(sentence) < len(str(tmp_path)) + 250


@pytest.mark.parametrize("score", [2**8000, -(2**8000), float("inf"), float("nan"), "50", None, [50.0], True, 1e308])
def test_a_score_of_logo_that_is_none_is_one_short_sentence(tmp_path, score):
    (tmp_path / "anno_dict.pkl").write_bytes(pickle.dumps({("game", 1): (0, score)}))
    for split in ("train", "test"):
        (tmp_path / f"{split}_split3.pkl").write_bytes(pickle.dumps([("game", 1)]))
    with pytest.raises(DataError, match=SENTENCE) as caught:
        read_logo(tmp_path)
    assert len(str(caught.value)) < len(str(tmp_path)) + 250


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202ecod", "\x07", "caf\udce9"])
def test_a_folder_with_control_characters_is_shown_escaped(tmp_path, name):
    for read in (lambda path: read_fisv(path, "TES"), read_logo, lambda path: read_clips(path / "v.npy")):
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        assert str(caught.value) == printable(str(caught.value))


def test_a_file_that_may_not_be_read_does_not_advise_to_extract_again(fisv, monkeypatch):
    """The tests may run as a user who may read everything, so the system's refusal is made up."""
    opened = type(fisv).open

    def refusing(path, *arguments, **options):
        if path.suffix == ".npy" and "audio" in path.parts:
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(type(fisv), "open", refusing)
    with pytest.raises(DataError, match=r"v1\.npy .*\(Permission denied\): allow this user to read it$"):
        read_fisv(fisv, "TES")


def test_sentences_keep_other_scripts_and_escape_what_a_terminal_obeys():
    assert one_line(" a\n\tb\x1b[1m 空手 é ") == "a b\\x1b[1m 空手 é"
    assert shortened("x" * 1000) == shortened("x" * 1000)[:60]
    assert len(shortened(10**3000)) <= 60
    assert "too long" in shortened(10**5000)


def test_a_store_whose_note_is_damaged_is_built_anew(fisv):
    first = read_fisv(fisv, "TES")
    notes = sorted((fisv / ".mag2-cache").glob("*.json"))
    assert notes
    for content in (DEEP, "[]", '{"layout": 1}', "7" * 100_000, json.dumps({"lengths": "x"})):
        for note in notes:
            note.write_text(content)
        assert read_fisv(fisv, "TES").fingerprints == first.fingerprints
    for file in (fisv / ".mag2-cache").glob("*.npy"):
        about = json.loads(file.with_suffix(".json").read_text())
        file.write_bytes(HEADERS["a shape of 2^60"])
        stat = file.stat()
        file.with_suffix(".json").write_text(json.dumps({**about, "itself": [stat.st_size, stat.st_mtime_ns]}))
    assert read_fisv(fisv, "TES").fingerprints == first.fingerprints
    for file in (fisv / ".mag2-cache").glob("*.json"):
        about = json.loads(file.read_text())
        for lengths in ([9, -3], [-1, 7], ["3", "3"], [2**80, 3], [[3], [3]], [True, 5]):
            file.write_text(json.dumps({**about, "lengths": lengths}))
            assert read_fisv(fisv, "TES").train.lengths.tolist() == [3]
