"""MAG2: the closed form is the graph, at any size, in value and gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import SAGEConv

from mag2 import ActionGraphGuidance
from mag2.guidance import action_graph
from tests.golden import golden, names


@pytest.mark.parametrize("case", names("mag2_graph_*"))
def test_guidance_is_the_released_graph_module(case):
    g = golden(case)
    guide = ActionGraphGuidance.from_released(g.state_dict, **g.args)
    clips, texts = g.input("clips").requires_grad_(), g.input("texts").requires_grad_()
    assert guide.released
    assert not guide.training

    out_clips, out_texts = guide.nodes(clips[None], texts)
    g.check("out/clips", out_clips[0])
    g.check("out/texts", out_texts)
    out_clips = guide(clips[None], texts)
    g.check("out/clips", out_clips[0])
    out_clips.square().sum().backward()
    for name, tensor in {"clips": clips, "texts": texts, **dict(guide.named_parameters())}.items():
        g.check(f"grad/{name}", tensor.grad)
    assert not g.uncompared()


@pytest.mark.parametrize("case", names("mag2_graph_*"))
def test_the_action_graph_has_the_released_edges(case):
    g = golden(case)
    ours = action_graph(g.meta["T"], g.meta["M"])
    theirs = g.input("edge_index").long()
    assert set(map(tuple, ours.T.tolist())) == set(map(tuple, theirs.T.tolist()))


graphs = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "clips": st.integers(1, 9),
        "texts": st.integers(1, 7),
        "dim": st.sampled_from([2, 4, 6]),
        "seed": st.integers(0, 2**31 - 1),
    }
)


@settings(deadline=None, max_examples=60)
@given(graphs, st.booleans())
def test_closed_form_is_message_passing_in_value_and_gradient(graph, masked):
    guide, clips, texts, mask = drawn(graph, masked)
    edges = action_graph(clips.shape[1], len(texts))
    inputs = [clips, texts, *guide.parameters()]

    closed = guide(clips, texts, clip_mask=mask)
    passed = guide(clips, texts, clip_mask=mask, edge_index=edges)
    real = torch.ones(clips.shape[:2], dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(closed[real], passed[real])
    for ours, theirs in zip(gradients(closed, real, inputs), gradients(passed, real, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


@settings(deadline=None, max_examples=30)
@given(graphs)
def test_padding_that_is_masked_changes_nothing(graph):
    guide, clips, texts, _ = drawn(graph, masked=False)
    junk = torch.full((len(clips), 2, guide.dim), 7.0, dtype=clips.dtype)
    mask = torch.ones(len(clips), clips.shape[1] + 2, dtype=torch.bool)
    mask[:, -2:] = False
    padded = guide(torch.cat([clips, junk], dim=1), texts, clip_mask=mask)
    torch.testing.assert_close(padded[:, :-2], guide(clips, texts))


@settings(deadline=None, max_examples=30)
@given(graphs, st.booleans())
def test_message_passing_is_a_loop_over_the_videos(graph, masked):
    """Any other edge_index: the batch as one graph equals PyG called for every video."""
    guide, clips, texts, mask = drawn(graph, masked)
    n_nodes = clips.shape[1] + len(texts)
    generator = torch.Generator().manual_seed(graph["seed"])
    edges = torch.randint(n_nodes, (2, 3 * n_nodes), generator=generator)
    together = guide(clips, texts, edge_index=edges, clip_mask=mask)
    for number, video in enumerate(clips):
        kept = edges
        if mask is not None:
            real = torch.cat([mask[number], torch.ones(len(texts), dtype=torch.bool)])
            kept = edges[:, real[edges[0]]]
        rows = guide.conv2(guide.conv1(torch.cat([video, texts]), kept).relu(), kept)
        torch.testing.assert_close(together[number], rows[: clips.shape[1]])


@pytest.mark.parametrize("convolution", ["gcn", "gat", SAGEConv])
def test_another_convolution_runs_on_the_same_graph(convolution):
    torch.manual_seed(0)
    guide = ActionGraphGuidance(8, torch.randn(5, 6), convolution=convolution).eval()
    clips = torch.randn(3, 4, 8)
    guided = guide(clips)
    assert guided.shape == clips.shape
    torch.testing.assert_close(guided[1:2], guide(clips[1:2]))


def test_a_custom_sage_agrees_with_the_closed_form():
    torch.manual_seed(0)
    closed = ActionGraphGuidance(8, convolution="sage").eval()
    passed = ActionGraphGuidance(8, convolution=SAGEConv).eval()
    passed.load_state_dict(closed.state_dict())
    clips, texts = torch.randn(2, 5, 8), torch.randn(3, 8)
    torch.testing.assert_close(closed(clips, texts), passed(clips, texts))


def test_texts_enter_the_complete_graph_as_a_constant():
    """Design: every clip hears the mean of all texts, so their order does not matter."""
    torch.manual_seed(0)
    guide = ActionGraphGuidance(16).eval()
    clips, texts = torch.randn(2, 7, 16), torch.randn(9, 16)
    torch.testing.assert_close(guide(clips, texts), guide(clips, texts[torch.randperm(9)]), atol=1e-5, rtol=0)


def test_owned_texts_travel_with_the_state():
    torch.manual_seed(0)
    guide, clips = ActionGraphGuidance(8, torch.randn(5, 12)).eval(), torch.randn(2, 4, 8)
    other = ActionGraphGuidance(8, torch.zeros(5, 12)).eval()
    other.load_state_dict(guide.state_dict())
    torch.testing.assert_close(other(clips), guide(clips))


def test_dtype_follows_the_module():
    guide = ActionGraphGuidance(8, torch.randn(5, 12)).double().eval()
    assert guide(torch.randn(2, 4, 8, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda g: g(torch.zeros(2, 4, 7)), r"clips want shape \(B, T, 8\), got \(2, 4, 7\)"),
        (lambda g: g(torch.zeros(4, 8)), r"clips want shape"),
        (lambda g: g("clips"), "got a str"),
        (lambda g: g(torch.zeros(2, 4, 8)), "owns no texts"),
        (lambda g: g(torch.zeros(2, 4, 8), torch.zeros(3, 5)), r"texts want shape \(M, 8\), got \(3, 5\)"),
        (
            lambda g: g(torch.zeros(2, 4, 8), torch.zeros(3, 8), clip_mask=torch.ones(2, 5, dtype=torch.bool)),
            r"clip_mask wants shape \(2, 4\), got \(2, 5\)",
        ),
        (
            lambda g: ActionGraphGuidance(8, torch.zeros(3, 8))(torch.zeros(2, 4, 8), torch.zeros(3, 8)),
            "already",
        ),
        (lambda g: ActionGraphGuidance(8, torch.zeros(0, 8)), "at least one row"),
        (
            lambda g: ActionGraphGuidance(8, convolution="gin"),
            "unknown convolution 'gin'; there are sage, gcn, gat",
        ),
        (
            lambda g: ActionGraphGuidance.from_released({"conv1.lin_r.weight": torch.zeros(2, 2)}),
            "no conv1.lin_l",
        ),
    ],
)
def test_bad_input_gets_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call(ActionGraphGuidance(8))
    assert "\n" not in str(caught.value)


def drawn(graph: dict, masked: bool):
    generator = torch.Generator().manual_seed(graph["seed"])
    torch.manual_seed(graph["seed"])
    guide = ActionGraphGuidance(graph["dim"]).double().eval()
    clips = torch.randn(graph["batch"], graph["clips"], graph["dim"], generator=generator, dtype=torch.float64)
    texts = torch.randn(graph["texts"], graph["dim"], generator=generator, dtype=torch.float64)
    mask = torch.rand(clips.shape[:2], generator=generator) < 0.7 if masked else None
    return guide, clips.requires_grad_(), texts.requires_grad_(), mask


def gradients(output, real, inputs):
    return torch.autograd.grad(output[real].square().sum(), inputs, allow_unused=True, materialize_grads=True)
