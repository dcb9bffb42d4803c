"""Guided models in several processes: DDP, fully_shard and FSDP, on the CPU with gloo; two processes do it all once."""

import copy
import os
import socket
import sys
import traceback
import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn

from mag2 import attach, attached, detach, disabled, load_plugin, save_plugin
from tests.test_plugin import DIM, Scorer, clips, guide, is_plugs

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
STEPS = 3


class Plain(nn.Module):
    """A model whose guided module is no container, and whose norms are not of the batch."""

    def __init__(self):
        super().__init__()
        self.encoder = Block()
        self.rest = nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU())
        self.head = nn.Linear(DIM, 1)

    def forward(self, features):
        return self.head(self.rest(self.encoder(features)).mean(dim=1)).squeeze(1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)

    def forward(self, features):
        return self.linear(features)


def guided(at):
    torch.manual_seed(3)
    return attach(Plain(), guide(dropout=0.0), at=at)


def batches(step):
    return clips(4, 5, DIM) + step


def train(model, call=None, rank=None):
    """Three steps, on all videos or on this process's half."""
    call = model if call is None else call
    optimizer = torch.optim.SGD(call.parameters(), lr=0.1)
    for step in range(STEPS):
        features = batches(step)
        optimizer.zero_grad()
        call(features if rank is None else features.chunk(2)[rank]).square().mean().backward()
        optimizer.step()
    return model


def alone(at):
    """What one process learns from all videos."""
    return train(guided(at))


def weights(model):
    return {
        name: parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter.detach()
        for name, parameter in model.named_parameters()
    }


def same(found, expected):
    torch.testing.assert_close(found, {name: value.detach() for name, value in expected.named_parameters()})


def loads_into_the_bare_model(folder, expected):
    torch.distributed.barrier()
    bare = detach(copy.deepcopy(expected))
    load_plugin(bare, folder)
    torch.testing.assert_close(bare.eval()(batches(0)), expected.eval()(batches(0)), rtol=1e-4, atol=1e-5)


def refused(call, sentence, kind=ValueError):
    with pytest.raises(kind, match=sentence):
        call()


def ddp_trains_guides_of_modules_and_of_containers_alike(rank, folder):
    for at in ("encoder", "rest", "rest.0", ""):
        model = attach(Plain(), guide(dropout=0.0), at=at, side="input") if at == "" else guided(at)
        model.load_state_dict(guided_like(at).state_dict())
        parallel = nn.parallel.DistributedDataParallel(model)
        train(model, parallel, rank)
        assert all(parameter.grad is not None for parameter in model.parameters())
        same(weights(model), train(guided_like(at)))


def guided_like(at):
    torch.manual_seed(3)
    return attach(Plain(), guide(dropout=0.0), at=at, side="input") if at == "" else guided(at)


def ddp_saves_once_and_loads_into_the_bare_model(rank, folder):
    model = guided("rest")
    parallel = nn.parallel.DistributedDataParallel(model)
    train(model, parallel, rank)
    save_plugin(parallel, f"{folder}/{rank}")
    torch.distributed.barrier()
    assert (os.path.exists(f"{folder}/0"), os.path.exists(f"{folder}/1")) == (True, False)
    loads_into_the_bare_model(f"{folder}/0", alone("rest"))


def the_inside_of_ddp_is_refused(rank, folder):
    model = Plain()
    parallel = nn.parallel.DistributedDataParallel(model)
    for part, at in ((parallel, "encoder"), (model, "encoder"), (model, "rest.1"), (model.rest, "0")):
        refused(lambda part=part, at=at: attach(part, guide(), at=at), "DistributedDataParallel counts parameters")


def fully_shard_trains_the_guide_of_a_module_as_one_process_does(rank, folder):
    from torch.distributed.fsdp import fully_shard

    for parts in ((), ("encoder",)):
        model = guided("encoder")
        for part in parts:
            fully_shard(model.get_submodule(part))
        fully_shard(model)
        train(model, rank=rank)
        assert all(hasattr(parameter, "full_tensor") for parameter in model.parameters())
        same(weights(model), alone("encoder"))


def fully_shard_saves_the_whole_guide(rank, folder):
    from torch.distributed.fsdp import fully_shard

    model = guided("encoder")
    fully_shard(model)
    train(model, rank=rank)
    save_plugin(model, folder)
    loads_into_the_bare_model(folder, alone("encoder"))


def fully_shard_of_a_guided_container_is_refused_and_works_as_the_sentence_says(rank, folder):
    from torch.distributed.fsdp import fully_shard

    model = guided("rest")
    fully_shard(model)
    refused(lambda: model(batches(0)), r"before fully_shard\(model\), call fully_shard\(place\.module\)", RuntimeError)
    model = guided("rest")
    for place in attached(model):
        fully_shard(place.module)
    fully_shard(model)
    train(model, rank=rank)
    same(weights(model), alone("rest"))
    save_plugin(model, folder)
    loads_into_the_bare_model(folder, alone("rest"))


