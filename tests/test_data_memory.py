"""Memory that is used again, and only when nothing refers to it."""

import copy
import pickle

import pytest
import torch

from mag2.data import ClipFeatures
from mag2.data.buffer_pool import BufferPool


def test_memory_that_was_let_go_serves_again():
    memory = BufferPool()
    first = memory.empty(4, 5)
    at = first.data_ptr()
    del first
    assert memory.empty(3, 6).data_ptr() == at


@pytest.mark.parametrize(
    "hold",
    [
        lambda rows: rows,
        lambda rows: rows[1:, 2],
        lambda rows: rows.numpy(),
        lambda rows: rows.detach().numpy()[2:],
        lambda rows: (torch.ones(4, 4, requires_grad=True) @ rows).sum(),
        lambda rows: torch.utils.dlpack.to_dlpack(rows),
    ],
    ids=["tensor", "view", "array", "view of an array", "autograd", "capsule"],
)
def test_memory_that_is_held_in_any_way_is_not_given_again(hold):
    memory = BufferPool()
    rows = memory.empty(4, 5).fill_(1)
    at = rows.data_ptr()
    held = hold(rows)
    del rows
    assert memory.empty(4, 5).data_ptr() != at
    del held
    assert at in {memory.empty(4, 5).data_ptr(), memory.empty(4, 5).data_ptr()}


def test_a_larger_request_gets_memory_of_its_own():
    memory = BufferPool()
    assert memory.empty(4, 5).fill_(1).shape == (4, 5)
    large = memory.empty(400, 5).fill_(2)
    assert large.shape == (400, 5)
    assert torch.equal(memory.empty(2, 2).fill_(3), torch.full((2, 2), 3.0))
    assert (large == 2).all()


def test_huge_pieces_go_back_to_the_system():
    memory = BufferPool()
    memory.empty((1 << 25) + 1)
    assert not memory._buffers


def test_every_batch_of_a_kept_epoch_keeps_its_clips():
    videos = [torch.full((3, 2), float(number)).numpy() for number in range(20)]
    features = ClipFeatures.stack(videos)
    kept = [features.crop([number], 4, [0]) for number in range(20)]
    for number, crop in enumerate(kept):
        assert torch.equal(crop[0, :3], torch.full((3, 2), float(number)))
        assert not crop[0, 3].any()


def test_a_second_thread_at_the_same_time_gets_memory_of_its_own():
    memory = BufferPool()
    at = memory.empty(4, 5).data_ptr()
    with memory._lock:  # another thread stands between finding it free and taking it
        assert memory.empty(4, 5).data_ptr() != at
    assert memory.empty(4, 5).data_ptr() == at


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda features: pickle.loads(pickle.dumps(features))])
def test_a_copy_of_features_has_memory_of_its_own(copied):
    features = ClipFeatures.stack([torch.ones(3, 2).numpy()])
    ours = features.crop([0], 3, [0])
    del ours
    theirs = copied(features).crop([0], 3, [0])
    assert features.crop([0], 3, [0]).fill_(5).data_ptr() != theirs.data_ptr()
    assert (theirs == 1).all()


def test_a_crop_made_in_inference_mode_does_not_spoil_the_memory_for_training():
    features = ClipFeatures.stack([torch.ones(3, 2).numpy()])
    with torch.inference_mode():
        features.crop([0], 3, [0])
    weight = torch.ones(2, requires_grad=True)
    (features.crop([0], 3, [0]) * weight).sum().backward()
    assert torch.equal(weight.grad, torch.full((2,), 3.0))
