"""The report: what it shows and what it must not, and how it stands in a real browser."""

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
pytest.importorskip("sklearn", reason="the extra `report` is not installed")
pytest.importorskip("jinja2", reason="the extra `report` is not installed")

from mag2 import load_trained
from mag2.data.rg import RG
from mag2.published import table
from mag2.report import make_report, write_report
from mag2.report.of_run import run_page
from mag2.report.page import Page, Section, Sentence, render
from mag2.training.dataset_providers import simulation_provider
from mag2.training.run_folder import read_run
from mag2.training.target import Target
from tests.browser import MISSING, browser
from tests.test_figures import TINY, run_table

HOSTILE = (
    "<script>alert(1)</script>",
    "n" * 200,
    '"><img/src=x/onerror=alert(2)>',
    "$\\frac{1}$",
    "{{7*7}}",
)
# No file has such a name, features in memory may.
WORSE = ("n" * 300, "<script>alert(1)</script>" * 20, "\u202egnp.exe\x00\ud800", "")
PRINTED = {"FS1000/TES": {"spearman": 0.917, "mse": 64.89}}
BASE = ["--targets", "TES", "--epochs", "1", "--record", "1"]
in_a_browser = pytest.mark.skipif(bool(MISSING), reason=MISSING or "there is one")


class Elements(HTMLParser):
    """The tags of a page with their attributes, and what stands in cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "td" in self.open:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "table4"
    return run_table("table4", out, "--datasets", "FS1000", "--rows", "1", "10", "11", "--seeds", "0", "1", *BASE)


@pytest.fixture(scope="module")
def page(grid):
    return write_report(grid, grid.parent / "out" / "report.html")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run on features in files whose videos have names that would do harm; RG's lie in a dict by name."""
    folder = tmp_path_factory.mktemp("data") / "RG"
    judge = RG.judge

    def with_names(self, technical, component, train, rng):
        sheet = judge(self, technical, component, train, rng)
        tails = itertools.cycle(HOSTILE)
        names = [
            f"{name}_{next(tails)}" if name.startswith("Ball") and place >= train else name
            for place, name in enumerate(sheet.names)
        ]
        return replace(sheet, names=names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RG, "judge", with_names)
        size = {**TINY, "train": 48, "test": 32, "seed": 3}
        simulation_provider("RG", **size).simulation().write(folder)
    arguments = ["--data", f"RG={folder}", "--rows", "10", "--targets", "Ball", "--size", "small", "--clips", "8"]
    return run_table("table4", folder.parent / "run", *arguments, "--epochs", "1", "--record", "1")


def test_both_protocols_of_every_row_stand_in_the_tables(grid, page):
    text = page.read_text(encoding="utf-8")
    cells = Elements(text).cells
    run = read_run(grid)
    for row in ("1", "10", "11"):
        for protocol in ("last_epoch", "best_on_test"):
            measured = [training.result[protocol]["spearman"] for training in run.of(row=row)]
            assert f"{sum(measured) / 2:.3f}" in " ".join(cells)
    assert text.count('<th scope="col"') >= 12
    assert "CoFInAl" in text
    assert "Texts-&gt;LV" in text


def test_simulated_numbers_are_marked_and_stand_beside_no_published_one(grid, page):
    text = page.read_text(encoding="utf-8")
    assert "SIMULATED" in re.search(r"<h1>(.*?)</h1>", text)[1]
    assert "Simulated performances." in text
    assert ">paper<" not in text
    # Not even where the folder says what the paper prints.
    path = grid / "table.json"
    kept = path.read_text()
    about = json.loads(kept)
    next(row for row in about["rows"] if row["key"] == "10")["published"] = PRINTED
    try:
        path.write_text(json.dumps(about))
        assert any(heading.published for heading in read_run(grid).headings)
        assert ">paper<" not in make_report(grid, figures=False)
    finally:
        path.write_text(kept)


def test_real_numbers_stand_beside_what_the_paper_prints(grid):
    run = read_run(grid)
    printed = next(row for row in table(4) if row["row"] == "10")
    numbers = {Target("FS1000", "TES"): {"spearman": float(printed["sp_TES"]), "mse": float(printed["mse_TES"])}}
    trainings = tuple(
        replace(each, data="FS1000", simulated=False, heading=replace(each.heading, published=numbers))
        for each in run.trainings
    )
    headings = tuple(replace(each, published=numbers if each.key == "10" else {}) for each in run.headings)
    real = replace(run, trainings=trainings, headings=headings, settings={**run.settings, "simulated": False})
    text = render(run_page(real, figures=False))
    assert ">paper<" in text
    assert "0.917" in text
    mean = sum(each.result["last_epoch"]["spearman"] for each in run.of(row="10")) / 2
    assert f"<small>{mean - 0.917:+.3f}</small>" in text
    assert "SIMULATED" not in text


