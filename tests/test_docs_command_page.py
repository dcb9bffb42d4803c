"""The commands of the page on the command run as they stand there, in their order."""

import re
import shlex
from pathlib import Path

import pytest

from mag2 import command
from mag2.training import options, request
from tests.few import few_performances

PAGE = Path(__file__).parents[1] / "docs" / "command.md"
TINY = {"train": 16, "test": 12, "length": (6, 10), "clips": 8}


def test_the_commands_of_the_page_run(tmp_path, monkeypatch, capsys):
    """On fewer performances and for one epoch; what is written and printed is as the page has it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(request, "SIMULATED_EPOCHS", 1)
    monkeypatch.setattr(options, "_default_workers", lambda: 1)
    few_performances(monkeypatch, **TINY)
    lines = [
        line for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()
    ]
    assert len(lines) > 7
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "mag2"
        assert command.main(words) == 0, line
        assert capsys.readouterr().out, line
    assert (tmp_path / "scores.json").is_file()
    assert (tmp_path / "rg-texts" / "texts.json").is_file()


@pytest.mark.parametrize("name", ["train", "score", "texts", "extract", "report", "figures", "datasets", "models"])
def test_the_page_names_every_command(name):
    assert f"mag2 {name}" in PAGE.read_text()
