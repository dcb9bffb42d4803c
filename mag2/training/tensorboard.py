"""Curves for TensorBoard, where it is installed."""

import io
import os
import socket
import time
from pathlib import Path
from typing import Any

from mag2.saving.full_disk import append_whole
from mag2.training.history import Epoch

__all__ = ["TensorBoard"]

CURVES = ("loss", "lr", "spearman", "mse", "rl2")


class TensorBoard:
    """Writes the curves of one training to its folder.

    Each epoch is in the file when `log` returns, whole: TensorBoard's own writer works in a thread, where a full disk
    is a traceback and half a record.

    Args:
        folder: of the training. Without one, or without TensorBoard (the extra `tensorboard`), nothing is written.
        first: the first epoch to come, counted from 1. Of an earlier run, TensorBoard shows the epochs before it only.
    """

    def __init__(self, folder: Path | None, first: int = 1):
        self.file: Path | None = None
        self._first = first
        if folder is not None:
            try:
                import tensorboard.compat.proto.event_pb2  # noqa: F401
            except ImportError:
                return
            self.file = folder / f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.0"

    def log(self, epoch: Epoch) -> None:
        """Add a point to each curve.

        Raises:
            DiskFullError: the points do not fit; none of them is written.
        """
        if self.file is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        now = time.time()
        events = [] if self.file.exists() else [Event(wall_time=now, file_version="brain.Event:2")]
        if epoch.epoch == self._first > 1:
            events.append(Event(wall_time=now, step=self._first, session_log=SessionLog(status=SessionLog.START)))
        for name in CURVES if epoch.validation is None else (*CURVES, "validation"):
            point = Summary.Value(tag=name, simple_value=getattr(epoch, name))
            events.append(Event(wall_time=now, step=epoch.epoch, summary=Summary(value=[point])))
        append_whole(_records(events), self.file)


def _records(events: list[Any]) -> bytes:
    from tensorboard.summary.writer.record_writer import RecordWriter

    stream = io.BytesIO()
    writer = RecordWriter(stream)
    for event in events:
        writer.write(event.SerializeToString())
    return stream.getvalue()
