"""Name the best matching action of every clip, and measure how often the name is right.

A name is no explanation by itself: how often it is right is measured on planted actions, or is unknown.
"""

import csv
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mag2.saving.atomic_io import replacing, write_atomically
from mag2.vocabulary import Prompts

__all__ = ["Timeline", "name_actions"]


@dataclass(frozen=True, eq=False)
class Timeline:
    """The best matching action of every clip, and how often that is right.

    Attributes:
        action: (B, T) integers, indices into `vocabulary`; -1 in padding.
        weight: (B, T), the similarity (or edge weight) of the named action; NaN in padding.
        vocabulary: the M actions.
        planted: (B, T) integers, the true action that the simulator planted, -1 in transitions and padding; None if
            unknown.
        accuracy: share of the clips with a planted action whose named action is the planted one (top-1), in [0, 1];
            None if unknown.
        videos: names of the B videos; None to use their numbers.
        data: the data that the clips are from, for example "SIMULATED FS1000"; shown in every plot and CSV row.
    """

    action: Tensor
    weight: Tensor
    vocabulary: tuple[str, ...]
    planted: Tensor | None = None
    accuracy: float | None = None
    videos: tuple[str, ...] | None = None
    data: str = ""

    @property
    def names(self) -> list[list[str | None]]:
        """The name of the action of every clip of every video; None in padding."""
        return [[self._name(action) for action in video] for video in self.action.tolist()]

    @property
    def verdict(self) -> str:
        """The measured accuracy and the accuracy of chance, in words; shown in every plot."""
        if self.accuracy is None:
            return "accuracy unknown"
        return f"top-1 accuracy {self.accuracy:.2f} (chance {1 / len(self.vocabulary):.2f})"

    def to_csv(self, path: str | Path) -> None:
        """Write a CSV file with a row for each real clip.

        Its columns are video, clip, action, weight, planted, accuracy (over all videos, or "unknown") and data.
        """
        planted = torch.full_like(self.action, -1) if self.planted is None else self.planted
        accuracy = "unknown" if self.accuracy is None else repr(self.accuracy)
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["video", "clip", "action", "weight", "planted", "accuracy", "data"])
        # Read from the device once, not once for every clip.
        actions, weights, truths = self.action.tolist(), self.weight.tolist(), planted.tolist()
        for video, columns in enumerate(zip(actions, weights, truths, strict=True)):
            for clip, (action, weight, truth) in enumerate(zip(*columns, strict=True)):
                if action >= 0:
                    named, truth = self._name(action), self._name(truth) or ""
                    rows.writerow([self._video(video), clip, named, weight, truth, accuracy, self.data])
        write_atomically(text.getvalue(), Path(path))

    def plot(self, path: str | Path, *, video: int = 0) -> None:
        """Draw one video: clips on the horizontal axis, actions on the vertical axis.

        A dot marks the named action of a clip, darker for a larger weight; a ring marks the planted action. The title
        has the measured accuracy over all videos, or says that it is unknown.

        Args:
            path: the file; its ending is the file type.
            video: number of the video, 0 to B - 1.

        Raises:
            ImportError: matplotlib is missing; the extra `figures` installs it.
            ValueError: no such video, or a file type that matplotlib does not write.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as missing:
            raise ImportError("a timeline is drawn by matplotlib: pip install 'mag2[figures]'") from missing
        if not 0 <= video < len(self.action):
            raise ValueError(f"there are {len(self.action)} videos, 0 to {len(self.action) - 1}, got {video}")
        actions, weights = self.action[video].cpu(), self.weight[video].float().cpu()
        truths = torch.full_like(actions, -1) if self.planted is None else self.planted[video].cpu()
        shown = sorted({*actions[actions >= 0].tolist(), *truths[truths >= 0].tolist()})
        rows = {action: row for row, action in enumerate(shown)}
        named, there = (actions >= 0).nonzero().flatten(), (truths >= 0).nonzero().flatten()

        figure = Figure(figsize=(10, 1.2 + 0.22 * len(shown)), layout="constrained")
        axes = figure.subplots()
        height = [rows[action] for action in actions[named].tolist()]
        dots = axes.scatter(named, height, c=weights[named], cmap="Greys", edgecolors="black", linewidths=0.4, s=36)
        if len(there):
            height = [rows[action] for action in truths[there].tolist()]
            axes.scatter(there, height, s=110, facecolors="none", edgecolors="tab:red", label="planted")
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        figure.colorbar(dots, label="weight")
        axes.set_yticks(range(len(shown)), [self.vocabulary[action] for action in shown], fontsize=7)
        axes.set_xlabel("clip")
        of = f"{self.data}, video {self._video(video)}".removeprefix(", ")
        axes.set_title(f"{of}\nthe best matching action of each clip, {self.verdict}", fontsize=11)
        _save_figure(figure, Path(path))

    def _video(self, number: int) -> str:
        return str(number) if self.videos is None else self.videos[number]

    def _name(self, action: int) -> str | None:
        return self.vocabulary[action] if action >= 0 else None


def name_actions(
    similarity: Tensor,
    names: Prompts | Sequence[str],
    *,
    planted: Tensor | None = None,
    clip_mask: Tensor | None = None,
    videos: Sequence[str] | None = None,
    data: str = "",
) -> Timeline:
    """Name the best matching action of every clip, and measure how often the name is right.

    Without planted actions the accuracy is None, and a warning says that it is unknown.

    Args:
        similarity: (B, T, M), similarities or edge weights of the clips and the M action texts.
        names: names of the M actions; or `Prompts`, whose visual prompts are the names.
        planted: (B, T) integers, the true actions, -1 where there is none.
        clip_mask: (B, T), True where a clip is real.
        videos: names of the B videos, for the timeline.
        data: the data that the clips are from, in words, for the timeline.

    Returns:
        A `Timeline`.

    Raises:
        ValueError: shapes or numbers of names that do not fit each other, similarities that are not finite, or a
            planted action outside -1..M-1.
    """
    vocabulary = names.visual if isinstance(names, Prompts) else tuple(names)
    if similarity.dim() != 3 or similarity.shape[-1] != len(vocabulary):
        raise ValueError(
            f"similarity wants shape (B, T, {len(vocabulary)}), one for each name, got {tuple(similarity.shape)}"
        )
    for what, given in (("planted", planted), ("clip_mask", clip_mask)):
        if given is not None and given.shape != similarity.shape[:2]:
            raise ValueError(f"{what} wants shape {tuple(similarity.shape[:2])}, got {tuple(given.shape)}")
    if videos is not None and len(videos) != len(similarity):
        raise ValueError(f"videos wants {len(similarity)} names, one for each video, got {len(videos)}")
    if not similarity.isfinite().all():
        raise ValueError("similarity wants finite numbers, got NaN or infinity")
    weight, action = similarity.detach().max(dim=-1)
    if clip_mask is not None:
        weight, action = weight.masked_fill(~clip_mask, torch.nan), action.masked_fill(~clip_mask, -1)
    accuracy = None
    if planted is not None:
        planted = planted.to(action.device)
        if ((planted < -1) | (planted >= len(vocabulary))).any():
            raise ValueError(f"planted wants actions 0 to {len(vocabulary) - 1}, or -1 for none")
        known = (planted >= 0) & (action >= 0)
        if known.any():
            accuracy = (action == planted)[known].double().mean().item()
    if accuracy is None:
        warnings.warn("no planted actions: how often the named actions are right is unknown", stacklevel=2)
    return Timeline(action, weight, vocabulary, planted, accuracy, None if videos is None else tuple(videos), data)


def _save_figure(figure: Any, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix.removeprefix(".") or None)
