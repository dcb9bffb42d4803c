"""A video file opened with FFmpeg (PyAV): its streams, and the frames of one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from mag2.extraction.faults import VideoError, needed, reason

__all__ = ["Damage", "decoded", "duration", "opened", "sound_stream", "stream_end", "video_stream"]

# More broken packets than this share are too many to go on.
MOST_BROKEN = 0.05


@dataclass
class Damage:
    """How much of a stream could not be read."""

    packets: int = 0
    broken: int = 0
    concealed: int = 0

    def summary(self, path: Path, what: str) -> str | None:
        """One sentence about what was lost, or None.

        Raises:
            VideoError: too much was.
        """
        lost = f"{self.broken} of {self.packets} packets of its {what} cannot be decoded"
        if self.broken > MOST_BROKEN * self.packets:
            raise VideoError(f"{path} is damaged, {lost}: give a whole copy of it")
        if self.broken or self.concealed:
            return f"{lost} and {self.concealed} frames are damaged; what came before is repeated there"
        return None


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The container of a file, inside a `with`. Files and addresses that it refers to are not opened.

    Raises:
        VideoError: no such file, or none that FFmpeg reads.
    """
    av = needed("av")
    if path.is_dir():
        raise VideoError(f"{path} is a folder: give a video file")
    if not path.is_file():
        raise VideoError(f"there is no video {path}: give the path of a file")
    if not path.stat().st_size:
        raise VideoError(f"{path} is empty: copy or download it again")
    try:
        # "file:" keeps a colon in the name from being read as a protocol.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"{path} cannot be read ({reason(error, path)}): give a whole video file") from None
    with container:
        yield container


def video_stream(container: Any, path: Path) -> Any:
    """The stream of pictures that a player would show.

    Raises:
        VideoError: there is none, or none that FFmpeg decodes. Texts, still pictures and cover pictures do not count.
    """
    from av.stream import Disposition

    kind = container.format.name
    if kind in ("tty", "image2") or kind.endswith("_pipe"):  # FFmpeg shows texts and pictures as videos
        raise VideoError(f"{path} is a text or a still picture: give a video")
    cover = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise VideoError(f"{path} has no pictures: give a video")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise VideoError(f"{path} has pictures in a format that FFmpeg does not decode: convert it to H.264")
    stream.thread_type = "AUTO"
    return stream


def sound_stream(container: Any) -> Any | None:
    """The stream of sound that a player would play; None where there is none that FFmpeg decodes."""
    stream = container.streams.best("audio") if container.streams.audio else None
    return None if stream is None or stream.codec_context is None else stream


def decoded(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """The frames of a stream in the order in which they are shown.

    Damaged frames and broken packets are counted; the latter are left out.
    """
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:  # the file breaks off, or its structure does
            damage.packets += 1
            damage.broken += 1
            return
        if packet is None:
            return
        damage.packets += 1
        try:
            frames = packet.decode()
        except av.FFmpegError:
            damage.broken += 1
            continue
        for frame in frames:
            damage.concealed += bool(frame.is_corrupt)
            yield frame


def duration(container: Any, stream: Any) -> tuple[Fraction | None, bool]:
    """How many seconds a stream lasts as the file declares it, or None; and whether the stream itself declares it.

    Otherwise it is the duration of the whole file, in which another stream may be longer.
    """
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * stream.time_base, True
    if container.duration is not None:
        return Fraction(container.duration, 1_000_000), False
    return None, False


def stream_end(path: Path) -> Fraction | None:
    """Seconds from the first packet of any stream to the end of the last one, without decoding anything."""
    import av

    first: Fraction | None = None
    last: Fraction | None = None
    with opened(path) as container:
        packets = container.demux()
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                break
            if packet is None:
                break
            if packet.pts is None or packet.time_base is None:
                continue
            begin = packet.pts * packet.time_base
            end = begin + (packet.duration or 0) * packet.time_base
            first = begin if first is None else min(first, begin)
            last = end if last is None else max(last, end)
    return None if first is None or last is None else last - first
