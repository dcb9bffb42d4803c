"""Train one model on one dataset: every epoch measured, every kill survived, every number repeatable."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from mag2.data import Batch, Dataset, Performances
from mag2.metrics import mse, relative_l2, spearman
from mag2.nn.modules import unwrapped
from mag2.saving.atomic_io import save_atomically, write_atomically
from mag2.training.optimizer_state import load_optimizer, parameter_names
from mag2.training.recipe import Recipe

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Epoch:
    """What was measured after an epoch, the test set in the target's own units."""

    epoch: int
    loss: float
    lr: float
    spearman: float
    mse: float
    rl2: float
    seconds: float


@dataclass
class History:
    """All epochs of a training, and its two results."""

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def last(self) -> Epoch:
        """The result: the last epoch, chosen before the test set was seen."""
        return self.epochs[-1]

    @property
    def best_on_test(self) -> Epoch:
        """The protocol of the released scripts: the epoch with the best Spearman on the test set itself."""
        return max(self.epochs, key=lambda epoch: -math.inf if math.isnan(epoch.spearman) else epoch.spearman)


@dataclass(frozen=True)
class Run:
    """How a training runs, apart from what is trained; only `epochs`, `seed` and `precision` change the numbers.

    Attributes:
        epochs: how many. seed: of weights' dropout, order and crops; the model's initial weights are the caller's.
        device: "cpu", "cuda", "cuda:1", ...
        precision: "float32", or "bfloat16" for autocast.
        compile: run the model through `torch.compile`.
        folder: where the checkpoint and `metrics.jsonl` go; None writes nothing.
        checkpoint_seconds: at most one checkpoint in so many seconds (0: one every epoch).
    """

    epochs: int
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    compile: bool = False
    folder: Path | None = None
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if self.epochs < 1:
            raise ValueError(f"a training wants at least one epoch, got {self.epochs}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}; there are {', '.join(PRECISIONS)}")


def fit(
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    run: Run,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train `model` in place and measure it on the test set after every epoch.

    The randomness of an epoch (order, crops, dropout) depends on the seed and the number of the epoch alone, so a
    training that was killed and started again in the same folder ends with the numbers that it would have had.

    Args:
        model: called as `answer` does; has `.loss(output, label) -> {"total": ...}`.
        on_epoch: called after each epoch, for progress.

    Returns:
        The `History`, that of the epochs before a resume included.

    Raises:
        ValueError: the folder holds a checkpoint of another training, or `answer` refuses the dataset.
        FloatingPointError: the loss became nan or infinite.
    """
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
    keeper = _Keeper(run, identity, {"data": "simulated"} if dataset.simulated else {})
    keeper.resume(model, optimizer, schedule, history)
    with torch.random.fork_rng(devices=_cuda_devices(run.device)), _TensorBoard(run.folder) as board:
        for number in range(len(history.epochs), run.epochs):
            started = time.perf_counter()
            loss = _train_epoch(forward, model, dataset.train, recipe, run, optimizer, number)
            prediction = predict(forward, dataset.test, device=run.device, precision=run.precision)
            rate = float(schedule.get_last_lr()[0])
            schedule.step()
            measured = measure(prediction, dataset.test)
            epoch = Epoch(number + 1, loss, rate, **measured, seconds=time.perf_counter() - started)
            history.epochs.append(epoch)
            board.log(epoch)
            keeper.keep(model, optimizer, schedule, history)
            if on_epoch is not None:
                on_epoch(epoch)
    return history


def predict(
    model: nn.Module,
    performances: Performances,
    *,
    device: str = "cpu",
    precision: str = "float32",
    batch: int = 64,
) -> Tensor:
    """Scores (n,) in [0, 1], in evaluation mode, from the centre crop of every performance."""
    was_training = model.training
    model.eval()
    scores = []
    with torch.no_grad(), _autocast(device, precision):
        for start in range(0, len(performances), batch):
            index = torch.arange(start, min(start + batch, len(performances)))
            part = performances.batch(index).to(device)
            scores.append(answer(model, part)["score"].float().cpu())
    model.train(was_training)
    return torch.cat(scores)


def answer(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """What a model says of a batch: ``model(visual, audio, flow)``.

    A model with a true `takes_vision_language`, such as `mag2.alignment.weighted.SimilarityWeighted`, is given
    ``vision_language=...`` too.

    Raises:
        ValueError: such a model, and a batch without these features.
    """
    inner = unwrapped(model)
    given = (batch.visual, batch.audio, batch.flow)
    if not getattr(inner, "takes_vision_language", False):
        return model(*given)
    if batch.vision_language is None:
        raise ValueError(
            f"{type(inner).__name__} wants vision_language features and this dataset has none; "
            f"put them beside the others, in the folder vision_language say"
        )
    return model(*given, vision_language=batch.vision_language)


def measure(prediction: Tensor, performances: Performances) -> dict[str, float]:
    """Spearman, MSE in the target's units, and R-l2 of predictions in [0, 1]."""
    label = performances.label.double().numpy()
    scores = prediction.double().numpy()
    return {
        "spearman": spearman(scores, label),
        "mse": mse(scores, label, performances.scale),
        "rl2": relative_l2(scores, label) if label.max() > label.min() else math.nan,
    }


def _train_epoch(
    forward: nn.Module,
    model: nn.Module,
    performances: Performances,
    recipe: Recipe,
    run: Run,
    optimizer: torch.optim.Optimizer,
    number: int,
) -> float:
    model.train()
    forward.train()
    torch.manual_seed(_mixed(run.seed, number, 0))
    generator = torch.Generator().manual_seed(_mixed(run.seed, number, 1))
    losses = []
    for index in _batches(len(performances), recipe.batch, generator):
        part = performances.batch(index, generator).to(run.device)
        with _autocast(run.device, run.precision):
            output = answer(forward, part)
            loss = _loss(model, output, part.label)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.grad_clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.grad_clip)
        optimizer.step()
        losses.append(loss.detach())
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss became {mean} in epoch {number + 1}; a smaller learning rate may help")
    return mean


