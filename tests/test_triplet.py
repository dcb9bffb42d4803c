"""The batch-hard triplet loss is its own definition, written as a loop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mag2.nn.triplet import batch_hard_triplet, grade_triplet


def slow(embeddings, classes, margin=1.0):
    """Anchor by anchor, over all pairs, as the released code defines it."""
    distance = 1 - F.normalize(embeddings, dim=1) @ F.normalize(embeddings, dim=1).T
    terms = []
    for i, row in enumerate(distance):
        positives = [row[j] for j in range(len(row)) if j != i and classes[j] == classes[i]]
        negatives = [row[j] for j in range(len(row)) if classes[j] != classes[i]]
        positive = max(positives) if positives else row.new_zeros(())
        negative = min(negatives) if negatives else row.max()
        terms.append(F.relu(positive - negative + margin))
    return torch.stack(terms).mean()


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 2**31 - 1))
def test_it_is_the_loop_in_value_and_gradient(anchors, n_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(anchors, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    classes = torch.randint(n_classes, (anchors,), generator=generator)
    ours, theirs = batch_hard_triplet(embeddings, classes), slow(embeddings, classes)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, embeddings)[0] for loss in (ours, theirs)))


def test_texts_repeated_over_the_batch_are_the_texts_once():
    """Released: every text B times. Its hardest positive is then a copy at distance 0, the loss on one copy."""
    texts = torch.randn(7, 4, dtype=torch.float64)
    once = batch_hard_triplet(texts, torch.arange(7))
    repeated = batch_hard_triplet(texts.repeat(5, 1), torch.arange(7).repeat(5))
    torch.testing.assert_close(once, repeated)


def test_the_class_of_a_decoded_grade_is_its_rank():
    grades = torch.randn(3, 4, 5)
    torch.testing.assert_close(grade_triplet(grades), slow(grades.flatten(0, 1), torch.arange(4).repeat(3)))


def test_wrong_shapes_get_one_sentence():
    with pytest.raises(ValueError, match=r"wants embeddings \(A, d\) and classes \(A,\), got \(2, 3\) and \(3,\)"):
        batch_hard_triplet(torch.zeros(2, 3), torch.zeros(3))