def nothing_is_attached_to_what_is_sharded_nor_loaded_into_it(rank, folder):
    from torch.distributed.fsdp import fully_shard

    save_plugin(guided("rest.1"), folder)
    torch.distributed.barrier()
    model = Plain()
    fully_shard(model)
    before = list(model.state_dict())
    for at in ("encoder", "rest", "rest.1", ""):
        refused(lambda at=at: attach(model, guide(), at=at), "fully_shard or FSDP counts parameters")
    refused(lambda: load_plugin(model, folder), "fully_shard or FSDP counts parameters")
    assert list(model.state_dict()) == before


def fsdp_trains_and_saves_the_whole_guide(rank, folder):
    from torch.distributed.fsdp import FullyShardedDataParallel

    for number, (at, orig) in enumerate((at, orig) for at in ("encoder", "rest") for orig in (True, False)):
        model = guided(at)
        sharded = FullyShardedDataParallel(model, use_orig_params=orig, device_id=torch.device("cpu"))
        assert [place.at for place in attached(sharded)] == [at]
        train(model, sharded, rank)
        save_plugin(sharded, f"{folder}/{number}")
        loads_into_the_bare_model(f"{folder}/{number}", alone(at))


def parts_in_fsdp_leave_no_name_in_a_folder(rank, folder):
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = guided("rest")
    model.rest = FullyShardedDataParallel(model.rest, use_orig_params=True, device_id=torch.device("cpu"))
    whole = FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))
    assert [place.at for place in attached(whole)] == ["rest"]
    train(model, whole, rank)
    save_plugin(whole, folder)
    loads_into_the_bare_model(folder, alone("rest"))


def nothing_is_attached_inside_fsdp(rank, folder):
    from torch.distributed.fsdp import FullyShardedDataParallel

    for orig in (True, False):
        model = Plain()
        sharded = FullyShardedDataParallel(model, use_orig_params=orig, device_id=torch.device("cpu"))
        for part, at in ((sharded, "encoder"), (sharded, "rest.1"), (model, "encoder"), (model, "rest.1")):
            refused(lambda part=part, at=at: attach(part, guide(), at=at), "counts parameters when it is made")


def processes_that_start_apart_learn_the_same_and_leave_no_parameter_unused(rank, folder):
    torch.manual_seed(rank)
    model = attach(Scorer(), guide(dropout=0.0), at="encoder", start="identity")
    parallel = nn.parallel.DistributedDataParallel(model, find_unused_parameters=False)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    for step in range(STEPS):  # the second step raises where a parameter got no gradient in the first
        optimizer.zero_grad()
        parallel(clips() + rank + step).square().mean().backward()
        optimizer.step()
    assert len(attached(parallel)) == 1
    with disabled(parallel), torch.no_grad():
        parallel(clips())
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert any(map(is_plugs, dict(model.named_parameters())))
    learned = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    both = [torch.empty_like(learned) for _ in range(2)]
    torch.distributed.all_gather(both, learned)
    torch.testing.assert_close(both[0], both[1])


CHECKS = [
    processes_that_start_apart_learn_the_same_and_leave_no_parameter_unused,
    ddp_trains_guides_of_modules_and_of_containers_alike,
    ddp_saves_once_and_loads_into_the_bare_model,
    the_inside_of_ddp_is_refused,
    fully_shard_trains_the_guide_of_a_module_as_one_process_does,
    fully_shard_saves_the_whole_guide,
    fully_shard_of_a_guided_container_is_refused_and_works_as_the_sentence_says,
    nothing_is_attached_to_what_is_sharded_nor_loaded_into_it,
    fsdp_trains_and_saves_the_whole_guide,
    parts_in_fsdp_leave_no_name_in_a_folder,
    nothing_is_attached_inside_fsdp,
]


def one_of_two(rank, port, folder):
    torch.set_num_threads(1)
    warnings.filterwarnings("error", message=".*ActionGraphGuidance")
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    failed = OrderedDict()
    for check in CHECKS:
        try:
            check(rank, f"{folder}/{check.__name__}")
        except BaseException:
            failed[check.__name__] = traceback.format_exc()
            # The other process may wait for this one.
            break
    torch.save(failed, f"{folder}/{rank}.pt")
    if failed:
        os._exit(0)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """What failed in either process, by check."""
    if sys.platform != "linux":
        pytest.skip("gloo on the CPU is tried on Linux")
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.spawn(one_of_two, (port, str(folder)), nprocs=2, join=False)
    found: dict[str, str] = {}
    try:
        while not context.join(timeout=1, grace_period=5):
            if any((folder / f"{rank}.pt").exists() and torch.load(folder / f"{rank}.pt") for rank in range(2)):
                break
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()
    for rank in range(2):
        if (folder / f"{rank}.pt").exists():
            for name, error in torch.load(folder / f"{rank}.pt").items():
                found.setdefault(name, f"process {rank}: {error}")
    return found


@pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
def test_in_two_processes(check, failures):
    before = [each.__name__ for each in CHECKS[: [each.__name__ for each in CHECKS].index(check)]]
    if check not in failures and any(name in failures for name in before):
        pytest.skip("a check before this one failed")
    assert check not in failures, failures.get(check)
