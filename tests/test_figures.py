"""The figures: each from arrays and from a tiny run, the same twice, and a sentence for what a run cannot give."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `figures` is not installed")
pytest.importorskip("sklearn", reason="the extra `figures` is not installed")

from mag2.figures import FIGURES, draw_figures, draw_predicted_against_true, make_figures
from mag2.figures.embedding import embed, neighbour_agreement, thinned
from mag2.figures.predictions import score_ranges
from mag2.figures.style import SERIES, readable
from mag2.training import command
from mag2.training.dataset_providers import forget_datasets
from mag2.training.run_folder import read_run
from tests.few import few_performances

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = {"train": 16, "test": 10, "length": (6, 10), "clips": 8}
HOSTILE = "<script>alert(1)</script>$\\frac{1}$" + "x" * 300


def run_table(table, out, *arguments):
    """Run the command of a table on a tiny simulation, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        few_performances(patch, **TINY)
        spec = importlib.util.spec_from_file_location(f"{table}_figures", EXAMPLES / f"{table}.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, f"{table}_figures", module)
        spec.loader.exec_module(module)
        settings = ["--workers", "1", "--device", "cpu", "--out", str(out)]
        assert command.main(getattr(module, table.upper()), [*arguments, *settings]) == 0
    forget_datasets()
    return out


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "table4"
    arguments = [
        "--datasets",
        "FS1000",
        "--rows",
        "1",
        "10",
        "11",
        "--targets",
        "TES",
        "--epochs",
        "2",
        "--seeds",
        "0",
        "1",
        "--record",
        "1",
    ]
    return run_table("table4", out, *arguments)


@pytest.fixture(scope="module")
def made(grid):
    return make_figures(read_run(grid))


def texts_of(figure):
    from matplotlib.text import Text

    return " ".join(each.get_text() for each in figure.findobj(Text))


def test_a_run_gives_every_figure(made):
    assert not made.left_out
    assert len(made.drawings) == len(FIGURES)


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_says_its_data_seed_and_that_they_are_simulated(made, figure):
    drawing = next(each for each in made.drawings if each.name.startswith(figure))
    for text in (drawing.caption, texts_of(drawing.figure)):
        assert "Simulated FS1000" in text
        assert "TES" in text
        assert re.search(r"seed 0|2 seeds \(0, 1\)", text)
    assert re.search(r"epoch", drawing.caption) or figure == "seeds"


def test_files_are_vector_and_picture_and_their_captions_stand_in_one_page(grid, tmp_path):
    drawn = draw_figures(grid, tmp_path, figures=["predicted-against-true", "seeds"])
    assert {path.suffix for path in drawn.files} == {".svg", ".png", ".md"}
    page = (tmp_path / "figures.md").read_text()
    assert page.count("![") == 2
    assert "Simulated data" in page
    for drawing in drawn.drawings:
        assert drawing.caption in page
        assert (tmp_path / f"{drawing.name}.svg").read_text().startswith("<?xml")
        assert (tmp_path / f"{drawing.name}.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.partial"))


def test_equal_runs_give_equal_bytes(grid, made, tmp_path):
    for again in make_figures(read_run(grid)).drawings:
        first = next(each for each in made.drawings if each.name == again.name)
        assert again.encoded("svg") == first.encoded("svg"), again.name
        assert again.caption == first.caption


def test_texts_stand_against_learnable_vectors(made):
    drawing = next(each for each in made.drawings if each.name.startswith("grade-patterns"))
    shown = texts_of(drawing.figure)
    assert "MLAVL: texts" in shown
    assert "learnable vectors" in shown
    assert "after epoch 1 of 2" in drawing.caption


def test_fused_features_stand_with_and_without_the_fusion(made):
    drawing = next(each for each in made.drawings if each.name.startswith("fused-features"))
    shown = texts_of(drawing.figure)
    assert "with AVCF" in shown
    assert "without AVCF" in shown


def test_grades_bear_their_words(made):
    drawing = next(each for each in made.drawings if each.name.startswith("grade-weights"))
    shown = texts_of(drawing.figure)
    for name in ("excellent", "perfect without fitting music", "visual grades", "audio-visual grades"):
        assert name in shown


