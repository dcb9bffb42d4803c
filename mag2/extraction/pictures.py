"""The pictures of a video as a player shows them: upright, whole, in square pixels, each with its time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mag2.extraction.containers import Damage, decoded, duration, opened, stream_end, video_stream
from mag2.extraction.deinterlacing import deinterlaced
from mag2.extraction.faults import VideoError, reason

__all__ = ["Picture", "Pictures", "on_grid"]

# Containers round times, Matroska to whole milliseconds; a frame that is a millisecond late is on time.
ROUNDING = Fraction(1, 1000)
# A file that ends this many seconds before the time that it declares was cut off.
CUT_OFF = 1
# A picture that stays longer, in seconds, is a sign of broken times.
LONGEST = 60
# So is a frame whose time is earlier than that of the frame before by more than this, in seconds.
BACKWARDS = 1


@dataclass(frozen=True)
class Picture:
    """A decoded frame and the seconds from and to which it is shown, counted from the first one."""

    time: Fraction
    end: Fraction
    frame: Any


class Pictures:
    """The pictures of one file; iterate once. They are decoded during the iteration, and few are in memory at a time.

    Attributes:
        start: the time stamp of the first picture in seconds, by which the sound is aligned; None before it is read.
        end: when the last picture ends, in seconds from the first; None before it is read.
        notes: a sentence for everything unusual about the file; complete after the last picture.

    Raises:
        VideoError: no such file, no pictures in it, a file that is cut off or damaged, or broken times.
    """

    def __init__(self, path: Path):
        self.path = path
        self.start: Fraction | None = None
        self.end: Fraction | None = None
        self.notes: list[str] = []
        self._orientation = (False, False, False)
        self._size = (0, 0)

    def __iter__(self) -> Iterator[Picture]:
        damage = Damage()
        with opened(self.path) as container:
            stream = video_stream(container, self.path)
            frames = self._measured(decoded(container, stream, damage), stream)
            yield from self._timed(deinterlaced(frames, stream, self.notes), stream)
            declared, own = duration(container, stream)
        if self.end is None:
            raise VideoError(f"{self.path} has no picture that can be decoded: give a whole copy of it")
        note = damage.summary(self.path, "pictures")
        if note is not None:
            self.notes.append(note)
        self._check_whole(declared, own)

    def rgb(self, picture: Picture) -> NDArray[np.uint8]:
        """The picture upright and in square pixels (H, W, 3)."""
        import av

        width, height = self._size
        try:
            frame = picture.frame.reformat(width=width, height=height, format="rgb24")
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(
                f"{self.path} has pictures that cannot be converted to RGB ({reason(error)}): convert it to H.264"
            ) from None
        array = frame.to_ndarray()
        transposed, mirrored, upside_down = self._orientation
        if transposed:
            array = array.swapaxes(0, 1)
        return np.ascontiguousarray(array[:: -1 if upside_down else 1, :: -1 if mirrored else 1])

    def _measured(self, frames: Iterable[Any], stream: Any) -> Iterator[Any]:
        """The frames as they are; the first one sets the orientation and the size of all pictures."""
        first, changed = (0, 0), False
        for frame in frames:
            if self._size == (0, 0):
                self._orientation = self._turned(frame)
                shape = stream.sample_aspect_ratio or Fraction(1)
                if not Fraction(1, 4) <= shape <= 4:
                    self.notes.append(f"it declares pixels of {shape} times their height; they were taken as square")
                    shape = Fraction(1)
                self._size = (max(1, round(frame.width * shape)), frame.height)
                first = (frame.width, frame.height)
            elif first != (frame.width, frame.height) and not changed:
                changed = True
                self.notes.append("its picture size changes; all were scaled to the first")
            yield frame

    def _turned(self, frame: Any) -> tuple[bool, bool, bool]:
        """Whether to transpose a picture, then to mirror it, then to turn it upside down.

        The display matrix sends a point (x, y) of the stored picture to (a x + c y, b x + d y).
        """
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return False, False, False
        a, b, _, c, d = (int(number) for number in np.frombuffer(bytes(data), dtype=np.int32)[:5])
        transposed = abs(b) + abs(c) > abs(a) + abs(d)
        if transposed:
            a, b, c, d = c, d, a, b
        if max(abs(b), abs(c)) > 0.1 * max(abs(a), abs(d)):
            self.notes.append("its display matrix turns by no quarter turn; the nearest one was applied")
        orientation = (transposed, a < 0, d < 0)
        if any(orientation):
            self.notes.append("it is stored turned or mirrored; its display matrix was applied")
        return orientation

    def _timed(self, frames: Iterable[Any], stream: Any) -> Iterator[Picture]:
        """Give each frame the time it is shown from and to."""
        rate = stream.average_rate or stream.guessed_rate
        current: Any = None
        time = Fraction(0)
        spacing = _Spacing()
        for frame in frames:
            if self.start is None:
                self.start = Fraction(0) if frame.pts is None else frame.pts * frame.time_base
            following = self._time(frame, time if current is not None else None, rate)
            if current is not None:
                self._check_times(time, following)
                following = max(time, following)
                spacing.add(following - time)
                yield Picture(time, following, current)
            current, time = frame, following
        if current is None:
            return
        length = (current.duration or 0) * current.time_base if current.time_base else Fraction(0)
        self.end = time + (length or spacing.latest or (1 / rate if rate else Fraction(1, 25)))
        if spacing.varies():
            self.notes.append(f"its frame rate varies ({spacing}); frames were taken by their times")
        yield Picture(time, self.end, current)

    def _time(self, frame: Any, previous: Fraction | None, rate: Fraction | None) -> Fraction:
        if frame.pts is not None:
            return frame.pts * frame.time_base - (self.start or 0)
        if previous is None:
            return Fraction(0)
        if not rate:
            raise VideoError(f"{self.path} has frames without times and no frame rate: convert it to MP4")
        note = f"frames have no times; {float(rate):g} frames a second were assumed"
        if note not in self.notes:
            self.notes.append(note)
        return previous + 1 / rate

    def _check_times(self, time: Fraction, following: Fraction) -> None:
        if following - time > LONGEST or time - following > BACKWARDS:
            raise VideoError(
                f"{self.path} has times that jump from {float(time):.2f} to {float(following):.2f} seconds: "
                f"join or convert it again"
            )

    def _check_whole(self, declared: Fraction | None, own: bool) -> None:
        """Refuse a file that ends long before its declared end."""
        if declared is None or self.end is None or declared - self.end <= CUT_OFF:
            return
        there: Fraction | None = self.end
        if not own:  # another stream may last as long as the file says
            there = stream_end(self.path)
        if there is not None and declared - there > CUT_OFF:
            raise VideoError(
                f"{self.path} is cut off, {float(there):.1f} of {float(declared):.1f} seconds are there: "
                f"give a whole copy, or rewrite what there is with ffmpeg -i IN -c copy OUT"
            )


class _Spacing:
    """How far apart frames are."""

    def __init__(self) -> None:
        self.latest = Fraction(0)
        self._least: Fraction | None = None
        self._most = Fraction(0)

    def add(self, seconds: Fraction) -> None:
        if seconds > 0:
            self.latest = seconds
            self._least = seconds if self._least is None else min(self._least, seconds)
            self._most = max(self._most, seconds)

    def varies(self) -> bool:
        """Whether they differ by more than rounding does."""
        least = self._least or Fraction(0)
        return self._most - least > 2 * ROUNDING and self._most > Fraction(5, 4) * least

    def __str__(self) -> str:
        return f"{1000 * float(self._least or 0):.0f} to {1000 * float(self._most):.0f} ms between frames"


def on_grid(pictures: Iterable[Picture], step: Fraction) -> Iterator[Picture]:
    """The pictures that are shown at the times 0, step, 2 step, ... until the video ends.

    A picture that is shown for long is given several times; one that is shown between two of these times, never.
    """
    index = 0
    for picture in pictures:
        while index * step < picture.end - ROUNDING:
            yield picture
            index += 1