def test_the_page_loads_nothing_and_lets_only_its_own_script_run(page):
    text = page.read_text(encoding="utf-8")
    elements = Elements(text)
    for tag, attributes in elements.tags:
        for name in ("src", "href", "action", "data", "poster"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("data:", "#")), (tag, value)
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
    policy = next(a["content"] for t, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert [tag for tag, _ in elements.tags].count("script") == 1


def test_settings_versions_and_commands_stand_on_the_page(page):
    text = page.read_text(encoding="utf-8")
    for part in ("version of torch", "version of mag2", "precision", "--record 1", "mag2 report", "optimizer adam"):
        assert part in text


def test_the_commands_that_repeat_a_run_and_its_page_say_where_and_whose(grid):
    run = read_run(grid)
    assert f"--out {grid}\n" in make_report(grid, figures=False).replace("</", "\n</")
    before = replace(run, runs=[{"command": "mag2 train --rows gdlt"}])  # when the usual folder was not recorded
    assert f"mag2 train --rows gdlt --out {grid}" in render(run_page(before, figures=False))
    chosen = make_report(grid, row="10", target="TES", seed=1, figures=False)
    assert f"mag2 report {grid} --row 10 --target TES --seed 1 --no-figures" in chosen


def test_equal_folders_give_equal_pages(grid, page):
    assert make_report(grid) == page.read_text(encoding="utf-8")


def test_the_page_is_written_whole_or_not_at_all(grid, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("the old one")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(grid, path, figures=False)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_names_from_data_are_text_and_nothing_else(hostile):
    text = make_report(hostile)
    elements = Elements(text)
    shown = "\n".join(elements.cells)
    for part in HOSTILE:
        assert part in shown
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert [tag for tag, _ in elements.tags].count("script") == 1
    assert not any(attributes.get("src") == "x" for _, attributes in elements.tags)


def test_what_html_may_not_hold_is_replaced():
    text = render(Page("a\x00b\ud800c\u202ed", [Section("<b>", [Sentence("{{ 7 * 7 }}")])]))
    assert "a\ufffdb\ufffdc\ufffdd" in text
    assert "&lt;b&gt;" in text
    assert "{{ 7 * 7 }}" in text
    text.encode("utf-8")


def test_one_training_has_a_page(grid):
    folder = next(grid.rglob("row-10/**/trained.json")).parent
    text = make_report(folder, figures=False)
    assert re.search(r"<h1>MLAVL: SIMULATED data</h1>", text)
    assert "Predictions" in text


def test_an_earlier_versions_folder_has_a_page():
    text = make_report(Path(__file__).parent / "saved" / "0.1.0" / "table")
    assert "CoFInAl +MAG2" in text
    assert "version 0.1 kept none" in text


@pytest.fixture(scope="module")
def scores(grid):
    folder = next(grid.rglob("row-10/**/seed-0/trained.json")).parent
    trained = load_trained(folder)
    test = trained.dataset().test
    return trained.score(test, names=test.names[:2], explain=("occlusion", "gradient times input"), clip_seconds=1.5)


def renamed(scores):
    """The scores of performances with names that would do harm."""
    return replace(scores, performances=tuple(replace(scores[0], name=name) for name in WORSE))


def test_names_of_scored_performances_are_text_and_nothing_else(scores):
    text = make_report(renamed(scores))
    text.encode("utf-8")
    assert "n" * 300 in Elements(text).cells
    assert "<script>alert" not in text
    assert "\ufffdgnp.exe\ufffd\ufffd" in text
    assert not set(text) & {"\u202e", "\x00", "\ud800"}


def test_scores_have_a_page_with_intervals_grades_and_clips(scores, tmp_path):
    path = write_report(scores, tmp_path / "scores.html")
    text = path.read_text(encoding="utf-8")
    for score in scores:
        assert f"{score.score:.4g}" in text
        assert score.name in text
    for part in ("SIMULATED", "with fitting music", "excellent", "occlusion", "gradient times input", "from, s"):
        assert part in text
    assert text.count("<img") == 4
    for note in scores.notes:
        assert note.split(" ")[0] in text


def test_the_file_of_scores_gives_the_same_page(scores, tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps([{**scores.plain, "truth": {}}]))
    assert write_report(path) == tmp_path / "scores.html"
    assert (tmp_path / "scores.html").read_text(encoding="utf-8") == make_report(scores)
    true = {scores[0].name: 12.5}
    path.write_text(json.dumps([{**scores.plain, "truth": true}]))
    assert "true score 12.5" in make_report(path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '[{"performances": []}]', "[1]", "\ufeff["])
def test_another_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"scores\.json holds no scores; write them with: mag2 score RUN --out"):
        make_report(path)


