"""What every test shares: one thread, a seed, and the account of what the golden files hold."""

import gc
import os

# Before torch is imported, for the processes that tests start: their threads would wait for each other too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from tests.golden import compared, golden, names, opened

# Arrays that no test compares, by file, and why. Anything else that is left over fails a run of the whole suite.
UNCOMPARED: dict[str, list[str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    # More threads than cores make small tensors wait for each other.
    torch.set_num_threads(1)


def pytest_collection_finish(session: pytest.Session) -> None:
    # Millions of objects of the libraries live until the end: a full collection would look at each of them every time.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request):
    """The CPU, and the GPU where there is one."""
    return request.param


def unaccounted() -> list[str]:
    """Golden files that no test opened, and arrays that none compared, without reason."""
    files = [f"{name} (never opened)" for name in names("*") if name not in opened]
    arrays = [
        f"{name}:{array}"
        for name in sorted(opened)
        for array in opened[name].uncompared()
        if array not in UNCOMPARED.get(name, ())
    ]
    return files + arrays


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    """Of pytest-xdist: add what a process compared to what the others did."""
    for name, keys in getattr(node, "workeroutput", {}).get("compared", {}).items():
        golden(name)
        compared.setdefault(name, set()).update(keys)


def whole_suite(config: pytest.Config) -> bool:
    marked = config.option.markexpr != "not slow"  # as pyproject.toml has it
    chosen = config.option.keyword or marked or config.option.collectonly
    return not chosen and config.args == config.getini("testpaths")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if hasattr(session.config, "workeroutput"):  # one process of several: the account is the first one's
        session.config.workeroutput["compared"] = {name: sorted(compared.get(name, ())) for name in opened}
        return
    if exitstatus == 0 and whole_suite(session.config) and unaccounted():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    if whole_suite(config):
        excepted = sum(len(arrays) for name, arrays in UNCOMPARED.items() if name in opened)
        left = unaccounted()
        terminalreporter.write_line(
            f"golden files: {len(opened)} compared, {excepted} arrays excepted with a reason, "
            f"{len(left)} left over{': ' + ', '.join(left[:5]) if left else ''}"
        )
