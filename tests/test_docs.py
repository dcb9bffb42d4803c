"""The pages in docs: the tests that they name exist."""

import re
from pathlib import Path

from tests.test_training_steps import CASES

TESTS = Path(__file__).parent
RELEASED = (TESTS.parent / "docs" / "released.md").read_text(encoding="utf-8")
# Where a name without a file is looked up; the page says so.
FILES = ("test_mlavl.py", "test_triplet.py", *(path.name for path in TESTS.glob("test_baseline_*.py")))


def names_in(file: str) -> list[str]:
    return re.findall(r"^def (test_\w+)", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_test_that_the_page_on_released_code_names_exists_once():
    names = re.findall(r"`(?:(test_\w+\.py)::)?(test_\w+)`", RELEASED)
    assert len(names) > 50
    for file, name in names:
        found = [each for each in ([file] if file else [*FILES, "test_training_steps.py"]) if name in names_in(each)]
        assert len(found) == 1, f"{name} is in {found or 'no file'}"


def test_every_layout_of_the_page_on_data_has_its_test():
    page = (TESTS.parent / "docs" / "data.md").read_text(encoding="utf-8")
    names = re.findall(r"`(?:(test_\w+\.py)::)?(test_\w+)`", page)
    assert len(names) == 5
    assert all(name in names_in(file or "test_data_layouts.py") for file, name in names)


def test_every_case_of_the_training_steps_has_its_cell():
    assert set(re.findall(r"`\[(\w+)\]`", RELEASED)) == set(CASES)
