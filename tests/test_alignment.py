"""A similarity from outside: weights for the graph, and names for clips with their measured accuracy."""

import csv
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mag2 import ActionGraphGuidance, TextFeatures
from mag2.alignment import Timeline, clip_text_similarity, edge_weights, name_actions
from mag2.data import simulate


@pytest.fixture(scope="module")
def aligned():
    """Simulated clips in the space of their texts, and what was planted in them."""
    texts = TextFeatures.for_sport("figure_skating")
    widths = {"visual": 400, "audio": 16}
    simulation = simulate(texts, train=2, test=12, length=(30, 40), widths=widths, aligned=True)
    test = simulation.dataset("TES", clips=40).test
    clips = test.batch(range(len(test))).visual @ simulation.visual_map
    mask = torch.arange(40) < torch.as_tensor(test.lengths)[:, None]
    return texts, clips, mask, simulation.planted_actions("test", clips=40)


def test_where_clips_and_texts_share_a_space_most_planted_actions_are_named(aligned):
    texts, clips, mask, planted = aligned
    similarity = clip_text_similarity(clips, texts.visual)
    timeline = name_actions(similarity, texts.prompts, planted=planted, clip_mask=mask)
    assert timeline.accuracy > 0.5
    assert timeline.accuracy == hits(timeline.action, planted) / int((planted >= 0).sum())


def test_texts_of_other_actions_name_nothing(aligned):
    """The control of the claim above: permuted texts name the planted action as chance does."""
    texts, clips, mask, planted = aligned
    similarity = clip_text_similarity(clips, texts.controlled("permuted_texts").visual)
    assert name_actions(similarity, texts.prompts, planted=planted, clip_mask=mask).accuracy < 0.15


def test_weights_point_at_what_is_planted_and_guidance_takes_them(aligned):
    texts, clips, mask, planted = aligned
    weight = edge_weights(clip_text_similarity(clips, texts.visual))
    known = planted >= 0
    there = weight[known].gather(-1, planted[known][:, None])
    assert there.mean() > 5 * weight[known].mean()
    guide = ActionGraphGuidance(16, texts.visual).eval()
    features = torch.randn(*clips.shape[:2], 16)
    guided = guide(features, edge_weight=weight, clip_mask=mask)
    assert not torch.allclose(guided, guide(features, clip_mask=mask))


def test_similarity_is_the_cosine_and_centring_leaves_out_what_texts_share():
    clips, texts = torch.randn(2, 3, 5), torch.randn(4, 5)
    plain = clip_text_similarity(clips, texts, centre=False)
    torch.testing.assert_close(plain, F.cosine_similarity(clips[:, :, None], texts, dim=-1))
    unit = F.normalize(texts, dim=1)
    centred = clip_text_similarity(clips, texts)
    torch.testing.assert_close(centred, F.cosine_similarity(clips[:, :, None], unit - unit.mean(dim=0), dim=-1))
    assert centred.abs().max() <= 1 + 1e-6


def test_similarity_has_no_use_for_lengths():
    clips, texts = torch.randn(2, 3, 5), torch.randn(4, 5)
    scaled = clip_text_similarity(clips * torch.rand(2, 3, 1) * 9, texts * torch.tensor([[0.1], [2], [3], [40]]))
    torch.testing.assert_close(scaled, clip_text_similarity(clips, texts))


def test_texts_that_are_all_alike_and_empty_clips_resemble_nothing():
    alike = torch.randn(1, 64).repeat(5, 1)
    assert clip_text_similarity(torch.randn(2, 3, 64), alike).abs().max() < 0.05
    assert not clip_text_similarity(torch.zeros(1, 2, 64), torch.randn(5, 64)).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_half_precision_centres_in_full(dtype):
    """Texts within cosine 0.99 of each other still tell clips apart."""
    texts = (4 + 0.2 * torch.randn(6, 64)).to(dtype)
    clips = (texts - texts.mean(dim=0))[None]
    similarity = clip_text_similarity(clips, texts)
    assert similarity.dtype == dtype
    assert torch.equal(similarity[0].argmax(dim=-1), torch.arange(6))


