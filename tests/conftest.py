"""What every test shares: one thread, a seed, and a count of what the golden files still hold uncompared."""

import pytest
import torch

from tests.golden import names, opened


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    """Say which golden arrays no test compared, when the whole suite ran."""
    if config.option.keyword or config.option.markexpr or config.args != config.getini("testpaths"):
        return
    never_opened = sorted(set(names("*")) - set(opened))
    left = {name: arrays for name in sorted(opened) if (arrays := opened[name].uncompared())}
    total = sum(map(len, left.values()))
    terminalreporter.write_line(
        f"golden files: {len(opened)} compared, {len(never_opened)} not opened {never_opened or ''}, "
        f"{total} arrays not compared {left or ''}"
    )
