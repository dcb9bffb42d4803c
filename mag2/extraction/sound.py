"""The sound of a video as mono samples on the time of its pictures."""

from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mag2.extraction.containers import Damage, decoded, opened, sound_stream
from mag2.extraction.faults import VideoError, reason

__all__ = ["Sound", "has_sound"]

# A frame of sound whose time stamp is off by more, in seconds, has a gap or an overlap before it.
JITTER = Fraction(1, 25)


def has_sound(path: Path) -> bool:
    """Whether a file has a stream of sound of which at least one frame can be decoded."""
    with opened(path) as container:
        stream = sound_stream(container)
        return stream is not None and next(decoded(container, stream, Damage()), None) is not None


class Sound:
    """The sound of one file. It is decoded when a window needs it; earlier samples are released.

    Gaps in the sound, and the times before it begins and after it ends, are silence.

    Args:
        path: of the file.
        rate: samples a second to convert to.
        start: the time stamp of the first picture in seconds; sample 0 is there.
    """

    def __init__(self, path: Path, rate: int, start: Fraction):
        self.path, self.rate, self.start = path, rate, start
        self.notes: list[str] = []
        self._damage = Damage()
        self._ended = False
        self._pieces = self._converted()
        self._held: list[NDArray[np.float32]] = []
        self._begin = self._end = 0  # of what is held, in samples
        self._first: int | None = None  # where sound begins

    def window(self, begin: int, length: int) -> NDArray[np.float32]:
        """Samples `begin` to `begin + length`, in [-1, 1]; windows are taken in order and do not overlap.

        Raises:
            VideoError: the sound is damaged, or cannot be mixed to one channel.
        """
        while self._end < begin + length:
            piece = next(self._pieces, None)
            if piece is None:
                self._ended = True
                break
            self._held.append(piece)
            self._end += len(piece)
        held = np.concatenate(self._held) if self._held else np.zeros(0, np.float32)
        taken = held[max(0, begin - self._begin) : max(0, begin + length - self._begin)]
        window = np.zeros(length, np.float32)
        window[: len(taken)] = taken
        rest = held[max(0, begin + length - self._begin) :].copy()
        self._held, self._begin = [rest], self._end - len(rest)
        return window

    def close(self, end: Fraction) -> None:
        """Close the file, and note which part of the pictures has no sound; they end at `end` seconds.

        Raises:
            VideoError: too much of the sound is damaged.
        """
        self._pieces.close()
        note = self._damage.summary(self.path, "sound")
        if note is not None:
            self.notes.append(note.replace("what came before is repeated", "silence is taken"))
        first = Fraction(self._first or 0, self.rate)
        last = Fraction(self._end, self.rate) if self._ended else end
        if first > 1 or end - last > 1:
            self.notes.append(
                f"its sound covers {float(first):.1f} to {float(min(last, end)):.1f} of {float(end):.1f} seconds; "
                f"the rest was taken as silence"
            )

    def _converted(self) -> Generator[NDArray[np.float32], None, None]:
        """Pieces of samples (n,) that follow each other from sample 0 on."""
        with opened(self.path) as container:
            stream = sound_stream(container)
            if stream is not None:
                with closing(self._placed(decoded(container, stream, self._damage))) as pieces:
                    yield from pieces

    def _placed(self, frames: Iterator[Any]) -> Generator[NDArray[np.float32], None, None]:
        """The samples of all frames, each run of frames without a gap at the sample that its time stamp says."""
        made = 0
        run: _Run | None = None
        for frame in frames:
            if run is None or not run.continues(frame):
                if run is not None:
                    for piece in run.rest():
                        made += len(piece)
                        yield piece
                run = _Run(frame, self.rate, self.path)
                at = round((run.begin - self.start) * self.rate) if frame.pts is not None else made
                if self._first is None:
                    self._first = max(0, at)
                while made < at:  # a gap may be long
                    silence = np.zeros(min(self.rate, at - made), np.float32)
                    made += len(silence)
                    yield silence
                run.leave_out(made - at)
            for piece in run.converted(frame):
                made += len(piece)
                yield piece
        if run is not None:
            yield from run.rest()


class _Run:
    """Converts frames of sound that follow each other without a gap and have one format."""

    def __init__(self, frame: Any, rate: int, path: Path):
        from av import AudioResampler

        self.path = path
        self.begin = frame.pts * frame.time_base if frame.pts is not None else Fraction(0)
        self._format = _format(frame)
        self._timed = frame.pts is not None
        self._source, self._samples = 0, frame.sample_rate
        self._out = 0  # samples to leave out
        # 16 bits as in a WAV file that FFmpeg writes; to float it would mix channels with another, louder, weight.
        self._resampler = AudioResampler(format="s16", layout="mono", rate=rate)

    def continues(self, frame: Any) -> bool:
        """Whether a frame follows what was converted so far."""
        if _format(frame) != self._format:
            return False
        if frame.pts is None or not self._timed:
            return True
        due = self.begin + Fraction(self._source, self._samples)
        return abs(frame.pts * frame.time_base - due) <= JITTER

    def leave_out(self, samples: int) -> None:
        """Leave out that many samples at the beginning of the run."""
        self._out = samples

    def converted(self, frame: Any) -> Iterator[NDArray[np.float32]]:
        """The samples that a frame gives; the converter holds a few back."""
        self._source += frame.samples
        frame.pts = None  # by times the converter would fill gaps, and a run has none
        yield from self._resampled(frame)

    def rest(self) -> Iterator[NDArray[np.float32]]:
        """What the converter still holds."""
        yield from self._resampled(None)

    def _resampled(self, frame: Any) -> Iterator[NDArray[np.float32]]:
        import av

        try:
            pieces = self._resampler.resample(frame)
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(
                f"{self.path} has sound that cannot be mixed to one channel ({reason(error)}): convert it to stereo"
            ) from None
        for piece in pieces:
            samples = piece.to_ndarray().reshape(-1)
            kept = samples[self._out :]
            self._out -= len(samples) - len(kept)
            if len(kept):
                yield kept.astype(np.float32) / np.float32(32768)


def _format(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
