"""A batch of cropped performances, and the clips at which its crops begin."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mag2.data.features import ClipFeatures

__all__ = ["Batch", "common_lengths", "crop_starts"]


@dataclass(repr=False)
class Batch:
    """A batch of cropped performances.

    Shapes:
        visual (B, T, D); audio (B, T, D) or None; flow (B, T, D) or None; label (B,) in [0, 1]; vision_language
        (B, T, D), of the same clips in the space of a text encoder, or None.
    """

    visual: Tensor
    audio: Tensor | None
    flow: Tensor | None
    label: Tensor
    vision_language: Tensor | None = None

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        shapes = [f"{name} {tuple(part.shape)}" for name, part in vars(self).items() if part is not None]
        dtype = str(self.visual.dtype).removeprefix("torch.")
        return f"Batch({', '.join(shapes)}; {dtype}, {self.visual.device})"

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Batch":
        """Return the batch on a device; `dtype` is for the features, the label always keeps float32 or more.

        In half precision two scores that differ by a tenth of a point would become one label.
        """
        label_dtype = None if dtype is None else torch.promote_types(dtype, torch.float32)
        return Batch(
            self.visual.to(device, dtype),
            None if self.audio is None else self.audio.to(device, dtype),
            None if self.flow is None else self.flow.to(device, dtype),
            self.label.to(device, label_dtype),
            None if self.vision_language is None else self.vision_language.to(device, dtype),
        )


def crop_starts(
    lengths: NDArray[np.int64], clips: int, generator: torch.Generator | None = None, *, last: bool = True
) -> Tensor:
    """Return the first clip (B,) of a crop in each video: random with a generator, else centred.

    Args:
        lengths: (B,) numbers of clips of the videos.
        clips: length of the crops.
        generator: for random crops.
        last: whether a random crop may begin at the last possible start.
    """
    slack = torch.from_numpy(np.maximum(lengths - clips, 0))
    if generator is None:
        return slack // 2
    if not last:
        slack = (slack - 1).clamp(min=0)
    share = torch.rand(len(slack), generator=generator, device=generator.device, dtype=torch.float64).cpu()
    return (share * (slack + 1)).long()


def common_lengths(features: Mapping[str, ClipFeatures]) -> NDArray[np.int64]:
    """Return for each video the smallest number of clips among its modalities, (n,)."""
    return np.min([part.lengths for part in features.values()], axis=0)
