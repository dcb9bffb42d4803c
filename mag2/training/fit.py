"""Train one model on one dataset: every epoch measured, every kill survived, every number repeatable."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.data import Dataset, Performances
from mag2.nn.modules import unwrapped
from mag2.saving.atomic_io import alone_in, remove_leftovers
from mag2.saving.full_disk import naming_full_disk
from mag2.training.checkpoint import Checkpoint
from mag2.training.contract import check_model, check_output, check_total
from mag2.training.history import Epoch, History
from mag2.training.prediction import call_model, measure, predict
from mag2.training.recipe import Recipe
from mag2.training.run import Run, autocast
from mag2.training.tensorboard import TensorBoard

__all__ = ["batches", "fit"]

# Seconds that a training waits for its folder: the processes of a run that was killed take a moment to end.
HANDOVER = 10.0


def fit(
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    run: Run,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> History:
    """Train `model` in place and measure it on the test set after every epoch.

    The randomness of an epoch (order, crops, dropout) depends on the seed and the number of the epoch alone, so a
    training that was killed and started again in the same folder ends with the numbers that it would have had. On a CPU
    they also depend on the number of threads (`torch.get_num_threads()`); the cells of a grid all have the same.

    Args:
        model: a `mag2.training.ScoringModel`; checked before training and on the first batch.
        on_epoch: called after each epoch, for progress.

    Returns:
        The `History`, that of the epochs before a resume included.

    Raises:
        ContractError: the model is no `ScoringModel`; the sentence says which part.
        ValueError: the folder holds a checkpoint of another training, or another one is at work in it, or the model
            needs features that the dataset does not have.
        FloatingPointError: the loss became nan or infinite.
        DiskFullError: a file did not fit; make room, and the same call goes on.
    """
    check_model(model)
    model.to(run.device)
    forward: Any = torch.compile(model) if run.compile else model
    optimizer = recipe.make_optimizer(model)
    schedule = recipe.make_schedule(optimizer, run.epochs)
    history = History()
    identity = {
        "recipe": asdict(recipe),
        "epochs": run.epochs,
        "seed": run.seed,
        "precision": run.precision,
        "data": dataset.fingerprint,
    }
    checkpoint = Checkpoint(run, identity, {"data": "simulated"} if dataset.simulated else {})
    with _alone(run.folder), torch.random.fork_rng(devices=_cuda_devices(run.device)):
        checkpoint.resume(model, optimizer, schedule, history)
        first = len(history.epochs)
        board = TensorBoard(run.folder, first + 1)
        for number in range(first, run.epochs):
            started = time.perf_counter()
            loss = _train_epoch(forward, model, dataset.train, recipe, run, optimizer, number, check=number == first)
            prediction = predict(forward, dataset.test, device=run.device, precision=run.precision)
            rate = float(schedule.get_last_lr()[0])
            schedule.step()
            measured = measure(prediction, dataset.test)
            epoch = Epoch(number + 1, loss, rate, **measured, seconds=time.perf_counter() - started)
            history.epochs.append(epoch)
            board.log(epoch)
            checkpoint.save(model, optimizer, schedule, history)
            if on_epoch is not None:
                on_epoch(epoch)
    return history


@contextlib.contextmanager
def _alone(folder: Path | None) -> Iterator[None]:
    """Hold the folder of a training inside a `with`, made where it is not there, without what killed ones left."""
    if folder is None:
        yield
        return
    with naming_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, wait=HANDOVER):
        remove_leftovers(folder)
        yield


def _train_epoch(
    forward: nn.Module,
    model: nn.Module,
    performances: Performances,
    recipe: Recipe,
    run: Run,
    optimizer: torch.optim.Optimizer,
    number: int,
    *,
    check: bool,
) -> float:
    """One epoch; returns the mean loss. With `check` the model's output and loss are checked on the first batch."""
    model.train()
    forward.train()
    torch.manual_seed(_mixed(run.seed, number, 0))
    generator = torch.Generator().manual_seed(_mixed(run.seed, number, 1))
    totals = []
    for index in batches(len(performances), recipe.batch, generator):
        part = performances.batch(index, generator).to(run.device)
        with autocast(run.device, run.precision):
            output = call_model(forward, part)
            if check:
                check_output(model, output, len(part))
            losses = _losses(model, output, part.label)
            if check:
                check_total(model, losses)
            check, total = False, losses["total"]
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        if recipe.grad_clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.grad_clip)
        optimizer.step()
        totals.append(total.detach())
    mean = float(torch.stack(totals).mean())
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss became {mean} in epoch {number + 1}; a smaller learning rate may help")
    return mean


def _losses(model: nn.Module, output: Mapping[str, Any], label: Tensor) -> Mapping[str, Tensor]:
    """The model's objective in full precision: squares and cosines of bfloat16 outputs lose too much."""
    loss: Any = unwrapped(model).loss
    full = {k: v.float() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in output.items()}
    with torch.autocast(label.device.type, enabled=False):
        return loss(full, label)


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The numbers 0 to n - 1 in random order, in batches of `size`; none of a single video.

    BatchNorm cannot train on one video: a last batch of one joins the batch before it.
    """
    order = torch.randperm(n, generator=generator)
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    yield from parts


def _mixed(seed: int, epoch: int, stream: int) -> int:
    """One seed for each (seed, epoch, stream), far apart."""
    return (seed * 1_000_003 + epoch) * 2 + stream


def _cuda_devices(device: str) -> list[torch.device]:
    return [torch.device(device)] if torch.device(device).type == "cuda" else []
