"""The Python of the pages runs as it stands there, block after block."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {"docs/plug.md": 7}


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("error:.*ActionGraphGuidance:UserWarning")
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page, capsys):
    found = blocks(page)
    assert len(found) == PAGES[page]
    names = {}
    for block in found:
        needed = re.match(r"# needs (\w+)\n", block)
        if needed is None or importlib.util.find_spec(needed[1]) is not None:
            exec(compile(block, page, "exec"), names)
    shown = capsys.readouterr().out
    assert re.search(r"residual; ([\d,]+) of \1 parameters train; called once", shown)
    assert "is 16 wide" in shown
    assert "build the guide 32 wide" in shown


def test_what_a_page_prints_is_what_it_says_it_prints(capsys):
    block = blocks("docs/plug.md")[0]
    exec(compile(block, "docs/plug.md", "exec"), {})
    assert capsys.readouterr().out.strip() in block