@settings(deadline=None, max_examples=40)
@given(
    n_texts=st.integers(1, 9),
    temperature=st.floats(0.01, 10),
    scale=st.none() | st.floats(0.1, 50),
    top_k=st.none() | st.integers(1, 9),
    seed=st.integers(0, 2**31 - 1),
)
def test_weights_are_a_softmax_over_the_kept_texts_that_sums_to_the_scale(n_texts, temperature, scale, top_k, seed):
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.randn(2, 3, n_texts, generator=generator, dtype=torch.float64)
    top_k = top_k and min(top_k, n_texts)
    weight = edge_weights(similarity, temperature=temperature, top_k=top_k, scale=scale)
    for i, clip in enumerate(similarity.flatten(0, 1).tolist()):
        kept = sorted(clip)[-(top_k or n_texts) :]
        bottom = sum(math.exp((value - max(clip)) / temperature) for value in kept)
        expected = [
            (scale or n_texts) * math.exp((value - max(clip)) / temperature) / bottom if value in kept else 0.0
            for value in clip
        ]
        torch.testing.assert_close(weight.flatten(0, 1)[i], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_the_same_similarity_everywhere_is_the_complete_graph(value):
    weight = edge_weights(torch.full((2, 4, 5), value))
    torch.testing.assert_close(weight, torch.ones(2, 4, 5))
    guide = ActionGraphGuidance(8).eval()
    clips, texts = torch.randn(2, 4, 8), torch.randn(5, 8)
    assert (guide(clips, texts, edge_weight=weight) - guide(clips, texts)).abs().max() < 1e-5


def test_similarities_of_half_precision_do_not_overflow():
    weights = edge_weights(torch.tensor([[[70.0, 60.0, 70.0]]]).half(), temperature=0.001)
    torch.testing.assert_close(weights.float(), torch.tensor([[[1.5, 0.0, 1.5]]]))


@pytest.mark.parametrize("settings", [{"temperature": float("nan")}, {"scale": float("nan")}, {"temperature": 0}])
def test_settings_are_numbers_above_0(settings):
    with pytest.raises(ValueError, match="temperature and scale want numbers above 0"):
        edge_weights(torch.zeros(1, 1, 3), **settings)


def test_equal_similarities_never_keep_more_than_top_k():
    assert ((edge_weights(torch.zeros(2, 3, 7), top_k=2) > 0).sum(dim=-1) == 2).all()


def test_gradients_flow_through_the_weights():
    similarity = torch.randn(1, 2, 4, requires_grad=True)
    ActionGraphGuidance(8)(
        torch.randn(1, 2, 8), torch.randn(4, 8), edge_weight=edge_weights(similarity, top_k=3)
    ).sum().backward()
    assert similarity.grad.isfinite().all()
    assert similarity.grad.any()


def test_a_timeline_names_every_real_clip():
    timeline = small_timeline()
    assert timeline.names == [["b", "a", "c"], ["c", None, None]]
    assert timeline.action.tolist() == [[1, 0, 2], [2, -1, -1]]
    torch.testing.assert_close(timeline.weight[0], torch.tensor([0.9, 0.7, 0.6]))
    assert timeline.weight[1, 1:].isnan().all()


def test_accuracy_counts_planted_actions_of_real_clips_alone():
    """Of b, a, -, c three are planted and two of these named; a planted action in padding does not count."""
    assert small_timeline(planted=[[1, 1, -1], [2, 0, -1]]).accuracy == pytest.approx(2 / 3)
    assert small_timeline(planted=[[1, 1, -1], [2, 0, -1]]).verdict == "top-1 accuracy 0.67 (chance 0.33)"


@pytest.mark.parametrize("planted", [None, [[-1, -1, -1], [-1, 0, -1]]])
def test_without_planted_actions_the_accuracy_is_unknown_and_says_so(planted):
    with pytest.warns(UserWarning, match="unknown") as caught:
        timeline = name_actions(SIMILARITY, "abc", planted=as_planted(planted), clip_mask=MASK)
    assert timeline.accuracy is None
    assert timeline.verdict == "accuracy unknown"
    assert caught[0].filename == __file__
    assert "\n" not in str(caught[0].message)


def test_a_measured_accuracy_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        name_actions(SIMILARITY, ["a", "b", "c"], planted=as_planted([[1, 1, -1], [2, 0, -1]]))


def test_prompts_give_the_names():
    texts = TextFeatures.for_sport("rhythmic_gymnastics")
    similarity = torch.eye(32)[None]
    timeline = name_actions(similarity, texts.prompts, planted=torch.arange(32)[None])
    assert timeline.accuracy == 1
    assert timeline.names[0] == list(texts.prompts.visual)


def test_the_table_of_a_timeline_has_a_row_for_every_real_clip(tmp_path):
    path = tmp_path / "timeline.csv"
    small_timeline(planted=[[1, 1, -1], [2, 0, -1]]).to_csv(path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], row["clip"], row["action"], row["planted"]) for row in rows] == [
        ("0", "0", "b", "b"),
        ("0", "1", "a", "b"),
        ("0", "2", "c", ""),
        ("1", "0", "c", "c"),
    ]
    assert [float(row["weight"]) for row in rows] == pytest.approx([0.9, 0.7, 0.6, 0.8])
    assert {float(row["accuracy"]) for row in rows} == {2 / 3}
    assert {row["data"] for row in rows} == {""}
    small_timeline().to_csv(str(path))
    with path.open(newline="") as file:
        assert {(row["planted"], row["accuracy"]) for row in csv.DictReader(file)} == {("", "unknown")}
    assert [file.name for file in tmp_path.iterdir()] == ["timeline.csv"]


