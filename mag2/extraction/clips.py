"""The clips of a video, a few in memory at a time, as its encoders read them."""

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from mag2.extraction.containers import duration, opened, video_stream
from mag2.extraction.encoder import Encoder
from mag2.extraction.faults import VideoError
from mag2.extraction.pictures import Picture, Pictures, on_grid
from mag2.extraction.sound import Sound
from mag2.extraction.timing import Timing

__all__ = ["Clip", "Clips", "expected_clips"]

# One clip: what each encoder reads of it, by modality.
Clip = dict[str, Tensor]


def expected_clips(path: Path, timing: Timing) -> int:
    """How many clips a file should have by its declared duration; 0 if there is none or the file cannot be read."""
    try:
        with opened(path) as container:
            seconds, _ = duration(container, video_stream(container, path))
    except VideoError:
        return 0
    clips = (seconds or Fraction(0)) / timing.seconds
    return int(clips) if timing.last == "drop" else -int(-clips // 1)


@dataclass
class Clips:
    """The clips of one file, iterated once.

    Args:
        path: of the file.
        timing: which times the clips cover.
        encoders: by modality; "audio" reads sound, all others read pictures.
        silent: the file has no sound; the audio encoder gets silence.

    Attributes:
        notes: a sentence for everything unusual about the file; complete after the last clip.

    Raises:
        VideoError: as `Pictures` and `Sound`, or the video is shorter than one clip.
    """

    path: Path
    timing: Timing
    encoders: Mapping[str, Encoder]
    silent: bool = False
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Generator[Clip, None, None]:
        pictures = Pictures(self.path)
        sound: Sound | None = None
        made = 0
        with closing(self._pictured(pictures)) as filled:
            for clip in filled:
                if "audio" in self.encoders:
                    rate = self.encoders["audio"].rate
                    if sound is None and not self.silent:
                        sound = Sound(self.path, rate, pictures.start or Fraction(0))
                    clip["audio"] = self._audio_window(sound, made, rate)
                yield clip
                made += 1
        end = pictures.end or Fraction(0)
        if sound is not None:
            sound.close(end)
            self.notes += sound.notes
        self.notes += pictures.notes
        if not made:
            raise VideoError(
                f"{self.path} lasts {float(end):.2f} seconds, less than one clip of "
                f"{float(self.timing.seconds):.2f}: give a longer video, or choose last='pad'"
            )

    def _audio_window(self, sound: Sound | None, clip: int, rate: int) -> Tensor:
        """What the audio encoder reads of a clip: exactly the clip's time."""
        length = self.timing.samples(rate)
        window = torch.zeros(length)
        if sound is not None:
            window = torch.from_numpy(sound.window(self.timing.begin(clip, rate), length))
        return self.encoders["audio"].prepare(window)

    def _pictured(self, pictures: Pictures) -> Generator[Clip, None, None]:
        """The pictures of every clip; frames that no encoder reads are not even converted to RGB."""
        views = {key: encoder for key, encoder in self.encoders.items() if key != "audio"}
        places = {key: set(self.timing.spread(encoder.frames)) for key, encoder in views.items()}
        frames: dict[str, list[Tensor]] = {key: [] for key in views}
        latest: Picture | None = None
        seen: dict[str, Tensor] = {}
        count = 0

        def take(place: int, picture: Picture) -> None:
            nonlocal latest, seen
            if picture is not latest:
                latest, seen = picture, {}
            wanted = [key for key in views if place in places[key]]
            missing = [key for key in wanted if key not in seen]
            if missing:
                rgb = torch.from_numpy(pictures.rgb(picture))
                seen |= {key: views[key].prepare(rgb) for key in missing}
            for key in wanted:
                frames[key].append(seen[key])

        def filled() -> Clip:
            clip = {key: torch.stack(part) for key, part in frames.items()}
            for part in frames.values():
                part.clear()
            return clip

        for picture in on_grid(pictures, self.timing.step):
            take(count, picture)
            count += 1
            if count == self.timing.frames:
                yield filled()
                count = 0
        if count and self.timing.last == "pad" and latest is not None:
            for place in range(count, self.timing.frames):
                take(place, latest)
            yield filled()
