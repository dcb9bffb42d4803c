"""Which videos train and which test: given as lists, a mask or shares; groups stay whole."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mag2.data.errors import DataError

__all__ = ["Split", "checked_groups", "checked_seed", "group_numbers", "make_split"]

Index = NDArray[np.int64]
_FORMS = "the share of the videos for testing, a mask that is true for them, or two lists of indices (train, test)"


@dataclass(frozen=True)
class Split:
    """The videos of each part, as indices."""

    train: Index
    test: Index
    validation: Index | None = None

    @property
    def parts(self) -> dict[str, Index]:
        """The parts that there are, by name, train first."""
        between = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, **between, "test": self.test}

    @property
    def used(self) -> Index:
        """All videos of any part, ascending."""
        return np.sort(np.concatenate(list(self.parts.values())))


def make_split(split: Any, count: int, groups: Sequence[Any] | None = None, seed: int = 0) -> Split:
    """Return the split of `count` videos that an argument describes (`Dataset.from_arrays` lists its forms).

    Raises:
        DataError: it has another form, leaves a part empty, has a video twice or one that does not exist, or divides a
            group.
    """
    checked_seed(seed)
    shares = _shares(split)
    if shares is not None:
        made = _drawn(shares, count, groups, seed)
        _check_ranked(made)
        return made
    made = Split(**_listed(split, count))
    _check_parts(made, count)
    _check_ranked(made)
    if groups is not None:
        _check_groups(made, groups)
    left = count - len(made.used)
    if left:
        warnings.warn(f"{left} of {count} videos are in no part of the split and are left out", stacklevel=5)
    return made


def checked_groups(groups: Any, count: int) -> list[Any] | None:
    """A group for each of so many videos; None where there are none.

    Raises:
        DataError: not one for each, or a group that is none (None, NaN) or cannot be compared.
    """
    if groups is None:
        return None
    what = "groups are a list, for each video what it belongs to"
    if isinstance(groups, str | bytes | Mapping | set | frozenset) or not isinstance(groups, Iterable):
        raise DataError(f"{what}, got a {type(groups).__name__}")
    listed = groups.tolist() if isinstance(groups, np.ndarray | Tensor) else list(groups)
    if len(listed) != count:
        raise DataError(f"there are {len(listed)} groups and {count} videos: give one group for every video")
    for number, group in enumerate(listed):
        if isinstance(group, np.generic):
            listed[number] = group = group.item()
        if group is None or isinstance(group, Tensor | np.ndarray) or not _is_hashable(group) or group != group:
            raise DataError(f"{what}, and entry {number} is {group!r}: give a text or a number")
    return listed


def group_numbers(groups: Sequence[Any] | None, count: int) -> Index:
    """The group of each video as a number from 0 up, in the order of their first videos; without groups its own."""
    if groups is None:
        return np.arange(count)
    known = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.asarray([known[group] for group in groups], dtype=np.int64)


def checked_seed(seed: Any) -> int:
    """A seed; DataError where it is no whole number from 0 up."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise DataError(f"a seed is a whole number from 0 up, got {seed!r}")
    return int(seed)


def _shares(split: Any) -> dict[str, float] | None:
    """The share of each part, where the argument gives shares."""
    if isinstance(split, Tensor | np.ndarray):
        split = split.tolist()
    if _is_number(split):
        if isinstance(split, int | np.integer) or not 0 < split < 1:
            raise DataError(f"split={split!r} is no share between 0 and 1: give {_FORMS}")
        return {"train": 1 - float(split), "test": float(split)}
    named = dict(split) if isinstance(split, Mapping) else None
    values = list(named.values()) if named is not None else split
    if not isinstance(values, list | tuple) or not values or not all(map(_is_number, values)):
        return None
    if all(isinstance(value, int | np.integer) for value in values):
        raise DataError(f"split is one list of whole numbers: give {_FORMS}")
    shares = _named(named if named is not None else values)
    if not all(0 < share < 1 for share in shares.values()) or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise DataError(f"the shares of a split lie between 0 and 1 and add up to 1, got {list(shares.values())}")
    return {name: float(share) for name, share in shares.items()}


def _named(parts: Any) -> dict[str, Any]:
    """Two or three parts by their names."""
    if isinstance(parts, Mapping):
        if not {"train", "test"} <= set(parts) <= {"train", "validation", "test"}:
            raise DataError(f"a split has train, test and perhaps validation, got {', '.join(map(str, parts))}")
        return dict(parts)
    if len(parts) not in (2, 3):
        raise DataError(f"split has {len(parts)} parts: give {_FORMS}; validation may stand between the two")
    names = ("train", "test") if len(parts) == 2 else ("train", "validation", "test")
    return dict(zip(names, parts, strict=True))


