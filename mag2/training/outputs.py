"""What a model returns beside its scores, for a whole split: decoded grades, their weights, features of a part."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mag2.data import Performances
from mag2.training.prediction import call_model
from mag2.training.run import autocast

__all__ = ["outputs"]


def outputs(
    model: nn.Module,
    performances: Performances,
    chosen: Callable[[str], bool],
    *,
    device: str = "cpu",
    precision: str = "float32",
    batch: int = 64,
) -> dict[str, Tensor]:
    """The chosen entries (n, ...) of what a model returns in evaluation mode, from the centre crop of every video.

    Entries that have no row for each video, or that are no floating-point tensors, are passed over.

    Args:
        chosen: whether an entry is returned, from its name.
    """
    was_training = model.training
    model.eval()
    parts: dict[str, list[Tensor]] = {}
    with torch.no_grad(), autocast(device, precision):
        for start in range(0, len(performances), batch):
            index = torch.arange(start, min(start + batch, len(performances)))
            output = call_model(model, performances.batch(index).to(device))
            for name, value in output.items():
                if not chosen(name) or not isinstance(value, Tensor) or not value.is_floating_point():
                    continue
                if value.dim() and len(value) == len(index):
                    parts.setdefault(name, []).append(value.float().cpu())
    model.train(was_training)
    whole = {name: torch.cat(values) for name, values in parts.items()}
    return {name: value for name, value in whole.items() if len(value) == len(performances)}
