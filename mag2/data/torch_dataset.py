"""A split as a plain `torch.utils.data.Dataset`, for Lightning, Accelerate or your own training loop."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from mag2.data.performances import Performances

__all__ = ["TorchDataset", "collate"]


class TorchDataset(Dataset[dict[str, Tensor]]):
    """The cropped performances of one split as a `torch.utils.data.Dataset`: one item per video.

        loader = DataLoader(TorchDataset(dataset.train, random_crops=True), batch_size=32, shuffle=True,
                            num_workers=4, collate_fn=collate)
        for batch in loader:
            output = model(batch["visual"], batch.get("audio"), batch.get("flow"))

    An item is a dict of tensors: "visual" (T, D), "label" () in [0, 1] and, if the dataset has them, "audio", "flow"
    and "vision_language" (T, D). Features of a batch are read together, in the process of the worker.

    Args:
        performances: `dataset.train` or `dataset.test`.
        random_crops: True (training): the crop of a video begins at a random clip, and all starts that fill the crop
            are equally likely. They are drawn from torch's global generator, which a `DataLoader` seeds differently in
            each worker and epoch. False (evaluation): the crop is the middle of the video.
        clips: T, the length of every crop; the split's own by default.

    Raises:
        ValueError: `clips` is below 1.
        IndexError: an item is requested that does not exist.
    """

    def __init__(self, performances: Performances, *, random_crops: bool, clips: int | None = None):
        if clips is not None and clips < 1:
            raise ValueError(f"clips is the length of a crop, 1 or more, got {clips}")
        self.performances = performances
        self.random_crops = random_crops
        self.clips = performances.clips if clips is None else clips

    def __len__(self) -> int:
        return len(self.performances)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are videos 0 to {len(self) - 1} in this split, got {index}")
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Tensor]]:
        """Several items, read at once; `DataLoader` calls this for each batch."""
        generator = torch.default_generator if self.random_crops else None
        batch = self.performances.batch(indices, generator, clips=self.clips)
        parts = {name: part for name, part in vars(batch).items() if part is not None}
        return [{name: part[i] for name, part in parts.items()} for i in range(len(batch))]

    def __repr__(self) -> str:
        crops = "random" if self.random_crops else "centre"
        return f"TorchDataset({self.performances!r}, {crops} crops of {self.clips} clips)"


def collate(items: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack items of a `TorchDataset` into a batch: a dict of tensors "visual" (B, T, D), ..., "label" (B,).

    The result equals that of a `DataLoader` without a `collate_fn`; in a worker it is written into shared memory.
    """
    return default_collate(list(items))
