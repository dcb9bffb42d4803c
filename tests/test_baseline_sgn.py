"""SGN: a teacher that reads texts shows the student where to look; the student scores without it."""

import pytest
import torch
from torch import nn

from mag2.baselines.sgn import SGN, CrossAttention, atom_contrast, attention_divergence

LABEL = torch.tensor([0.2, 0.5, 0.9])
SMALL = {"visual_dim": 12, "audio_dim": 10, "dim": 16, "n_heads": 2, "n_atoms": 4}
TERMS = {"total", "mse", "teacher_mse", "attention", "feature", "contrast"}


def texts() -> torch.Tensor:
    return torch.randn(6, 9, generator=torch.Generator().manual_seed(2))


def small(**options) -> SGN:
    torch.manual_seed(0)
    return SGN(texts(), **{**SMALL, "dropout": 0.0, **options})


def performances(length: int = 7, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, 12, generator=generator), torch.randn(batch, length, 10, generator=generator)


def side(name: str) -> str:
    """Whose a parameter is."""
    top = name.partition(".")[0]
    sides = {"student": "student", "atomic_queries": "student", "teacher": "teacher", "semantic_queries": "teacher"}
    return sides.get(top, "both")


def reached(model: SGN, term: str) -> set[str]:
    """Whose parameters a term of the loss has gradients for."""
    model.zero_grad(set_to_none=True)
    model.loss(model(*performances()), LABEL)[term].backward()
    return {side(name) for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize(
    ("term", "sides"),
    [
        ("mse", {"both", "student"}),
        ("attention", {"both", "student"}),
        ("feature", {"both", "student"}),
        ("contrast", {"both", "student"}),
        ("teacher_mse", {"both", "teacher"}),
    ],
)
def test_a_term_of_the_loss_reaches_its_side_and_the_encoder_they_share(term, sides):
    assert reached(small(), term) == sides


@pytest.mark.parametrize("batch", [1, 3])
def test_the_loss_reaches_every_parameter_and_not_the_texts(batch):
    model = small()
    model.loss(model(*performances(batch=batch)), LABEL[:batch])["total"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert "texts" not in dict(model.named_parameters())
    assert not model.texts.requires_grad


def test_the_score_needs_no_text_and_no_teacher():
    model, given = small().eval(), performances()
    score = model(*given)["score"]
    model.texts.fill_(float("nan"))
    model.teacher = model.semantic_queries = None
    output = model(*given)
    assert torch.equal(output["score"], score)
    assert output.keys() == {"score", "atoms", "attention"}


def test_the_teacher_reads_the_texts_and_the_student_does_not():
    model, given = small(), performances()
    before = model(*given)
    model.texts.copy_(model.texts.roll(1, dims=1))
    after = model(*given)
    for name in ("score", "atoms", "attention"):
        assert torch.equal(after[name], before[name])
        assert (after[f"teacher_{name}"] - before[f"teacher_{name}"]).abs().max() > 1e-5


def test_the_order_of_the_texts_does_not_matter():
    model, given = small(), performances()
    before = model(*given)["teacher_score"]
    model.texts.copy_(model.texts.flip(0))
    torch.testing.assert_close(model(*given)["teacher_score"], before)


def test_the_student_in_training_is_the_student_in_evaluation():
    model, given = small(), performances()
    trained, evaluated = model(*given), model.eval()(*given)
    for name, value in evaluated.items():
        torch.testing.assert_close(trained[name], value)


def test_cross_attention_is_torchs_and_tells_where_it_looked():
    ours = CrossAttention(16, 2, dropout=0.0)
    theirs = nn.MultiheadAttention(16, 2, batch_first=True)
    parts = ours.query, ours.key, ours.value
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(16), ours.value.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    queries, memory = torch.randn(3, 4, 16), torch.randn(3, 5, 16)
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True] + [False] * 4])
    for mask in (None, real):
        expected = theirs(queries, memory, memory, key_padding_mask=None if mask is None else ~mask)
        for got, wanted in zip(ours(queries, memory, mask), expected, strict=True):
            torch.testing.assert_close(got, wanted)


def test_attention_sums_to_one_even_where_dropout_is_on():
    output = small(dropout=0.5)(*performances())
    for name in ("attention", "teacher_attention"):
        assert output[name].shape == (3, 4, 7)
        torch.testing.assert_close(output[name].sum(dim=-1), torch.ones(3, 4))


def test_the_divergence_is_its_formula_atom_by_atom():
    student, teacher = torch.rand(2, 3, 5).softmax(dim=-1), torch.rand(2, 3, 5).softmax(dim=-1)
    total = sum(
        teacher[b, k, t] * (teacher[b, k, t] / student[b, k, t]).log()
        for b in range(2)
        for k in range(3)
        for t in range(5)
    )
    torch.testing.assert_close(attention_divergence(student, teacher), total / 6)
    torch.testing.assert_close(attention_divergence(teacher, teacher), torch.tensor(0.0), rtol=0, atol=1e-6)


