"""A split as a plain `torch.utils.data.Dataset`, for Lightning, Accelerate or a training loop of one's own."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from mag2.data.performances import Performances

__all__ = ["TorchDataset", "collate"]


class TorchDataset(Dataset[dict[str, Tensor]]):
    """The cropped performances of one split, one item a video.

        loader = DataLoader(TorchDataset(dataset.train, random_crops=True), batch_size=32, shuffle=True,
                            num_workers=4, collate_fn=collate)
        for batch in loader:
            output = model(batch["visual"], batch.get("audio"), batch.get("flow"))

    An item is a dict of tensors: "visual" (T, D), "label" () in [0, 1] and, where the dataset has them, "audio",
    "flow" and "vision_language" (T, D). Features of a batch are read together, in the process of the worker.

    Args:
        performances: `dataset.train` or `dataset.test`.
        random_crops: True (training): a video's crop starts at a random clip, any start that fills the crop being as
            likely as any other. The starts come from torch's global generator, which a `DataLoader` seeds differently
            in each worker and epoch. False (evaluation): the crop is the middle of the video.
        clips: T, the length of every crop; the split's own by default.

    Raises:
        ValueError: `clips` is below 1.
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
    """The batch of several items: a dict of tensors "visual" (B, T, D), ..., "label" (B,).

    It is what a `DataLoader` does without a `collate_fn`; in a worker the batch is written into shared memory.
    """
    return default_collate(list(items))
