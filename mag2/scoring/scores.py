"""The scores of performances in the target's units, with intervals, contributions of clips, grades and notes."""

import math
import operator
from dataclasses import asdict, dataclass, field
from typing import Any, SupportsIndex

from mag2.saving.sentences import nearest_name
from mag2.scoring.conformal import Interval

__all__ = ["NamedAction", "Score", "Scores"]


@dataclass(frozen=True)
class NamedAction:
    """The action text that is most similar to a clip, by a similarity from outside the model."""

    action: str
    similarity: float


@dataclass(frozen=True, repr=False)
class Score:
    """The score of one performance.

    Attributes:
        name: of the performance.
        score: in the target's units; the mean over seeds if there are several.
        by_seed: the score by the model of each seed, in the order of the seeds.
        low, high: the ends of the interval, in the target's units; None without one. They may be outside the scale.
        clips: number of clips that were scored.
        of: number of clips of the performance; the scored ones are its centre crop.
        first: number of the first scored clip, from 0.
        contributions: method -> the contribution of each scored clip, in the target's units.
        grades: weights that the model gives its grades, worst grade first, by the branch: "visual", "audio_visual" or
            "grades"; empty for models without grades.
        seconds: beginning and end of each scored clip in seconds; None where they are not known.
        actions: the most similar action of each scored clip; None without a similarity from outside the model.
    """

    name: str
    score: float
    by_seed: tuple[float, ...]
    low: float | None
    high: float | None
    clips: int
    of: int
    first: int
    contributions: dict[str, list[float]] = field(default_factory=dict)
    grades: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[tuple[float, float]] | None = None
    actions: list[NamedAction] | None = None

    def __repr__(self) -> str:
        return f"Score({self.name!r}, {self.score:.4g})"

    @property
    def spread(self) -> float | None:
        """The sample standard deviation over seeds; None for a single seed."""
        if len(self.by_seed) < 2:
            return None
        mean = sum(self.by_seed) / len(self.by_seed)
        return math.sqrt(sum((each - mean) ** 2 for each in self.by_seed) / (len(self.by_seed) - 1))

    def clip_label(self, clip: int) -> str:
        """Return a scored clip in words: its number in the video from 1, its seconds and its action, if known."""
        parts = [f"clip {self.first + clip + 1}"]
        if self.seconds is not None:
            begin, end = self.seconds[clip]
            parts.append(f"{begin:.1f} to {end:.1f} s")
        if self.actions is not None:
            parts.append(f"most like {self.actions[clip].action!r}")
        return ", ".join(parts)


@dataclass(frozen=True, repr=False)
class Scores:
    """The scores of several performances for one target, by one model or by several seeds of it.

    Attributes:
        model: name of the model.
        data: the data that it was trained on, for example "simulated FS1000".
        target, scale: of the scores.
        seeds: of the trainings.
        performances: the score of each performance.
        interval: the interval around every score; None where there are too few test videos.
        notes: sentences to show with the numbers.

    Raises:
        KeyError: ``scores[name]`` with an unknown name.
    """

    model: str
    data: str
    target: str
    scale: float
    seeds: tuple[int | None, ...]
    performances: tuple[Score, ...]
    interval: Interval | None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.performances)

    def __iter__(self) -> Any:
        return iter(self.performances)

    def __getitem__(self, name: SupportsIndex | str) -> Score:
        """Return the score of a performance by its number or its name.

        Raises:
            KeyError: no performance of that name. IndexError: no number of one. TypeError: neither number nor name.
        """
        count = len(self.performances)
        if isinstance(name, str):
            found = next((each for each in self.performances if each.name == name), None)
            if found is None:
                names = [each.name for each in self.performances]
                more = f" and {count - MOST_NAMES} more" if count > MOST_NAMES else ""
                near = nearest_name(name, names)
                hint = "" if near is None else f"; the nearest is {near!r}"
                listed = ", ".join(map(repr, names[:MOST_NAMES]))
                raise KeyError(f"there is no performance {name!r}; there are {listed}{more}{hint}")
            return found
        try:
            number = operator.index(name)
        except TypeError:
            raise TypeError(f"a performance is chosen by number or name, got a {type(name).__name__}") from None
        if not -count <= number < count:
            raise IndexError(f"there is no performance {number}; there are {count}, from 0 to {count - 1}")
        return self.performances[number]

    def __repr__(self) -> str:
        return f"Scores({self.target} by {self.model}, {len(self)} performances)"

    @property
    def plain(self) -> dict[str, Any]:
        """All values by name, for JSON; numbers that are not finite are None."""
        return _finite(asdict(self))

    def __str__(self) -> str:
        seeds = f", seeds {', '.join(map(str, self.seeds))}" if len(self.seeds) > 1 else ""
        lines = [f"{self.target} by {self.model}, trained on {self.data}{seeds}"]
        for each in self.performances:
            lines += ["", *_sentences(each)]
        return "\n".join([*lines, "", *self.notes])


MOST_NAMES = 12  # performances that an error names
SHOWN = 3  # clips of each kind that a summary names


def _sentences(score: Score) -> list[str]:
    interval = "" if score.low is None else f", interval {score.low:.4g} to {score.high:.4g}"
    spread = "" if score.spread is None else f", spread of seeds {score.spread:.2g}"
    lines = [f"{score.name}: {score.score:.4g}{interval}{spread} ({score.clips} of {score.of} clips)"]
    for kind, weights in score.grades.items():
        shown = " ".join(f"{weight:.2f}" for weight in weights)
        lines.append(f"  {kind.replace('_', '-')} grades, worst to best: {shown}")
    for method, values in score.contributions.items():
        order = sorted((value, clip) for clip, value in enumerate(values) if not math.isnan(value))
        for what, some in (("raise", order[::-1][:SHOWN]), ("lower", order[:SHOWN])):
            named = [
                f"{score.clip_label(clip)} ({value:+.3g})" for value, clip in some if (value > 0) == (what == "raise")
            ]
            if named:
                lines.append(f"  clips that {what} it most, by {method}: {'; '.join(named)}")
    return lines


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
