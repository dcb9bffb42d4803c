"""What a training records of its early epochs: the decoded grades of the test videos, for the figures."""

import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mag2.data import Dataset
from mag2.nn.modules import unwrapped
from mag2.saving.atomic_io import replacing
from mag2.training.outputs import outputs
from mag2.training.run import Run

__all__ = ["FOLDER", "read_recorded", "record_epoch", "recorded_epochs"]

FOLDER = "recorded"


def record_epoch(model: nn.Module, dataset: Dataset, run: Run, epoch: int) -> None:
    """Write the grades of the test videos after an epoch that `run.record` names; after any other do nothing.

    Written are the entries of the model's output whose names begin with "grades" or "weights" (`PromptGuidedGrading`,
    `GDLT` and `CoFInAl` have some), with the labels. A model without such entries is said once.
    """
    if epoch not in run.record or run.folder is None:
        return
    found = outputs(
        model,
        dataset.test,
        lambda name: name.startswith(("grades", "weights")),
        device=run.device,
        precision=run.precision,
    )
    if not found:
        if epoch == min(run.record):
            warnings.warn(
                f"{type(unwrapped(model)).__name__} returns no grades: nothing of its epochs is recorded", stacklevel=3
            )
        return
    path = _path(run.folder, epoch)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: value.contiguous() for name, value in found.items()}
    with replacing(path) as partial:
        save_file({**arrays, "label": dataset.test.label.float().contiguous()}, partial)


def recorded_epochs(folder: Path) -> list[int]:
    """The numbers of the epochs that are recorded in the folder of a training."""
    names = [path.stem.removeprefix("epoch-") for path in (folder / FOLDER).glob("epoch-*.safetensors")]
    return sorted(int(name) for name in names if name.isdecimal())


def read_recorded(folder: Path, epoch: int) -> dict[str, Tensor]:
    """What was recorded after an epoch: grades* (n, K, d), weights* (n, K), and label (n,) in [0, 1].

    Raises:
        ValueError: nothing was, or the file is damaged.
    """
    path = _path(folder, epoch)
    if not path.is_file():
        raise ValueError(f"{folder} has no record of epoch {epoch}; train with --record {epoch}")
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, OSError):
        raise ValueError(f"{path} is damaged; train again with --record {epoch}") from None
    rows = {len(value) for value in found.values() if value.dim()}
    if "label" not in found or len(rows) != 1 or not all(torch.isfinite(value).all() for value in found.values()):
        raise ValueError(f"{path} is damaged; train again with --record {epoch}")
    return found


def _path(folder: Path, epoch: int) -> Path:
    return folder / FOLDER / f"epoch-{epoch:04d}.safetensors"
