"""The Python of the pages runs as it stands there, block after block, in an empty folder."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTED_ELSEWHERE = {
    "docs/from-video.md": "test_extraction_folder.py",  # needs a video
    "CONTRIBUTING.md": "test_own_tables.py",  # a command
}
PAGES = [
    name
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
    if "```python" in page.read_text(encoding="utf-8")
    and (name := page.relative_to(ROOT).as_posix()) not in TESTED_ELSEWHERE
]


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run(page):
    names = {"__name__": "__main__"}
    for block in blocks(page):
        needed = re.match(r"# needs (\w+)\n", block)
        if needed is None or importlib.util.find_spec(needed[1]) is not None:
            exec(compile(block, page, "exec"), names)


@pytest.mark.filterwarnings("error:.*ActionGraphGuidance:UserWarning")
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_and_prints_what_it_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(page)
    printed = capsys.readouterr().out
    # `print(...)` with comment lines below it: these are what it prints.
    for block in blocks(page):
        for shown in re.findall(r"^print\([^\n]*\)\n((?:# [^\n]*\n)+)", block, re.MULTILINE):
            assert re.sub(r"^# ", "", shown, flags=re.MULTILINE).strip() in printed


def test_the_page_on_plugs_shows_what_trains_and_the_sentence_of_a_wrong_width(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("docs/plug.md")
    shown = capsys.readouterr().out
    assert re.search(r"residual; ([\d,]+) of \1 parameters train; called once", shown)
    assert "is 16 wide" in shown
    assert "build the guide 32 wide" in shown


@pytest.mark.parametrize(("page", "file"), TESTED_ELSEWHERE.items())
def test_a_page_that_runs_elsewhere_does(page, file):
    assert Path(page).name in (ROOT / "tests" / file).read_text(encoding="utf-8")
