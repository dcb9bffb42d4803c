"""The arithmetic of the costs of a table, and that the command measures."""

import sys

import cell_cost
import pytest


@pytest.mark.parametrize(
    ("cells", "workers", "hours"),
    [
        ([1, 2, 3], 1, 6),
        ([1, 2, 3], 2, 3),
        ([5, 1, 1, 1], 2, 5),  # the longest cell is the limit
        ([5, 1, 1, 1], 99, 5),
        ([2, 2, 2], 2, 4),
    ],
)
def test_a_worker_takes_the_longest_cell_that_waits(cells, workers, hours):
    assert cell_cost.makespan(cells, workers) == hours


def test_the_command_measures_and_multiplies(monkeypatch, capsys):
    arguments = ["--rows", "1", "--videos", "8", "4", "--measured", "8", "--seeds", "2", "--workers", "1", "14"]
    monkeypatch.setattr(sys, "argv", ["cell_cost.py", *arguments])
    cell_cost.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("1    CoFInAl")
    assert lines[3].startswith("14 cells, ")
    longest = float(lines[2].split()[-1])
    assert longest >= float(lines[2].split()[-2])
