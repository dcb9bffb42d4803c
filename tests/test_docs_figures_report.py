"""The commands of the pages on figures and on the report run as they stand there, in their order."""

import re
import shlex
from pathlib import Path

import pytest

from mag2 import command
from mag2.figures import FIGURES
from tests.test_figures import run_table

DOCS = Path(__file__).parents[1] / "docs"
pytest.importorskip("matplotlib", reason="the extra `figures` is not installed")
pytest.importorskip("sklearn", reason="the extra `figures` is not installed")


def lines_of(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(
    ("page", "written"),
    [("figures.md", "runs/mine/figures/figures.md"), ("report.md", "runs/mine/report.html")],
)
def test_the_commands_of_the_page_run(page, written, tmp_path, monkeypatch, capsys):
    """On few performances, for two epochs and one target."""
    pytest.importorskip("jinja2", reason="the extra `report` is not installed")
    monkeypatch.chdir(tmp_path)
    ran = []
    for program, *words in lines_of(page):
        if program == "mag2":
            assert command.main(words) == 0, words
            ran.append(words[0])
        elif words[0] == "examples/table4.py":
            out = words.index("--out")
            run_table("table4", Path(words[out + 1]), *words[1:out], "--epochs", "2", "--targets", "TES")
    assert ran
    assert (tmp_path / written).is_file()
    if page == "report.md":
        assert (tmp_path / "scores.html").is_file()
    else:
        assert "Left out" not in (tmp_path / written).read_text(encoding="utf-8")


def test_the_page_names_every_figure():
    text = (DOCS / "figures.md").read_text(encoding="utf-8")
    assert [name for name in re.findall(r"^\| `([\w-]+)`", text, re.MULTILINE)] == list(FIGURES)
