"""Convert your own scores to labels in [0, 1], and check names and other plain arguments."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mag2.data.errors import DataError
from mag2.data.splits import Split

__all__ = ["checked_clips", "checked_label", "checked_name", "checked_names", "checked_scores", "labels_of"]


def checked_scores(scores: Any) -> NDArray[np.float64]:
    """Scores as one finite number a video (N,).

    Raises:
        DataError: they are anything else.
    """
    what = "scores are a list of numbers, one a video"
    if isinstance(scores, str | bytes | Mapping | set | frozenset) or not isinstance(scores, Iterable):
        raise DataError(f"{what}, got a {type(scores).__name__}")
    if isinstance(scores, Tensor):
        scores = _values(scores)
    if isinstance(scores, np.ma.MaskedArray):
        raise DataError(f"{what}, got a masked array: leave the videos without a score out")
    if isinstance(scores, list | tuple) or not hasattr(scores, "__len__"):
        scores = [each.item() if isinstance(each, Tensor) and each.numel() == 1 else each for each in scores]
        if any(isinstance(each, bool) for each in scores):
            raise DataError(f"{what}, got a truth value: convert them to numbers")
    try:
        array = np.asarray(scores)
    except ValueError:  # rows of different length
        raise DataError(f"{what}, got lists of different length") from None
    if array.ndim != 1:
        raise DataError(f"{what}, got an array of shape {array.shape}: give one number a video")
    if not len(array):
        raise DataError(f"{what}, got none")
    if array.dtype.kind not in "fiu":
        odd = next((each for each in array.tolist() if isinstance(each, bool) or not isinstance(each, int | float)), "")
        raise DataError(f"{what}, got {array.dtype} ({odd!r}): convert them to numbers")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        first = int(np.argmin(np.isfinite(array)))
        raise DataError(f"the score of entry {first} is {array[first]}: give a number, or leave the video out")
    return array


def labels_of(
    scores: NDArray[np.float64], names: Sequence[str], split: Split, scale: Any, minimum: Any
) -> tuple[NDArray[np.float64], float, float]:
    """The labels (N,), the scale and the minimum: label = (score - minimum) / scale.

    Without a scale it is computed from the best score of the training split, with a warning.

    Raises:
        DataError: a scale that is no positive number, or a score outside it.
    """
    least = _number(minimum, "minimum, the lowest score there can be,")
    used = split.used
    if (scores[used] < least).any():
        worst = used[np.argmin(scores[used])]
        raise DataError(
            f"{names[worst]!r} has the score {scores[worst]:g}, below the minimum of {least:g}: "
            f"give minimum=, the lowest score there can be"
        )
    best = used[np.argmax(scores[used])]
    if scale is None:
        span = float(scores[split.train].max()) - least
        if span <= 0:
            raise DataError(f"all training scores are {least:g}: give scale=, the range of the scores")
        if scores[best] - least > span:
            raise DataError(
                f"{names[best]!r} has the score {scores[best]:g}, above {least + span:g}, the best score in training: "
                f"give scale=, the range of the scores"
            )
        warnings.warn(
            f"no scale was given: scores are divided by {span:g}, which the best score in training gives; "
            f"give scale=, the range of the scores, where it is known",
            stacklevel=4,  # the caller of Dataset.from_arrays: this, own_data, from_arrays, its caller
        )
    else:
        span = _number(scale, "scale, the range of the scores,")
        if span <= 0:
            raise DataError(f"scale, the range of the scores, is a number above 0, got {span:g}")
        if scores[best] - least > span:
            raise DataError(
                f"{names[best]!r} has the score {scores[best]:g}, above {least + span:g}, which minimum={least:g} and "
                f"scale={span:g} allow: give scale=, the range of the scores"
            )
    return (scores - least) / span, span, least


def checked_label(label: Any, names: Sequence[str]) -> Tensor:
    """Labels as float64 (n,), all in [0, 1].

    Raises:
        DataError: they are anything else; scores in their own units for example.
    """
    if not isinstance(label, Tensor) or label.dim() != 1 or label.is_complex() or label.dtype == torch.bool:
        shown = f"{label.dtype} {tuple(label.shape)}" if isinstance(label, Tensor) else f"a {type(label).__name__}"
        raise DataError(f"labels are a tensor of one number a video, got {shown}")
    exact = label.detach().cpu().double()
    outside = ~((exact >= 0) & (exact <= 1))
    if outside.any():
        first = int(outside.int().argmax())
        raise DataError(
            f"labels lie in 0 to 1, and {names[first]!r} has {exact[first]:g}: divide scores by their scale, or give "
            f"them to Dataset.from_arrays with scale="
        )
    return exact


def checked_names(names: Any, files: Sequence[str] | None, count: int) -> list[str]:
    """Return the names of `count` videos; by default those of their files if these differ, else numbers.

    Raises:
        DataError: not one name per video, a name twice, or one that cannot be the name of a file.
    """
    if names is None:
        if files is not None and len(set(files)) == len(files) and not any(map(_fault, files)):
            return list(files)
        return [f"video-{number}" for number in range(count)]
    if isinstance(names, str | bytes | Mapping | set | frozenset) or not isinstance(names, Iterable):
        raise DataError(f"names are a list of texts, one a video, got a {type(names).__name__}")
    given = [str(each) if _is_whole(each) else each for each in _plain(names)]
    if len(given) != count:
        raise DataError(f"there are {len(given)} names and {count} scores: give one of each for every video")
    for number, each in enumerate(given):
        if fault := _fault(each):
            raise DataError(f"name {number} is {each!r}, {fault}: give a plain text")
    name, times = Counter(given).most_common(1)[0]
    if times > 1:
        raise DataError(f"the name {name!r} is given {times} times: give every video its own")
    return [str(each) for each in given]


def checked_name(value: Any, argument: str) -> str:
    """Return the name of a dataset or target; DataError if it cannot be the name of a file."""
    if fault := _fault(value):
        raise DataError(f"{argument} is {value!r}, {fault}: give a plain text")
    return str(value)


def checked_clips(clips: Any) -> int:
    """Return the length of a crop; DataError if it is no whole number from 1 up."""
    if not _is_whole(clips) or clips < 1:
        raise DataError(f"clips is the length of a crop, a whole number from 1 up, got {clips!r}")
    return int(clips)


def _fault(name: Any) -> str:
    """Why a text is no name; "" where it is one."""
    if not isinstance(name, str):
        return f"a {type(name).__name__}"
    if not name.strip():
        return "without letters"
    if "/" in name or "\\" in name or name in (".", ".."):
        return "with parts of a path"
    return "" if name.isprintable() else "with control characters"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _number(value: Any, what: str) -> float:
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise DataError(f"{what} is a number, got {value!r}")
    if not math.isfinite(value):
        raise DataError(f"{what} is a finite number, got {value!r}")
    return float(value)


def _values(tensor: Tensor) -> Any:
    if tensor.is_meta:
        raise DataError("scores are on the device meta, which holds no numbers: give a tensor with data")
    tensor = tensor.detach().cpu()
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _plain(values: Iterable[Any]) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray | Tensor) else list(values)
