"""Videos that tests make: lossless pictures and sound, so that what a clip shows is exactly what was drawn."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = (48, 32)  # width, height


def flat(level: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A grey picture (H, W, 3)."""
    return np.full((size[1], size[0], 3), level, np.uint8)


def tone(seconds: float, begin: float, end: float, rate: int = 16_000) -> NDArray[np.float32]:
    """Sound (S,) that is silent but for a tone of 440 Hz."""
    times = np.arange(round(seconds * rate)) / rate
    return np.where((times >= begin) & (times < end), 0.5 * np.sin(2 * np.pi * 440 * times), 0).astype(np.float32)


def write_video(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    fps: float | Fraction = 25,
    times: Sequence[int] | None = None,
    sound: NDArray[np.float32] | None = None,
    rate: int = 16_000,
    sound_at: float = 0,
    codec: str = "ffv1",
    sound_codec: str = "pcm_f32le",
    pix_fmt: str = "bgr0",
    options: dict[str, str] | None = None,
    file_options: dict[str, str] | None = None,
    rotation: tuple[Any, ...] | None = None,
    gop: int | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Write a video, of pictures (H, W, 3) at a frame rate or at times in milliseconds, and of mono or stereo sound."""
    import av

    with av.open(str(path), "w", options=file_options or {}) as file:
        stream: Any = None
        audio: Any = None
        if sound is not None:
            audio = file.add_stream(sound_codec, rate=rate, layout="mono" if sound.ndim == 1 else "stereo")
        for number, picture in enumerate(pictures):
            if stream is None:
                shown = Fraction(1000) if times is not None else Fraction(fps).limit_denominator(1001)
                stream = file.add_stream(codec, rate=shown, options=options or {})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = pix_fmt
                if gop is not None:
                    stream.gop_size = gop
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
                if rotation is not None:
                    stream.set_display_rotation(*rotation)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if times is None else times[number]
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if sound is not None:
            write_sound(file, audio, sound, rate, sound_at)
    return path


def write_sound(file: Any, stream: Any, sound: NDArray[np.float32], rate: int, at: float, flush: bool = True) -> None:
    """Encode sound (S,), or (2, S) of two channels, that begins at a time in seconds."""
    import av

    sound = np.atleast_2d(sound)
    for begin in range(0, sound.shape[1], 1024):
        part = np.ascontiguousarray(sound[:, begin : begin + 1024])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), begin + round(at * rate)
        file.mux(stream.encode(frame))
    if flush:
        file.mux(stream.encode())