def test_a_wrong_request_is_one_sentence(grid, scores, tmp_path):
    with pytest.raises(ValueError, match="no results of row 99"):
        write_report(grid, tmp_path / "x.html", row="99")
    with pytest.raises(ValueError, match="is a folder; give a file"):
        write_report(grid, tmp_path)
    with pytest.raises(ValueError, match="say where the report goes"):
        write_report(scores)
    with pytest.raises(ValueError, match="there is no folder"):
        write_report(tmp_path / "nowhere", tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


@pytest.fixture(scope="module")
def chrome():
    with browser() as opened:
        yield opened


OVERFLOW = """
const wide = document.documentElement.clientWidth;
return [document.documentElement.scrollWidth - wide, [...document.querySelectorAll("body *")]
  .filter((each) => !each.closest(".scroll") && each.getBoundingClientRect().right > wide + 0.5)
  .map((each) => each.outerHTML.slice(0, 80))];
"""
COLUMN = """
const table = document.querySelectorAll("table.sortable")[arguments[0]];
return [...table.tBodies[0].rows].map((row) => row.cells[arguments[1]].textContent);
"""
CLICK = "document.querySelectorAll('table.sortable')[arguments[0]].querySelectorAll('th button')[arguments[1]].click()"


@in_a_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["page", "hostile_page", "scores_page", "hostile_scores"])
def test_a_browser_shows_the_page_without_complaint_and_nothing_overflows(chrome, pages, which, width, dark):
    chrome.open(pages[which], width=width, dark=dark)
    chrome.run("for (const each of document.querySelectorAll('details')) each.open = true")
    assert chrome.run(OVERFLOW) == [0, []]
    assert chrome.run("return [...document.images].every((each) => each.complete && each.naturalWidth > 0)")
    assert chrome.run("return document.images.length") > 0
    assert chrome.complaints() == []
    assert chrome.requests() == [pages[which].as_uri()]
    ground, ink = chrome.run("const look = getComputedStyle(document.body); return [look.backgroundColor, look.color]")
    light = [sum(map(int, re.findall(r"\d+", colour))) / 3 for colour in (ground, ink)]
    assert (light[0] < 60 and light[1] > 200) if dark else (light[0] > 240 and light[1] < 60)


@pytest.fixture(scope="module")
def pages(page, hostile, scores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {
        "page": page,
        "hostile_page": write_report(hostile, folder / "hostile.html"),
        "scores_page": write_report(scores, folder / "scores.html"),
        "hostile_scores": write_report(renamed(scores), folder / "hostile_scores.html"),
    }


EDGES = """
const wide = [...document.querySelectorAll(".scroll")].filter((each) => each.scrollWidth > each.clientWidth + 40);
const chosen = wide.find((each) => each.querySelector(arguments[0]));
chosen.scrollIntoView({block: "start", behavior: "instant"});
chosen.scrollLeft = arguments[1];
const box = chosen.getBoundingClientRect();
return [box.left, box.right, box.top, Math.min(box.bottom, innerHeight)].map(Math.round);
"""


@in_a_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("what", ["table", "img"])
def test_a_shadow_stands_where_a_table_or_figure_goes_on_and_nowhere_else(chrome, page, what, dark):
    chrome.open(page, width=390, dark=dark)
    chrome.run("for (const each of document.querySelectorAll('details')) each.open = true")
    shown = {}
    for begin in (0, 10_000):
        left, right, top, bottom = chrome.run(EDGES, what, begin)
        pixels = chrome.pixels()[top:bottom, :, :3].mean(axis=2)
        ground = np.median(pixels[:, left + 30 : right - 30])
        edges = (pixels[:, left + 2 : left + 5], pixels[:, right - 5 : right - 2])
        shown[begin] = [abs(np.median(edge) - ground) > 0.08 for edge in edges]
    assert shown == {0: [False, True], 10_000: [True, False]}


@in_a_browser
def test_a_table_sorts_both_ways_by_numbers_and_by_words(chrome, page):
    chrome.open(page)
    before = chrome.run(COLUMN, 0, 0)
    assert before == ["1", "10", "11"]
    chrome.run(CLICK, 0, 2)
    values = [float(each.split(" ")[0]) for each in chrome.run(COLUMN, 0, 2)]
    assert values == sorted(values)
    chrome.run(CLICK, 0, 2)
    values = [float(each.split(" ")[0]) for each in chrome.run(COLUMN, 0, 2)]
    assert values == sorted(values, reverse=True)
    chrome.run(CLICK, 0, 1)
    names = chrome.run(COLUMN, 0, 1)
    assert names == sorted(names)
    assert chrome.run("return document.querySelectorAll('[aria-sort]').length") == 1
    chrome.run(CLICK, 0, 0)
    chrome.run(CLICK, 0, 0)
    assert chrome.run(COLUMN, 0, 0) == ["11", "10", "1"]


@in_a_browser
def test_without_scripts_the_tables_are_there_and_nothing_promises_more(chrome, page):
    chrome.open(page, script=False)
    assert chrome.run(COLUMN, 0, 0) == ["1", "10", "11"]
    assert chrome.run("return document.querySelectorAll('th button').length") == 0
    assert chrome.run("return document.querySelector('.scripted').hidden")
    chrome.open(page)
    assert not chrome.run("return document.querySelector('.scripted').hidden")


@in_a_browser
@pytest.mark.parametrize("which", ["hostile_page", "hostile_scores"])
def test_no_name_from_the_data_runs(chrome, pages, which):
    chrome.open(pages[which])
    assert chrome.run("return document.scripts.length") == 1
    assert chrome.run("return document.body.textContent.includes('<script>alert(1)</script>')")
    assert chrome.complaints() == []
