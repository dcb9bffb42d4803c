"""Train one model on one dataset: every epoch is measured, a killed training resumes, and numbers are repeatable."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.data import Batch, Dataset, Performances
from mag2.nn.devices import checked_device
from mag2.nn.modules import unwrapped
from mag2.saving.atomic_io import alone_in, remove_leftovers
from mag2.saving.places import make_folder
from mag2.training.checkpoint import Checkpoint
from mag2.training.contract import check_model, check_output, check_total
from mag2.training.history import Epoch, History
from mag2.training.prediction import call_model, check_whole, measure, predict
from mag2.training.recipe import Recipe, check_recipe
from mag2.training.recording import record_epoch
from mag2.training.run import Run, autocast, check_run
from mag2.training.steps import Steps
from mag2.training.tensorboard import TensorBoard
from mag2.training.trained_folder import save_trained
from mag2.training.validation import Validation

__all__ = ["batches", "fit"]

# Seconds that a training waits for its folder: the processes of a run that was killed take a moment to end.
HANDOVER = 10.0


def fit(
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    run: Run,
    on_epoch: Callable[[Epoch], object] | None = None,
    *,
    validation: Validation | None = None,
    keep_model: bool = False,
) -> History:
    """Train a model in place, and measure it on the test set after every epoch.

    The random numbers of an epoch (order, crops, dropout) depend on the seed and the number of the epoch alone. So a
    training that was killed and is started again in the same folder gives the same final numbers. On a CPU they also
    depend on the number of threads (`torch.get_num_threads()`).

    Args:
        model: a `mag2.training.ScoringModel`; checked before training and on the first batch.
        dataset: trained on its split `train`, measured on its split `test`.
        recipe: how the model is optimised.
        run: epochs, seed, device, folder and so on.
        on_epoch: called with the `Epoch` after each epoch.
        validation: holds back some training videos, to stop early or to keep the best epoch.
        keep_model: True writes the trained model into `run.folder`, for `mag2.load_trained` (see `save_trained` for
            models of your own class).

    Returns:
        The `History`, with the epochs before a resume.

    Raises:
        TypeError: `recipe` is no `Recipe` or `run` no `Run`.
        ContractError: the model is no `ScoringModel`; the sentence names the part.
        ValueError: the folder has a checkpoint of another training, or another training runs in it; the model needs
            features that the dataset does not have; whole videos have more clips than it accepts; no such device; too
            few training videos; a rate of the recipe for parameters that the model does not have; `keep_model` or
            `Run.record` without a folder; or too few videos for a validation.
        FloatingPointError: the loss became nan or infinite.
        DiskFullError: the disk is full; after files are deleted the same call resumes.
    """
    check_recipe(recipe)
    check_run(run)
    check_model(model)
    if keep_model and run.folder is None:
        raise ValueError("keep_model writes the model into the folder of the run; give Run(folder=...)")
    if run.record and run.folder is None:
        raise ValueError("record keeps grades in the folder of the run; give Run(folder=...)")
    checked_device(run.device)
    train_on, held = (None, None) if validation is None else validation.split(len(dataset.train))
    model.to(run.device)
    forward: Any = torch.compile(model) if run.compile else model
    optimizer = recipe.make_optimizer(model)
    schedule = recipe.make_schedule(optimizer, run.epochs)
    history = History()
    identity = {
        "recipe": recipe.identity,
        "epochs": run.epochs,
        "seed": run.seed,
        "precision": run.precision,
        "data": dataset.fingerprint,
    }
    if run.evaluation != "crops":  # as in version 0.1, whose checkpoints say nothing of it
        identity["evaluation"] = run.evaluation
        for split in (dataset.train, dataset.test) if validation is not None else (dataset.test,):
            check_whole(model, split)
    if validation is not None:
        identity["validation"] = asdict(validation)
    checkpoint = Checkpoint(run, identity, {"data": "simulated"} if dataset.simulated else {})
    with _alone(run.folder), torch.random.fork_rng(devices=_cuda_devices(run.device)):
        checkpoint.resume(model, optimizer, schedule, history)
        first = len(history.epochs)
        board = TensorBoard(run.folder, first + 1)
        for number in range(first, run.epochs):
            if validation is not None and validation.stops(history.epochs):
                break
            started = time.perf_counter()
            rate = float(schedule.get_last_lr()[0])
            steps = Steps(model, recipe, optimizer, schedule)
            loss = _train_epoch(
                forward, model, dataset.train, steps, run, number, videos=train_on, check=number == first
            )
            prediction = predict(forward, dataset.test, **run.scoring(recipe.clips))
            steps.end_epoch()
            measured = measure(prediction, dataset.test)
            found = None
            if validation is not None and held is not None:
                own = predict(forward, dataset.train, videos=held, **run.scoring(recipe.clips))
                found = measure(own, dataset.train, held)[validation.measure]
            epoch = Epoch(number + 1, loss, rate, **measured, seconds=time.perf_counter() - started, validation=found)
            history.epochs.append(epoch)
            history.predictions.append(prediction)
            if validation is not None and validation.keep_best and validation.best(history.epochs) is epoch:
                checkpoint.keep_best(model)
            board.log(epoch)
            record_epoch(model, dataset, run, number + 1)
            ended = validation is not None and validation.stops(history.epochs)
            checkpoint.save(model, optimizer, schedule, history, ended=ended)
            if on_epoch is not None:
                on_epoch(epoch)
    history.chosen = history.last.epoch
    if history.predictions[-1] is None:  # of a checkpoint that did not keep them
        history.predictions[-1] = predict(forward, dataset.test, **run.scoring(recipe.clips))
    if validation is not None and validation.keep_best and checkpoint.best is not None:
        model.load_state_dict(checkpoint.best)
        history.chosen = validation.best(history.epochs).epoch
    if keep_model and run.folder is not None:
        held_back = None if validation is None else asdict(validation)
        save_trained(model, run.folder, dataset, history=history, recipe=recipe, run=run, validation=held_back)
    return history


@contextlib.contextmanager
def _alone(folder: Path | None) -> Iterator[None]:
    """Hold the folder of a training inside a `with`, made where it is not there, without what killed ones left."""
    if folder is None:
        yield
        return
    make_folder(folder)
    with alone_in(folder, wait=HANDOVER):
        remove_leftovers(folder)
        yield


def _train_epoch(
    forward: nn.Module,
    model: nn.Module,
    performances: Performances,
    steps: Steps,
    run: Run,
    number: int,
    *,
    videos: Tensor | None,
    check: bool,
) -> float:
    """One epoch on all performances or on those of `videos`; returns the mean loss.

    With `check` the model's output and loss are checked on the first batch.
    """
    model.train()
    forward.train()
    torch.manual_seed(_mixed(run.seed, number, 0))
    generator = torch.Generator().manual_seed(_mixed(run.seed, number, 1))
    totals = []
    count = len(performances) if videos is None else len(videos)
    for numbers in batches(count, steps.recipe.batch, generator):
        index = numbers if videos is None else videos[numbers]
        part = performances.batch(index, generator, clips=steps.recipe.clips).to(run.device)
        with autocast(run.device, run.precision):
            with _saying_too_few(part):
                output = call_model(forward, part)
            if check:
                check_output(model, output, len(part))
            losses = _losses(model, output, part.label)
            if check:
                check_total(model, losses)
            check, total = False, losses["total"]
        steps.take(total)
        totals.append(total.detach())
    mean = float(torch.stack(totals).mean())
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss became {mean} in epoch {number + 1}; a smaller learning rate may help")
    return mean


@contextlib.contextmanager
def _saying_too_few(batch: Batch) -> Iterator[None]:
    """Say in our words what torch's BatchNorm says of a batch that has one row."""
    try:
        yield
    except ValueError as fault:
        if not str(fault).startswith("Expected more than 1 value per channel"):
            raise
        videos, clips = batch.visual.shape[:2]
        raise ValueError(
            f"BatchNorm cannot train on one row, and a batch has {videos} video of {clips} clip{'s'[: clips > 1]}: "
            f"give more training videos, longer crops, or a model without BatchNorm"
        ) from fault


def _losses(model: nn.Module, output: Mapping[str, Any], label: Tensor) -> Mapping[str, Tensor]:
    """The model's objective in full precision: squares and cosines of bfloat16 outputs lose too much."""
    loss: Any = unwrapped(model).loss
    full = {k: v.float() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in output.items()}
    with torch.autocast(label.device.type, enabled=False):
        return loss(full, label)


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the numbers 0 to n - 1 in random order, in batches of `size`.

    BatchNorm cannot train on one video: a last batch of one video is added to the batch before it.
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
