"""Curves for TensorBoard, where it is installed."""

from pathlib import Path

from mag2.training.history import Epoch

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes the curves of one training to its folder, inside a `with`.

    Without a folder, or without TensorBoard (the extra `tensorboard`), nothing is written.
    """

    def __init__(self, folder: Path | None):
        self.writer = None
        if folder is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            self.writer = SummaryWriter(str(folder))

    def __enter__(self) -> "TensorBoard":
        return self

    def log(self, epoch: Epoch) -> None:
        """Add a point to each curve."""
        if self.writer is not None:
            for name in ("loss", "lr", "spearman", "mse", "rl2"):
                self.writer.add_scalar(name, getattr(epoch, name), epoch.epoch)
            if epoch.validation is not None:
                self.writer.add_scalar("validation", epoch.validation, epoch.epoch)

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()