def _listed(split: Any, count: int) -> dict[str, Index]:
    """The indices of each part, from a mask or from lists."""
    if isinstance(split, Tensor):
        split = split.cpu().numpy()
    if isinstance(split, str | bytes | set | frozenset) or not isinstance(split, Iterable):
        raise DataError(f"split is a {type(split).__name__}: give {_FORMS}")
    if not isinstance(split, Mapping):
        split = list(split)
        if split and all(isinstance(each, bool | np.bool_) for each in split):
            testing = _mask(split, count, "split")
            return {"train": np.flatnonzero(~testing), "test": np.flatnonzero(testing)}
    return {name: _indices(part, count, name) for name, part in _named(split).items()}


def _indices(part: Any, count: int, name: str) -> Index:
    if isinstance(part, Tensor):
        part = part.cpu().numpy()
    if isinstance(part, str | bytes | Mapping | set | frozenset) or not isinstance(part, Iterable):
        raise DataError(f"the {name} part of the split is a {type(part).__name__}: give a list of indices")
    values = list(part)
    if values and all(isinstance(each, bool | np.bool_) for each in values):
        return np.flatnonzero(_mask(values, count, f"the {name} part of the split"))
    if not all(isinstance(each, int | np.integer) and not isinstance(each, bool) for each in values):
        odd = next(each for each in values if isinstance(each, bool) or not isinstance(each, int | np.integer))
        raise DataError(f"the {name} part of the split holds {odd!r}: give indices, whole numbers from 0 up")
    outside = [int(each) for each in values if not 0 <= each < count]
    if outside:
        raise DataError(f"the {name} part of the split names video {outside[0]}: there are videos 0 to {count - 1}")
    return np.asarray(values, dtype=np.int64)


def _mask(values: Sequence[Any], count: int, what: str) -> NDArray[np.bool_]:
    if len(values) != count:
        raise DataError(f"{what} is a mask of {len(values)} and there are {count} videos: give one entry for each")
    return np.asarray(values, dtype=bool)


def _check_parts(split: Split, count: int) -> None:
    seen: dict[int, str] = {}
    for name, part in split.parts.items():
        if not len(part):
            raise DataError(f"the split leaves {name} without videos ({count} in all): put one or more there")
        for video in part.tolist():
            if video in seen:
                where = "twice" if seen[video] == name else f"and in {seen[video]}"
                raise DataError(f"video {video} is in {name} {where}: keep it in one place")
            seen[video] = name


def _check_ranked(split: Split) -> None:
    for name, part in split.parts.items():
        if len(part) == 1 and name != "train":
            raise DataError(
                f"the split has one video in {name}, and a rank correlation compares two or more: put more there"
            )


def _check_groups(split: Split, groups: Sequence[Any]) -> None:
    place: dict[Any, str] = {}
    for name, part in split.parts.items():
        for video in part.tolist():
            if place.setdefault(groups[video], name) != name:
                raise DataError(
                    f"the split tears group {groups[video]!r} apart, into {place[groups[video]]} and {name}: "
                    f"keep a group in one part"
                )


def _drawn(shares: Mapping[str, float], count: int, groups: Sequence[Any] | None, seed: int) -> Split:
    """Draw the parts; whole groups come as near to the shares as they can."""
    numbers = group_numbers(groups, count)
    sizes = np.bincount(numbers)
    if len(sizes) < len(shares):
        what = "videos" if groups is None else "groups"
        raise DataError(f"{len(sizes)} {what} cannot be split in {len(shares)} parts: give more, or lists of indices")
    left = np.random.default_rng(seed).permutation(len(sizes)).tolist()
    parts: dict[str, Index] = {}
    wanted = [name for name in ("test", "validation") if name in shares]
    for place, name in enumerate(wanted):
        target = shares[name] * count
        after = len(wanted) - place  # parts that come later need a group each
        chosen = _nearest(left, sizes, target, len(left) - after, always=groups is not None)
        if not chosen:
            raise DataError(
                f"a share of {shares[name]:g} of {count} videos leaves {name} without any: "
                f"give {1 / count:.2g} or more, or lists of indices"
            )
        left = [group for group in left if group not in chosen]
        parts[name] = np.flatnonzero(np.isin(numbers, list(chosen)))
    return Split(train=np.flatnonzero(np.isin(numbers, left)), **parts)


def _nearest(left: Sequence[int], sizes: Index, target: float, most: int, *, always: bool) -> set[int]:
    """Groups, in their order, whose sizes add up to near the target; one `always`, the one nearest to it."""
    chosen: set[int] = set()
    total = 0
    for group in left:
        if len(chosen) < most and abs(total + sizes[group] - target) <= abs(total - target):
            chosen.add(group)
            total += int(sizes[group])
    if not chosen and always:
        chosen.add(min(left, key=lambda group: abs(sizes[group] - target)))
    return chosen


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)
