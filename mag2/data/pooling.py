"""All videos of a dataset as one split, to be split anew."""

from collections import Counter

import numpy as np
import torch

from mag2.data.errors import DataError
from mag2.data.features import ClipFeatures
from mag2.data.performances import Dataset, Performances

__all__ = ["pooled"]


def pooled(dataset: Dataset) -> Performances:
    """All videos of a dataset: in the order of their arrays (`Dataset.from_arrays`), else train, validation, test.

    Raises:
        DataError: a name that is there twice.
    """
    splits = [each for each in (dataset.train, dataset.validation, dataset.test) if each is not None]
    twice, times = Counter(name for split in splits for name in split.names).most_common(1)[0]
    if times > 1:
        raise DataError(f"{twice!r} is in {dataset.name} {times} times: give every video its own name")
    origins = [split._origin for split in splits if split._origin is not None]
    if len(origins) == len(splits) and all(whole is origins[0][0] for whole, _ in origins):
        return origins[0][0].subset(np.sort(np.concatenate([videos for _, videos in origins])))
    grouped = all(split.groups is not None for split in splits)
    return Performances(
        [name for split in splits for name in split.names],
        torch.cat([split._exact for split in splits]),
        scale=dataset.train.scale,
        features={
            key: ClipFeatures.joined([split._whole_features[key] for split in splits]) for key in dataset.train.widths
        },
        clips=dataset.train.clips,
        minimum=dataset.train.minimum,
        groups=[group for split in splits for group in split.groups or ()] if grouped else None,
    )
