"""What the pages name exists: commands with their options, make targets, files, and links between pages."""

import re
import runpy
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
CODE = re.compile(r"```(?:bash|sh|shell|text)?\n(.*?)```|`([^`\n]+)`|^ {4}(\S.*)$", re.MULTILINE | re.DOTALL)
MADE = {"build/site/index.html"}  # what a command writes


def code_of(page: Path) -> list[str]:
    """The lines of shell in a page, in blocks and in the text."""
    text = re.sub(r"```python\n.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"`([^`\n]*)\n([^`\n]*)`", r"`\1 \2`", text)  # code that a line break splits
    found = [next(part for part in match if part) for match in CODE.findall(text)]
    return [line.split("#")[0].strip() for block in found for line in block.replace("\\\n", " ").splitlines()]


def named_commands(page: Path) -> list[tuple[str, list[str]]]:
    """Each script or module that a page runs, with its words."""
    commands = []
    for line in code_of(page):
        match = re.match(r"(?:\S*python3? )?(examples/\w+\.py|-m [\w.]+|mag2 \w+)(.*)$", line)
        if match:
            commands.append((match[1], shlex.split(match[2])))
    return commands


@cache
def help_of(command: str) -> str:
    """What `--help` prints."""
    module = command.removeprefix("-m ")
    words = ["--help"]
    if command.startswith("mag2 "):
        module, words = "mag2", [command.split()[1], "--help"]
    before, printed = sys.argv, []
    sys.argv = [command, *words]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout.write", printed.append)
            if command.endswith(".py"):
                runpy.run_path(str(ROOT / command), run_name="__main__")
            else:
                runpy.run_module(module, run_name="__main__", alter_sys=False)
    except SystemExit as end:
        if end.code:
            pytest.fail(f"{command} --help ends with {end.code}")
    finally:
        sys.argv = before
    return "".join(printed)


OUTSIDE = {"pytest", "pip", "venv", "build", "http.server", "mkdocs", "jupytext", "tests.saved", "tests.campaign"}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_and_option_that_a_page_names_exists(page):
    for command, words in named_commands(page):
        if command.endswith(".py"):
            assert (ROOT / command).is_file(), f"{command} does not exist"
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        if options and command.removeprefix("-m ") not in OUTSIDE:
            known = help_of(command)
            for option in options:
                assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", known), f"{command} has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_make_target_that_a_page_names_exists(page):
    targets = set(re.findall(r"^([a-z]\w*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {line.split()[1] for line in code_of(page) if re.match(r"make \w+", line)}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_file_of_the_repository_that_a_page_names_exists(page):
    paths = {
        match.rstrip(".")
        for line in code_of(page)
        for match in re.findall(r"(?<![\w/<.])(?:mag2|adapters|baselines|examples|tests|docs)/[\w./*-]+", line)
    }
    named = {path.rstrip("/") for path in paths - MADE if not re.search(r"/[A-Z]+\b", path)}  # tests/saved/VERSION
    assert not {path for path in named if not list(ROOT.glob(path))}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_to_a_page_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if linked == ROOT / "docs" / "changelog.md":
            continue  # made of CHANGELOG.md when the site is built
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs, target