def test_best_and_worst_cases_show_their_clips(made):
    drawing = next(each for each in made.drawings if each.name.startswith("best-and-worst"))
    shown = texts_of(drawing.figure)
    assert shown.count("least error") == shown.count("greatest error") == 3
    assert any(len(axes.patches) for axes in drawing.figure.axes)


def test_what_a_run_cannot_give_is_one_sentence_each(grid):
    made = make_figures(read_run(grid), row="1", seed=0)
    said = "\n".join(made.left_out)
    assert "CoFInAl returns no weights of grades" in said
    assert "CoFInAl has no fusion" in said
    assert len(made.drawings) + len(made.left_out) == len(FIGURES)


def test_a_folder_of_an_earlier_version_gives_its_curves_and_says_what_is_missing():
    made = make_figures(read_run(Path(__file__).parent / "saved" / "0.1.0" / "table"))
    assert [each.name for each in made.drawings] == ["learning-curves_FS1000_TES"]
    assert len(made.left_out) == len(FIGURES) - 1
    assert any("one seed has no spread" in sentence for sentence in made.left_out)
    assert any("version 0.1 kept none" in sentence for sentence in made.left_out)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"figures": ["pie"]}, "unknown figure 'pie'; there are learning-curves"),
        ({"formats": ["gif"]}, "figures are written as svg, pdf, png; got 'gif'"),
        ({"formats": []}, "got none"),
        ({"row": "99"}, "no results of row 99; there are 1, CoFInAl"),
        ({"target": "PCS"}, "no results of target PCS; there are FS1000/TES, TES"),
        ({"seed": 7}, "no results of seed 7; there are 0, 1"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_writes_nothing(grid, tmp_path, arguments, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        draw_figures(grid, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_names_of_videos_are_no_formulas_and_no_long_lines():
    assert readable(HOSTILE, 32).startswith("<script>alert(1)</sc")
    assert len(readable(HOSTILE, 32)) == 32
    assert readable("a\nb\x1b[31m") == "a·b·[31m"
    score = np.linspace(0, 9, 10)
    figure = draw_predicted_against_true(score, score[::-1], footer=HOSTILE, unit=HOSTILE)
    from mag2.figures import Drawing

    svg = Drawing("x", "x", "x", figure).encoded("svg").decode()
    assert "<script" not in svg


def test_series_differ_without_colour():
    assert len({marker for _, marker, _ in SERIES}) == len(SERIES)
    assert len({str(dash) for _, _, dash in SERIES}) == len(SERIES)


def test_two_groups_stay_apart_in_the_plane():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (20, 8)), rng.normal(20, 1, (20, 8))])
    plane = embed(features)
    assert np.array_equal(plane, embed(features))
    centres = plane[:20].mean(axis=0), plane[20:].mean(axis=0)
    assert np.linalg.norm(centres[0] - centres[1]) > 3 * plane[:20].std(axis=0).max()
    assert embed(np.ones((9, 4))).shape == (9, 2)
    assert embed(np.zeros((2, 1))).shape == (2, 2)


def test_neighbours_agree_where_the_score_is_in_the_features():
    rng = np.random.default_rng(0)
    score = rng.normal(size=60)
    assert neighbour_agreement(score[:, None] * np.ones(3), score) > 0.95
    without = [neighbour_agreement(rng.normal(size=(60, 3)), score) for _ in range(40)]
    assert abs(np.mean(without)) < 0.15
    assert np.isnan(neighbour_agreement(np.ones((3, 2)), score[:3]))


def test_ranges_hold_likewise_many_and_thinning_keeps_both_ends():
    score = np.arange(100.0)
    borders = score_ranges(score)
    assert borders.tolist() == pytest.approx([0, 19.8, 39.6, 59.4, 79.2, 99])
    assert score_ranges(np.array([1.0, 1, 1, 1, 2])).tolist() == pytest.approx([1, 1.2, 2])
    kept = thinned(score, 10)
    assert len(kept) == 10
    assert {0, 99} <= set(kept.tolist())