def test_a_timeline_bears_the_names_of_its_videos_and_of_its_data(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.warns(UserWarning, match="unknown"):
        timeline = name_actions(SIMILARITY, "abc", clip_mask=MASK, videos=["first", "second"], data="SIMULATED X")
    timeline.to_csv(tmp_path / "timeline.csv")
    with (tmp_path / "timeline.csv").open(newline="") as file:
        told = [(row["video"], row["data"]) for row in csv.DictReader(file)]
    assert told == [("first", "SIMULATED X")] * 3 + [("second", "SIMULATED X")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("matplotlib").rcParams, "svg.fonttype", "none")
        timeline.plot(tmp_path / "timeline.svg", video=1)
    assert "SIMULATED X, video second" in (tmp_path / "timeline.svg").read_text()


@pytest.mark.parametrize(
    ("planted", "title"), [(None, "accuracy unknown"), ([[1, 1, -1], [2, 0, -1]], "top-1 accuracy 0.67")]
)
def test_every_plot_bears_its_accuracy(tmp_path, planted, title):
    pytest.importorskip("matplotlib")
    path = tmp_path / "timeline.svg"
    timeline = small_timeline(planted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("matplotlib").rcParams, "svg.fonttype", "none")
        timeline.plot(path)
    drawn = path.read_text()
    assert title in drawn
    assert ("planted" in drawn) == (planted is not None)
    assert [file.name for file in tmp_path.iterdir()] == ["timeline.svg"]
    timeline.plot(tmp_path / "second.png", video=1)
    assert (tmp_path / "second.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_plot_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'mag2\[figures\]'"):
        small_timeline().plot(tmp_path / "timeline.png")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: clip_text_similarity(torch.zeros(2, 3), torch.zeros(4, 3)), r"got \(2, 3\) and \(4, 3\)"),
        (lambda: clip_text_similarity(torch.zeros(1, 2, 3), torch.zeros(4, 5)), "want one width"),
        (lambda: edge_weights(torch.zeros(3, 4)), r"similarity wants shape \(B, T, M\), got \(3, 4\)"),
        (lambda: edge_weights(torch.zeros(1, 3, 0)), r"similarity wants shape \(B, T, M\)"),
        (lambda: edge_weights(torch.zeros(1, 3, 4), temperature=0), "numbers above 0, got 0 and 4"),
        (lambda: edge_weights(torch.zeros(1, 3, 4), scale=-1.0), "numbers above 0, got 0.05 and -1.0"),
        (lambda: edge_weights(torch.zeros(1, 3, 4), top_k=5), "top_k wants 1 to 4, the number of texts, got 5"),
        (lambda: edge_weights(torch.zeros(1, 3, 4), top_k=0), "top_k wants 1 to 4"),
        (lambda: name_actions(torch.zeros(1, 3, 4), "abc"), r"shape \(B, T, 3\), one for each name, got \(1, 3, 4\)"),
        (lambda: name_actions(torch.full((1, 3, 3), torch.nan), "abc"), "finite numbers"),
        (lambda: name_actions(SIMILARITY, "abc", planted=torch.zeros(2, 4).long()), r"planted wants shape \(2, 3\)"),
        (lambda: name_actions(SIMILARITY, "abc", clip_mask=torch.ones(3) > 0), r"clip_mask wants shape \(2, 3\)"),
        (lambda: name_actions(SIMILARITY, "abc", planted=torch.full((2, 3), 3)), "planted wants actions 0 to 2, or -1"),
        (lambda: name_actions(SIMILARITY, "abc", videos=["one"]), "videos wants 2 names, one for each video, got 1"),
        (lambda: small_timeline().plot("none.png", video=2), "there are 2 videos, 0 to 1, got 2"),
    ],
)
def test_bad_input_gets_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


MASK = torch.tensor([[True, True, True], [True, False, False]])
SIMILARITY = torch.tensor(
    [
        [[0.1, 0.9, 0.2], [0.7, 0.1, 0.0], [0.0, 0.1, 0.6]],
        [[0.1, 0.2, 0.8], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]],
    ]
)


def as_planted(planted):
    return None if planted is None else torch.tensor(planted)


def small_timeline(planted=None) -> Timeline:
    """Two videos, of three clips and of one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return name_actions(SIMILARITY, ["a", "b", "c"], planted=as_planted(planted), clip_mask=MASK)


def hits(action, planted):
    count = 0
    for named, there in zip(action.flatten().tolist(), planted.flatten().tolist(), strict=True):
        count += there >= 0 and named == there
    return count
