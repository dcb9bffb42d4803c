"""Name the best matching action of every clip, and measure how often the name is right.

A name here is no explanation by itself: how often it is right is measured on planted actions, or unknown.
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
        action: (B, T) integers, rows of `vocabulary`; -1 in padding.
        weight: (B, T), the similarity (or edge weight) that won; NaN in padding.
        vocabulary: the M actions.
        planted: (B, T) integers, the action that is really there, -1 in transitions and padding; None if unknown.
        accuracy: share of the clips with a planted action whose named action is the planted one (top-1), or None.
        videos: the B videos' names; their numbers where it is None.
        data: what the clips are of, "SIMULATED FS1000" say; every plot and row bears it.
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
        """The action of every clip of every video by its name, None in padding."""
        return [[self._name(action) for action in video] for video in self.action.tolist()]

    @property
    def verdict(self) -> str:
        """One phrase on how far to believe it; every plot bears it."""
        if self.accuracy is None:
            return "accuracy unknown"
        return f"top-1 accuracy {self.accuracy:.2f} (chance {1 / len(self.vocabulary):.2f})"

    def to_csv(self, path: str | Path) -> None:
        """Write a row per clip: video, clip, action, weight, planted, accuracy (of all, or "unknown"), data."""
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
        """Draw one video: clips along, actions up, the named one dark as its weight, planted ones ringed.

        The title says the measured accuracy over all videos, or that it is unknown.

        Raises:
            ImportError: matplotlib is missing; it comes with the extra `figures`.
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
    """Name the best matching action of every clip, and measure how often that is right.

    Without planted actions the accuracy is None, and a warning says that it is unknown.

    Shapes: similarity or edge weights (B, T, M); planted (B, T) integers, -1 where no action is; clip_mask (B, T),
    True where a clip is real.

    Args:
        names: of the M actions, or the prompts whose visual ones they are.
        videos: names of the B videos, for the timeline. data: what the clips are of, likewise.

    Raises:
        ValueError: shapes or numbers of names that do not fit, values that are not finite, or an unknown planted
            action.
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