def _loss(model: nn.Module, output: dict[str, Tensor], label: Tensor) -> Tensor:
    # The objective in full precision: squares and cosines of bfloat16 outputs lose too much.
    full = {k: v.float() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in output.items()}
    with torch.autocast(label.device.type, enabled=False):
        return model.loss(full, label)["total"]  # type: ignore[operator]


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(n, generator=generator)
    parts = list(order.split(size))
    # BatchNorm cannot train on a single video: a last batch of one joins its neighbour.
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    yield from parts


def _mixed(seed: int, epoch: int, stream: int) -> int:
    """One seed for each (seed, epoch, stream), far apart."""
    return (seed * 1_000_003 + epoch) * 2 + stream


def _autocast(device: str, precision: str) -> torch.autocast:
    dtype = PRECISIONS[precision]
    return torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not None)


def _cuda_devices(device: str) -> list[torch.device]:
    return [torch.device(device)] if torch.device(device).type == "cuda" else []


class _Keeper:
    """The folder of a training: a checkpoint to go on from and a line of metrics for each epoch."""

    def __init__(self, run: Run, identity: dict, marks: dict):
        self.marks = marks  # what every line of metrics says beside its numbers
        self.every, self.folder, self.epochs = run.checkpoint_seconds, run.folder, run.epochs
        self.identity = json.loads(json.dumps(identity))
        self.device = run.device
        self.last = time.monotonic()

    def resume(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler, history: History
    ) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "checkpoint.pt"
        if path.is_file():
            saved = torch.load(path, map_location=self.device, weights_only=True)
            if saved["identity"] != self.identity:
                raise ValueError(f"{path} is of another training (other data or settings); give another folder")
            model.load_state_dict(saved["model"])
            names = saved.get("parameters")
            load_optimizer(optimizer, saved["optimizer"], model, names, list(saved["model"]))
            schedule.load_state_dict(saved["schedule"])
            history.epochs.extend(Epoch(**epoch) for epoch in saved["history"])
        # Epochs that were measured after the checkpoint are run again: their lines go.
        lines = "".join(self._line(epoch) for epoch in history.epochs)
        write_atomically(lines, self.folder / "metrics.jsonl")

    def keep(self, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler, history: History) -> None:
        if self.folder is None:
            return
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(self._line(history.last))
        done = len(history.epochs) == self.epochs
        if done or time.monotonic() - self.last >= self.every:
            state = {
                "identity": self.identity,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "parameters": parameter_names(model, optimizer),
                "schedule": schedule.state_dict(),
                "history": [asdict(epoch) for epoch in history.epochs],
            }
            save_atomically(state, self.folder / "checkpoint.pt")
            self.last = time.monotonic()

    def _line(self, epoch: Epoch) -> str:
        return json.dumps(asdict(epoch) | self.marks) + "\n"


class _TensorBoard:
    """Curves for TensorBoard, where it is installed and the training has a folder."""

    def __init__(self, folder: Path | None):
        self.writer = None
        if folder is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            self.writer = SummaryWriter(str(folder))

    def __enter__(self) -> "_TensorBoard":
        return self

    def log(self, epoch: Epoch) -> None:
        if self.writer is not None:
            for name in ("loss", "lr", "spearman", "mse", "rl2"):
                self.writer.add_scalar(name, getattr(epoch, name), epoch.epoch)

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()
