"""A real Ray cluster of two nodes on this machine gives the table of a sequential run, whatever is lost on the way."""

import contextlib
import csv
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from mag2.training.cells import Cell
from mag2.training.grid import run_grid
from mag2.training.shared_folder import marked, unseen
from mag2.training.target import Target

ROOT = Path(__file__).parents[1]
SCRIPT = """
import sys
sys.path[:0] = [".", "examples"]
import table4
from mag2.training import command
from tests.few import few_performances
few_performances(train=48, test=12, clips=6)
if __name__ == "__main__":
    sys.exit(command.main(table4.TABLE4, sys.argv[1:]))
"""
ROWS = ["--rows", "1", "3", "10", "--targets", "TES", "PCS", "--device", "cpu"]
CELLS = [Cell("a", Target("", "TES"), seed) for seed in range(6)]


def descendants(pid):
    """The processes below one, with their command lines."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            if folder.name.isdigit():
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    found, grown = {pid}, True
    while grown:
        new = {child for child, parent in parents.items() if parent in found} - found
        found, grown = found | new, bool(new)
    return {each: names.get(each, "") for each in found}


class Cluster:
    """Two nodes, each started by `ray start`, as on two machines."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.nodes = []

    def start(self, *arguments, cores=1, before=()):
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        command += [f"--num-cpus={cores}", "--object-store-memory=80000000", *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
        log = Path(self.folder, f"node-{len(self.nodes)}.log")
        with log.open("w") as file:
            node = subprocess.Popen(
                [*before, *command], env=environment, stdout=file, stderr=file, start_new_session=True
            )
        self.nodes.append(node)
        for _ in range(600):
            if "block forever" in log.read_text():
                return node
            time.sleep(0.2)
        raise AssertionError(f"the node did not start: {log.read_text()[-2000:]}")

    def wait_for(self, count):
        code = (
            f"import ray, time; ray.init({self.address!r}, log_to_driver=False)\n"
            f"while sum(node['Alive'] for node in ray.nodes()) != {count}: time.sleep(0.5)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)

    @staticmethod
    def stop(node):
        """End a node at once, as when its machine loses power."""
        for pid in sorted(descendants(node.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()


@pytest.fixture(scope="module")
def token():
    """What a node of a recent Ray asks every process for: one of this cluster alone, and none of the user's."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        path = Path(folder, "token")
        path.touch(0o600)
        path.write_text(secrets.token_hex(32))
        patched.setenv("RAY_AUTH_MODE", "token")
        patched.setenv("RAY_AUTH_TOKEN_PATH", str(path))
        yield


@pytest.fixture
def cluster(token):
    pytest.importorskip("ray", reason="the extra `clusters` is not installed")
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:  # short: sockets
        made = Cluster(folder)
        try:
            made.start("--head", f"--port={made.port}", f"--temp-dir={folder}", "--include-dashboard=false")
            yield made
        finally:
            for node in reversed(made.nodes):
                made.stop(node)


def second(cluster, **options):
    node = cluster.start(f"--address={cluster.address}", '--resources={"second": 1}', **options)
    cluster.wait_for(2)
    return node


def table(script, out, *arguments, wait=True):
    command = [sys.executable, str(script), *ROWS, *arguments, "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if not wait:
        return process
    output, err = process.communicate()
    assert process.returncode == 0, err[-2000:]
    return output


def numbers(out):
    with (out / "results.csv").open() as file:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    return rows, (out / "table4.md").read_text()


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "small_table4.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_nodes_give_the_sequential_table_also_when_a_worker_and_a_node_are_lost(cluster, script, tmp_path):
    node = second(cluster)
    table(script, tmp_path / "sequential", "--epochs", "40", "--workers", "1")
    table(script, tmp_path / "cluster", "--epochs", "40", "--ray", cluster.address)
    assert numbers(tmp_path / "cluster") == numbers(tmp_path / "sequential")

    process = table(script, tmp_path / "lost", "--epochs", "40", "--ray", cluster.address, wait=False)
    jobs = {}
    for _ in range(600):  # until both nodes train
        jobs = {
            each: [pid for pid, name in descendants(each.pid).items() if "ray::_run_job" in name]
            for each in cluster.nodes
        }
        trained = list((tmp_path / "lost").rglob("metrics.jsonl"))
        if all(jobs.values()) and len(trained) >= 2 and all(path.stat().st_size for path in trained):
            break
        time.sleep(0.1)
    assert all(jobs.values()), "a node trains nothing"
    os.kill(jobs[cluster.nodes[0]][0], signal.SIGKILL)  # a worker
    time.sleep(2)
    assert process.poll() is None, "it ended before the node was stopped"
    cluster.stop(node)
    cluster.nodes.remove(node)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-2000:]
    assert numbers(tmp_path / "lost") == numbers(tmp_path / "sequential")


def work(cell, folder, tick):
    (folder / "began").write_text(socket.gethostname())
    time.sleep(20 if cell.seed == 0 else 0.2)
    (folder / "ended").touch()
    tick()
    return {"spearman": float(cell.seed), "home": os.getcwd()}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_results_arrive_as_they_finish(cluster, tmp_path):
    second(cluster)
    arrived = []
    for outcome in run_grid(CELLS, work, tmp_path / "out", ray=cluster.address):
        assert outcome.error is None
        assert outcome.result["home"] == os.getcwd(), "relative paths mean what they mean here"
        arrived.append(outcome.cell.seed)
        if len(arrived) == 5:
            assert not (CELLS[0].folder(tmp_path / "out") / "ended").exists()
    assert arrived[-1] == 0
    assert sorted(arrived) == list(range(6))
    assert not list((tmp_path / "out").glob(".shared-*"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_folder_that_the_nodes_do_not_share_is_noticed_at_once(cluster, tmp_path):
    apart = tmp_path / "apart"
    apart.mkdir()
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("root alone can hide a folder from a process")
    hide = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {apart} && exec "$@"', "sh"]
    second(cluster, before=hide)
    started = time.monotonic()
    with pytest.raises(
        ValueError, match=f"does not see the folder {apart / 'out'} of the machine that started the run"
    ):
        list(run_grid(CELLS, work, apart / "out", ray=cluster.address))
    assert not list(apart.rglob("began")), f"nothing was trained in {time.monotonic() - started:.0f} s"
    with pytest.raises(ValueError, match="no machine of the cluster has 99 cores for a training"):
        list(run_grid(CELLS, work, tmp_path / "out", ray=cluster.address, threads=99))


def test_a_mark_is_seen_and_goes(tmp_path):
    (tmp_path / ".shared-of-a-killed-run").touch()
    with marked(tmp_path) as mark:
        assert unseen(mark) is None
        assert [path.name for path in tmp_path.iterdir()] == [mark.name]
        assert "\n" not in unseen(tmp_path / "elsewhere" / mark.name)
        assert f"does not see the folder {tmp_path / 'elsewhere'}" in unseen(tmp_path / "elsewhere" / mark.name)
    assert not list(tmp_path.iterdir())
