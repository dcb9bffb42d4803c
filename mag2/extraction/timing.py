"""Which part of a video each clip covers."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor

__all__ = ["LAST", "MOST_FRAMES", "RATES", "Timing"]

LAST = ("drop", "pad")
MOST_FRAMES = 10_000  # of a clip
RATES = (0.1, 1000)  # the least and the greatest number of frames a second


@dataclass(frozen=True)
class Timing:
    """Clips that follow each other without overlap: clip k covers k * seconds up to (k + 1) * seconds.

    Time 0 is the first frame that is shown. All times are exact fractions, so that nothing drifts in a long video.

    Args:
        frames: the number of frames of a clip; 32 as in the released Video Swin features.
        fps: frames of a clip in a second; 25 as in the released features.
        last: what to do with the end of a video that does not fill a clip: "drop" leaves it out, "pad" fills the clip
            with the last frame, and with silence where the sound has ended.

    Raises:
        ValueError: a number out of range, or another word for `last`.
    """

    frames: int = 32
    fps: float | Fraction = 25
    last: str = "drop"

    def __post_init__(self) -> None:
        if isinstance(self.frames, bool) or not isinstance(self.frames, int) or not 1 <= self.frames <= MOST_FRAMES:
            raise ValueError(f"frames is the number of frames of a clip, 1 to {MOST_FRAMES}, got {self.frames!r}")
        if not isinstance(self.fps, int | float | Fraction) or not RATES[0] <= self.fps <= RATES[1]:
            raise ValueError(f"fps is the number of frames a second, {RATES[0]} to {RATES[1]}, got {self.fps!r}")
        if self.last not in LAST:
            raise ValueError(f"last is {' or '.join(map(repr, LAST))}, got {self.last!r}")
        object.__setattr__(self, "fps", _rate(self.fps))

    @property
    def step(self) -> Fraction:
        """Seconds from one frame of a clip to the next."""
        return 1 / Fraction(self.fps)

    @property
    def seconds(self) -> Fraction:
        """How long a clip is."""
        return self.frames * self.step

    def samples(self, rate: int) -> int:
        """Sound samples of a clip, rounded to a whole number."""
        return round(self.seconds * rate)

    def begin(self, clip: int, rate: int) -> int:
        """The sample at which a clip begins, rounded to the nearest one."""
        return round(clip * self.seconds * rate)

    def spread(self, count: int | None) -> list[int]:
        """The frames that an encoder of `count` frames reads of a clip: the middle ones of `count` equal parts."""
        if count is None:
            return list(range(self.frames))
        return [floor(Fraction(2 * i + 1, 2) * self.frames / count) for i in range(count)]


def _rate(fps: float | Fraction) -> Fraction:
    """The exact rate for a rounded one: 23.976, 29.97 and 59.94 are 24000, 30000 and 60000 / 1001."""
    if isinstance(fps, float):
        broadcast = Fraction(1000 * round(fps * 1.001), 1001)
        if abs(broadcast - Fraction(fps)) < Fraction(1, 1000):
            return broadcast
    return Fraction(fps).limit_denominator(1001)