def test_the_divergence_stays_finite_where_nobody_may_look():
    student = torch.tensor([[[0.5, 0.5, 0.0]]], requires_grad=True)
    divergence = attention_divergence(student, torch.tensor([[[0.25, 0.75, 0.0]]]))
    divergence.backward()
    assert divergence.isfinite()
    assert student.grad.isfinite().all()


def test_the_contrast_is_low_for_atoms_in_their_places_and_high_for_others():
    atoms = torch.eye(4)[None]
    assert atom_contrast(atoms, atoms) < 0.01 < 5 < atom_contrast(atoms, atoms.flip(1))
    # Four logits of 1 / 0.1 on the diagonal and 0 elsewhere.
    expected = -torch.log_softmax(torch.tensor([10.0, 0, 0, 0]), dim=0)[0]
    torch.testing.assert_close(atom_contrast(3 * atoms, 2 * atoms), expected)


def test_the_total_is_the_sum_of_the_weighted_terms():
    once = small()
    output = once(*performances())
    terms = once.loss(output, LABEL)
    assert terms.keys() == TERMS
    thrice = small(attention_weight=0.3, feature_weight=0.3, contrast_weight=0.03).loss(output, LABEL)
    for name in ("attention", "feature", "contrast"):
        torch.testing.assert_close(thrice[name], 3 * terms[name])
    for given in (terms, thrice):
        torch.testing.assert_close(given["total"], sum(given[name] for name in TERMS - {"total"}))
    torch.testing.assert_close(terms["teacher_mse"], ((output["teacher_score"] - LABEL) ** 2).mean())
    torch.testing.assert_close(terms["feature"], 0.1 * ((output["atoms"] - output["teacher_atoms"]) ** 2).mean())


def test_the_loss_of_an_evaluation_is_the_students_error_alone():
    model = small().eval()
    output = model(*performances())
    terms = model.loss(output, LABEL)
    assert terms.keys() == {"total", "mse"}
    torch.testing.assert_close(terms["total"], ((output["score"] - LABEL) ** 2).mean())


def test_a_few_steps_lower_the_loss_and_bring_the_student_near_its_teacher():
    model = small()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        terms = model.loss(model(*performances()), LABEL)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        losses.append({name: term.item() for name, term in terms.items()})
    for name in TERMS:
        assert losses[-1][name] < 0.7 * losses[0][name], name
    assert losses[-1]["mse"] < 0.1 * losses[0]["mse"]


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("length", [1, 4])
def test_padding_changes_nothing_whatever_stands_in_it(mode, length):
    model = small().train(mode)
    visual, audio = performances()
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[:, :length] = True
    expected = model(visual[:, :length], audio[:, :length])
    for rubbish in (0.0, 7.0, float("nan")):
        padded = [clips.masked_fill(~mask[..., None], rubbish) for clips in (visual, audio)]
        output = model(*padded, clip_mask=mask)
        for name, value in expected.items():
            if name.endswith("attention"):
                assert not output[name][..., length:].any()
                torch.testing.assert_close(output[name][..., :length], value)
            else:
                torch.testing.assert_close(output[name], value)
        terms, wanted = (model.loss(given, LABEL) for given in (output, expected))
        for name, term in wanted.items():
            torch.testing.assert_close(terms[name], term)


def test_the_model_keeps_a_copy_of_the_texts():
    given = texts()
    model = SGN(given, **SMALL)
    given.zero_()
    assert torch.equal(model.texts, texts())


def test_the_default_sizes_are_counted():
    model = SGN(torch.zeros(40, 384))
    total = {"teacher": 0, "student": 0, "both": 0}
    for name, parameter in model.named_parameters():
        total[side(name)] += parameter.numel()
    assert total == {"teacher": 2_210_049, "student": 1_847_553, "both": 1_052_672}


def test_wrong_input_is_answered_with_what_to_give():
    model = small().eval()
    visual, audio = performances()
    with pytest.raises(ValueError, match="SGN wants visual and audio features; audio is not given"):
        model(visual)
    with pytest.raises(ValueError, match=r"audio is .*give SGN \(videos, clips, 10\)"):
        model(visual, audio[..., :5])
    with pytest.raises(ValueError, match="as many clips of each modality"):
        model(visual, audio[:, :5])
    with pytest.raises(ValueError, match="one number per video"):
        model.loss(model(visual, audio), LABEL[:, None])
    for wrong in (torch.zeros(9), torch.zeros(0, 9), torch.zeros(2, 3, 9)):
        with pytest.raises(ValueError, match=r"SGN.s texts want a tensor \(M, D\)"):
            SGN(wrong)
    with pytest.raises(ValueError, match="does not divide into 3 heads"):
        small(n_heads=3)
    with pytest.raises(ValueError, match="n_atoms is 0; give 1 or more"):
        small(n_atoms=0)
