"""MAG2: the closed form is the graph, at any size, in value and gradient."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.nn import MessagePassing, SAGEConv

from mag2 import ActionGraphGuidance, TextFeatures
from mag2.guidance import action_graph
from mag2.texts import CONTROLS, TEXT_CONTROLS, controlled
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


@settings(deadline=None, max_examples=60)
@given(graphs, st.booleans(), st.booleans())
def test_weighted_edges_are_message_passing_in_value_and_gradient(graph, masked, even):
    guide, clips, texts, mask = drawn(graph, masked)
    weight = drawn_weight(graph, even).requires_grad_()
    inputs = [clips, texts, weight, *guide.parameters()]

    closed = guide(clips, texts, clip_mask=mask, edge_weight=weight)
    passed = weighted_message_passing(guide, clips, texts, weight, mask)
    real = torch.ones(clips.shape[:2], dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(closed[real], passed[real])
    for ours, theirs in zip(gradients(closed, real, inputs), gradients(passed, real, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


@settings(deadline=None, max_examples=40)
@given(graphs, st.booleans())
def test_even_weights_take_the_cheap_way_to_the_same_numbers(graph, masked):
    """Weights that sum to the same at every clip, and want no gradient, cost one matrix product and not two."""
    guide, clips, texts, mask = drawn(graph, masked)
    weight = drawn_weight(graph, even=True)
    inputs = [clips, texts, *guide.parameters()]
    real = torch.ones(clips.shape[:2], dtype=torch.bool) if mask is None else mask
    cheap = guide(clips, texts, clip_mask=mask, edge_weight=weight)
    general = guide(clips, texts, clip_mask=mask, edge_weight=weight.requires_grad_())
    torch.testing.assert_close(cheap, general)
    for ours, theirs in zip(gradients(cheap, real, inputs), gradients(general, real, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def changed_maps(guide):
    """Guides whose maps are not what their weights say: hooked, pruned, exchanged."""
    hooked, pruned, exchanged = (copy.deepcopy(guide) for _ in range(3))
    hooked.conv1.lin_r.register_forward_hook(lambda module, args, rows: 3 * rows)
    hooked.conv2.lin_l.register_forward_hook(lambda module, args, rows: rows.tanh())
    prune.l1_unstructured(pruned.conv1.lin_r, "weight", 0.5)
    exchanged.conv2.lin_l.forward = lambda rows: rows[..., :1] * torch.arange(8.0, dtype=torch.float64)
    return {"hooked": hooked, "pruned": pruned, "exchanged": exchanged}


@pytest.mark.parametrize("which", ["hooked", "pruned", "exchanged"])
@pytest.mark.parametrize("n_clips", [1, 7])
def test_maps_that_are_changed_are_called_and_not_read(which, n_clips):
    guide = changed_maps(ActionGraphGuidance(8, dropout=0.0).double())[which]
    clips, texts = torch.randn(2, n_clips, 8).double(), torch.randn(5, 8).double()
    edges = action_graph(n_clips, 5)
    for _ in range(2):  # pruning makes its weight anew for each step
        closed, passed = guide(clips, texts), guide(clips, texts, edge_index=edges)
        torch.testing.assert_close(closed, passed)
        closed.sum().backward()
    ones = torch.ones(2, n_clips, 5).double()
    torch.testing.assert_close(guide(clips, texts, edge_weight=ones), passed)
    uneven = torch.rand(2, n_clips, 5).double()
    every = torch.ones(2, n_clips, dtype=torch.bool)
    masked = guide(clips, texts, edge_weight=uneven, clip_mask=every)
    torch.testing.assert_close(guide(clips, texts, edge_weight=uneven), masked)


def test_a_derivative_along_the_weights_is_the_gradient():
    """Softmax weights have equal sums, but moving one of them alone moves its clip's sum."""
    guide = ActionGraphGuidance(8, dropout=0.0).double()
    clips, texts = torch.randn(2, 7, 8).double(), torch.randn(5, 8).double()
    weight, along = torch.randn(2, 7, 5).double().softmax(dim=-1), torch.randn(2, 7, 5).double()

    def guided(weight):
        return guide(clips, texts, edge_weight=weight)

    _, ours = torch.func.jvp(guided, (weight,), (along,))
    step = 1e-5
    expected = (guided(weight + step * along) - guided(weight - step * along)) / (2 * step)
    torch.testing.assert_close(ours, expected, atol=1e-7, rtol=1e-6)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(weight, along)
        tangent = torch.autograd.forward_ad.unpack_dual(guided(dual)).tangent
    torch.testing.assert_close(tangent, expected, atol=1e-7, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_weights_may_be_mapped_over_and_traced():
    guide = ActionGraphGuidance(8, dropout=0.0).eval().requires_grad_(False)
    clips, texts = torch.randn(2, 7, 8), torch.randn(5, 8)
    even, uneven = torch.randn(3, 2, 7, 5).softmax(dim=-1), torch.rand(2, 7, 5)
    mapped = torch.vmap(lambda weight: guide(clips, texts, edge_weight=weight))(even)
    torch.testing.assert_close(mapped, torch.stack([guide(clips, texts, edge_weight=weight) for weight in even]))
    traced = torch.jit.trace(lambda weight: guide(clips, texts, edge_weight=weight), even[0], check_trace=False)
    torch.testing.assert_close(traced(uneven), guide(clips, texts, edge_weight=uneven))


@settings(deadline=None, max_examples=30)
@given(graphs, st.booleans(), st.booleans())
def test_weights_of_one_are_the_complete_graph(graph, masked, learned):
    guide, clips, texts, mask = drawn(graph, masked)
    ones = torch.ones(*clips.shape[:2], len(texts), dtype=torch.float64, requires_grad=learned)
    complete = guide(clips, texts, clip_mask=mask)
    torch.testing.assert_close(guide(clips, texts, clip_mask=mask, edge_weight=ones), complete, atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=30)
@given(graphs)
def test_padding_that_is_masked_changes_nothing_under_weights(graph):
    guide, clips, texts, _ = drawn(graph, masked=False)
    weight = drawn_weight(graph, even=False)
    mask = torch.ones(len(clips), clips.shape[1] + 2, dtype=torch.bool)
    mask[:, -2:] = False
    junk = F.pad(clips, (0, 0, 0, 2), value=7.0)
    padded = guide(junk, texts, clip_mask=mask, edge_weight=F.pad(weight, (0, 0, 0, 2), value=3.0))
    torch.testing.assert_close(padded[:, :-2], guide(clips, texts, edge_weight=weight))


def test_weights_say_which_text_a_clip_hears():
    """Under weights the order of the texts matters, and moves with that of the weights."""
    guide = ActionGraphGuidance(16).eval()
    clips, texts, order = torch.randn(2, 7, 16), torch.randn(9, 16), torch.randperm(9)
    weight = torch.rand(2, 7, 9)
    guided = guide(clips, texts, edge_weight=weight)
    torch.testing.assert_close(guide(clips, texts[order], edge_weight=weight[..., order]), guided)
    assert (guide(clips, texts[order], edge_weight=weight) - guided).abs().max() > 1e-3


def test_a_lone_clip_that_hears_nothing_is_mapped_alone():
    guide, clip = ActionGraphGuidance(8, torch.randn(5, 6)).eval(), torch.randn(2, 1, 8)
    alone = ActionGraphGuidance(8, torch.randn(5, 6), control="no_edges").eval()
    alone.load_state_dict(guide.state_dict())
    deaf = torch.zeros(2, 1, 5, requires_grad=True)
    torch.testing.assert_close(guide(clip, edge_weight=deaf), alone(clip))
    (gradient,) = torch.autograd.grad(guide(clip, edge_weight=deaf).sum(), deaf)
    assert not gradient.any()


def test_no_tensor_of_the_graph_is_as_large_as_its_neighbour_matrix():
    """Design: T clips and M texts cost O(T + M) rows and the weights, never (T + M)^2."""
    n_clips, n_texts = 40, 30
    guide = ActionGraphGuidance(8, dropout=0.0)
    clips, texts = torch.randn(1, n_clips, 8, requires_grad=True), torch.randn(n_texts, 8)
    for weight in (None, torch.ones(1, n_clips, n_texts), torch.rand(1, n_clips, n_texts, requires_grad=True)):
        with LargestTensor() as seen:
            guide(clips, texts, edge_weight=weight).sum().backward()
        assert 0 < seen.size <= n_clips * max(n_texts, 8) < (n_clips + n_texts) ** 2


def test_even_weights_cost_little_more_than_the_complete_graph():
    """At the paper's widths, 42 texts and 95 clips: multiplications of forward and backward together."""
    guide = ActionGraphGuidance(256)
    clips, texts = torch.randn(16, 95, 256, requires_grad=True), torch.randn(42, 256, requires_grad=True)
    weight = 42 * torch.rand(16, 95, 42).softmax(dim=-1)

    def cost(**weights):
        with FlopCounterMode(display=False) as flops:
            guide(clips, texts, **weights).sum().backward()
        return flops.get_total_flops()

    assert cost(edge_weight=weight) < 1.3 * cost()


@pytest.mark.parametrize("owned", [True, False])
@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_keeps_the_keys_and_leaves_no_trainable_parameter_unused(control, owned):
    texts = torch.randn(5, 12 if owned else 8)
    guide = ActionGraphGuidance(8, texts if owned else None, control=control)
    plain = ActionGraphGuidance(8, texts if owned else None)
    assert guide.state_dict().keys() == plain.state_dict().keys()
    assert f"control={control!r}" in repr(guide)
    guide(torch.randn(3, 4, 8), *(() if owned else (texts,))).square().sum().backward()
    for name, parameter in guide.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("control", TEXT_CONTROLS)
def test_a_control_of_given_texts_is_the_guide_with_controlled_texts(control):
    guide, plain = same_weights(ActionGraphGuidance(8, control=control, control_seed=3), ActionGraphGuidance(8))
    clips, texts, weight = torch.randn(2, 4, 8), torch.randn(6, 8), torch.rand(2, 4, 6)
    expected = plain(clips, controlled(texts, control, 3), edge_weight=weight)
    torch.testing.assert_close(guide(clips, texts, edge_weight=weight), expected)
    assert (plain(clips, texts, edge_weight=weight) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("control", ["random_texts", "permuted_texts", "centred_texts"])
def test_a_control_of_owned_texts_is_the_guide_built_with_controlled_texts(control):
    texts = torch.randn(6, 12)
    guide = ActionGraphGuidance(8, texts, control=control, control_seed=3)
    plain = ActionGraphGuidance(8, controlled(texts, control, 3))
    guide, plain = same_weights(guide, plain)
    torch.testing.assert_close(guide.texts, controlled(texts, control, 3))
    clips, weight = torch.randn(2, 4, 8), torch.rand(2, 4, 6)
    torch.testing.assert_close(guide(clips, edge_weight=weight), plain(clips, edge_weight=weight))


def test_with_zero_texts_the_graph_hears_zeros_in_training_and_evaluation():
    """Not BatchNorm over equal rows, whose running statistics would make another constant of them in evaluation."""
    guide = ActionGraphGuidance(8, torch.randn(6, 12), control="zero_texts", dropout=0.0)
    plain, _ = same_weights(ActionGraphGuidance(8, dropout=0.0), guide)
    clips, optimizer = torch.randn(3, 4, 8), torch.optim.Adam(guide.parameters(), lr=0.1, weight_decay=1e-2)
    torch.testing.assert_close(guide(clips), plain(clips, torch.zeros(6, 8)))
    for _ in range(5):
        optimizer.zero_grad()
        guide.train()(clips).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(guide.train()(clips), guide.eval()(clips))


def test_random_texts_keep_their_lengths_and_nothing_else():
    texts = 5 + torch.randn(40, 64) * torch.rand(40, 1)
    state = torch.get_rng_state()
    drawn_texts = controlled(texts, "random_texts", 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(drawn_texts.norm(dim=1), texts.norm(dim=1))
    assert F.cosine_similarity(drawn_texts, texts).abs().mean() < 0.2
    assert torch.equal(drawn_texts, controlled(texts, "random_texts", 1))
    assert not torch.equal(drawn_texts, controlled(texts, "random_texts", 2))


@pytest.mark.parametrize("n_texts", [1, 2, 3, 42])
def test_permuted_texts_are_the_same_rows_none_in_its_place(n_texts):
    texts = torch.randn(n_texts, 4)
    permuted = controlled(texts, "permuted_texts")
    same = (permuted[:, None] == texts).all(dim=-1)
    assert (same.sum(dim=0) == 1).all()
    assert (same.sum(dim=1) == 1).all()
    assert n_texts == 1 or not same.diagonal().any()


def test_permuted_texts_change_nothing_in_the_complete_graph():
    guide, plain = same_weights(ActionGraphGuidance(16, control="permuted_texts"), ActionGraphGuidance(16))
    clips, texts = torch.randn(2, 7, 16), torch.randn(9, 16)
    assert (guide(clips, texts) - plain(clips, texts)).abs().max() < 1e-5


def test_centred_texts_have_no_mean_and_keep_their_differences():
    texts = 3 + torch.randn(7, 5)
    centred = controlled(texts, "centred_texts")
    torch.testing.assert_close(centred.mean(dim=0), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(centred - centred[0], texts - texts[0])


@pytest.mark.parametrize("given", [{}, {"edge_weight": torch.rand(2, 4, 5)}, {"edge_index": action_graph(4, 5)}])
def test_without_edges_the_guide_is_an_mlp_over_clips(given):
    guide = ActionGraphGuidance(8, control="no_edges").eval()
    clips, texts = torch.randn(2, 4, 8), torch.randn(5, 8)
    first = (clips @ guide.conv1.lin_r.weight.T + guide.conv1.lin_l.bias).relu()
    second = first @ guide.conv2.lin_r.weight.T + guide.conv2.lin_l.bias
    torch.testing.assert_close(guide(clips, texts, **given), second)
    torch.testing.assert_close(guide.nodes(clips, texts)[0], second)
    torch.testing.assert_close(guide.nodes(clips, texts)[1], guide(texts[None], texts)[0])


@pytest.mark.parametrize("convolution", ["gcn", "gat", SAGEConv])
def test_without_edges_no_convolution_hears_another_clip(convolution):
    guide = ActionGraphGuidance(8, torch.randn(5, 6), convolution=convolution, control="no_edges").eval()
    clips = torch.randn(2, 4, 8)
    torch.testing.assert_close(guide(clips)[:, 1:2], guide(clips[:, 1:2]))


@pytest.mark.parametrize("control", [None, *TEXT_CONTROLS])
def test_text_features_are_controlled_in_their_actions_alone(control):
    texts = TextFeatures.for_sport("figure_skating")
    other = texts.controlled(control, seed=4)
    torch.testing.assert_close(other.visual, controlled(texts.visual, control, 4))
    assert torch.equal(other.grades, texts.grades)
    assert torch.equal(other.audio_visual_grades, texts.audio_visual_grades)
    assert other.prompts == texts.prompts
    if control is None:
        assert other is texts
    else:
        assert not torch.equal(other.audio, texts.audio)
        assert other.source == f"{texts.source}, {control}"
    if control == "random_texts":
        assert F.cosine_similarity(other.visual, other.audio).abs().mean() < 0.2


def test_owned_texts_travel_with_the_state():
    torch.manual_seed(0)
    guide, clips = ActionGraphGuidance(8, torch.randn(5, 12)).eval(), torch.randn(2, 4, 8)
    other = ActionGraphGuidance(8, torch.zeros(5, 12)).eval()
    other.load_state_dict(guide.state_dict())
    torch.testing.assert_close(other(clips), guide(clips))


def test_dtype_follows_the_module():
    guide = ActionGraphGuidance(8, torch.randn(5, 12)).double().eval()
    clips = torch.randn(2, 4, 8, dtype=torch.float64)
    assert guide(clips).dtype == torch.float64
    for weight in (torch.ones(2, 4, 5), torch.rand(2, 4, 5)):
        assert guide(clips, edge_weight=weight).dtype == torch.float64
        assert guide.bfloat16()(clips.bfloat16(), edge_weight=weight).dtype == torch.bfloat16
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert guide.float()(clips.float(), edge_weight=weight).dtype == torch.bfloat16
        guide.double()


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
        (lambda g: ActionGraphGuidance(8, control="no_texts"), "unknown control 'no_texts'; there are zero_texts"),
        (lambda g: controlled(torch.zeros(3, 8), "no_edges"), r"no control 'no_edges' of texts.*for the guide"),
        (lambda g: controlled(torch.zeros(3, 8), "noise"), "no control 'noise' of texts; there are zero_texts"),
        (lambda g: weighted(g, torch.ones(2, 4, 5)), r"edge_weight wants shape .*\(2, 4, 3\), got \(2, 4, 5\)"),
        (lambda g: weighted(g, torch.ones(4, 3)), r"edge_weight wants shape .* got \(4, 3\)"),
        (lambda g: weighted(g, 1.0), "edge_weight wants shape .* got a float"),
        (lambda g: weighted(g, torch.full((2, 4, 3), -0.5)), "weights of 0 or more, got -0.5"),
        (lambda g: weighted(g, torch.full((2, 4, 3), torch.nan)), "weights of 0 or more, got nan"),
        (lambda g: weighted(g, torch.full((2, 4, 3), torch.inf)), "weights of 0 or more, got inf"),
        (lambda g: weighted(g, torch.ones(2, 4, 3), edge_index=action_graph(4, 3)), "leave out edge_index"),
        (
            lambda g: weighted(ActionGraphGuidance(8, convolution="gcn"), torch.ones(2, 4, 3)),
            "edge_weight is for the complete graph with 'sage'",
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


def drawn_weight(graph: dict, even: bool):
    """Weights (B, T, M), some of them 0; even ones sum to the same at every clip."""
    generator = torch.Generator().manual_seed(graph["seed"] + 1)
    shape = (graph["batch"], graph["clips"], graph["texts"])
    weight = 2 * torch.rand(shape, generator=generator, dtype=torch.float64)
    if even:
        return 1.5 * graph["texts"] * weight.mul(3).softmax(dim=-1)
    return weight * (torch.rand(shape, generator=generator) < 0.7)


class WeightedMean(MessagePassing):
    """PyG sums what the edges carry, once for the rows and once for the weights."""

    def __init__(self):
        super().__init__(aggr="add")

    def forward(self, rows, edge_index, weight):
        total = self.propagate(edge_index, rows=torch.ones_like(rows[:, :1]), weight=weight)
        heard = self.propagate(edge_index, rows=rows, weight=weight)
        return torch.where(total > 0, heard / total.where(total > 0, 1), 0)

    def message(self, rows_j, weight):
        return rows_j * weight[:, None]


def weighted_message_passing(guide, clips, texts, weight, mask):
    """The two layers in a loop over videos and edges: clip to clip and text to text 1, text to clip its weight."""
    n_clips, mean = clips.shape[1], WeightedMean()
    source, target = action_graph(n_clips, len(texts))
    from_text = (source >= n_clips) & (target < n_clips)
    guided = []
    for number, video in enumerate(clips):
        carried = torch.ones(len(source), dtype=clips.dtype)
        carried[from_text] = weight[number][target[from_text], source[from_text] - n_clips]
        kept = torch.ones(len(source), dtype=torch.bool)
        if mask is not None:
            kept = F.pad(mask[number], (0, len(texts)), value=True)[source]
        edges, carried = torch.stack([source, target])[:, kept], carried[kept]
        rows = torch.cat([video, texts])
        first = (guide.conv1.lin_l(mean(rows, edges, carried)) + guide.conv1.lin_r(rows)).relu()
        second = guide.conv2.lin_l(mean(first, edges, carried)) + guide.conv2.lin_r(first)
        guided.append(second[:n_clips])
    return torch.stack(guided)


def weighted(guide, weight, **graph):
    return guide(torch.zeros(2, 4, 8), torch.zeros(3, 8), edge_weight=weight, **graph)


def same_weights(one, other):
    """Both in evaluation, the layers (and projection) of the first as in the second."""
    theirs = other.state_dict()
    one.load_state_dict({key: theirs[key] for key in one.state_dict()})
    return one.eval(), other.eval()


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that anything returned meanwhile."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returned = func(*args, **(kwargs or {}))
        for part in returned if isinstance(returned, (tuple, list)) else (returned,):
            if isinstance(part, torch.Tensor):
                self.size = max(self.size, part.numel())
        return returned


def gradients(output, real, inputs):
    return torch.autograd.grad(output[real].square().sum(), inputs, allow_unused=True, materialize_grads=True)
