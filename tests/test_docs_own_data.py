"""The Python of docs/own-data.md runs as it stands there, and each road is short."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "own-data.md").read_text(encoding="utf-8")
EXAMPLE, *ROADS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs blocks, one after the other, in an empty folder; gives what they print and define."""
    monkeypatch.chdir(tmp_path)
    names = {}

    def run(*blocks):
        for block in blocks:
            exec(compile(block, "own-data.md", "exec"), names)
        return capsys.readouterr().out, names

    return run


@pytest.mark.filterwarnings("error")
def test_the_example_trains_plain_and_guided_on_three_folds(run):
    printed, names = run(EXAMPLE)
    assert len(names["actions"]) == names["texts"].visual.shape[0] == 7
    assert len(names["grades"]) == names["texts"].n_grades == 5
    assert "Dataset(vault, score, simulated" in printed
    results = re.findall(r"^(plain|guided) CrossValidation\(3 folds, simulated data; Spearman -?\d", printed, re.M)
    assert results == ["plain", "guided"]
    assert len(names["result"].predictions) == 14
    owner = dict(zip([f"video-{number}" for number in range(14)], names["gymnasts"], strict=True))
    owners = [{owner[name] for name in fold.names} for fold in names["result"].folds]
    assert sum(map(len, owners)) == 7  # no gymnast in two folds


@pytest.mark.filterwarnings("error")
def test_every_road_runs_in_the_order_of_the_page(run):
    printed, names = run(EXAMPLE, *ROADS)
    assert "a video of a handspring / a stuck performance" in printed
    assert "{'visual': 32, 'audio': 12}" in printed
    assert names["points"].shape == (4,)
    assert names["loss"].requires_grad


@pytest.mark.parametrize("block", ROADS)
def test_a_road_is_ten_lines_at_most(block):
    assert 1 <= len([line for line in block.splitlines() if line.strip()]) <= 10


def test_a_road_needs_only_what_the_page_has_shown():
    assert len(ROADS) >= 6
    for word in ("TextFeatures.encode", "Dataset.from_arrays", "cross_validate", "fit(", "DataLoader("):
        assert any(word in block for block in ROADS)
