"""What `extract` costs beyond decoding: a video is read, prepared and windowed for encoders that compute nothing.

The video is made here: H.264 with AAC sound, 640 x 360, 30 frames a second, so that every clip is resampled.
"""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.measuring import Comparison, Plan, Row, measure
from mag2.extraction import VideoNetwork, extract, load_encoder
from mag2.extraction.pictures import Pictures, on_grid

RATE = 44_100


def run(plan: Plan) -> Iterator[Comparison]:
    """One video, read in several ways; seconds of video for every second of work."""
    seconds = 60 if plan.sizes.crop is None else 3
    size = (640, 360) if plan.sizes.crop is None else (64, 48)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        _write(video, seconds, size)
        swin, sound = _swin(), _Spectrograms()
        ways = {
            "decoding alone (PyAV)": lambda: _decode(video),
            "and RGB at 25 frames a second": lambda: _pictures(video),
            "extract, pictures for Video Swin": lambda: _extract(video, visual=swin, audio=None),
            "extract, sound for AST": lambda: _extract(video, visual=None, audio=sound),
            "extract, both": lambda: _extract(video, visual=swin, audio=sound),
        }
        medians = measure(ways, min(plan.rounds, 5), "cpu")
    first = next(iter(medians.values()))
    rows = [Row(way, seconds / median, "x real time", median / first) for way, median in medians.items()]
    yield Comparison(
        f"reading {seconds} s of {size[0]} x {size[1]} H.264",
        rows,
        ("encoders that compute nothing: what a GPU waits for", "the ratio is of time, to decoding alone"),
    )


def _write(path: Path, seconds: int, size: tuple[int, int]) -> None:
    """Moving noise, which is harder to decode than most videos."""
    import av

    rng = np.random.default_rng(0)
    field = rng.integers(0, 256, (size[1] // 8, size[0] // 8 + 64, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        sound = file.add_stream("aac", rate=RATE, layout="mono")
        for number in range(30 * seconds):
            moved = np.ascontiguousarray(field[:, number % 512 : number % 512 + size[0]])
            frame = av.VideoFrame.from_ndarray(moved, format="rgb24")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        for begin in range(0, RATE * seconds, 1024):
            samples = rng.uniform(-0.1, 0.1, (1, 1024)).astype(np.float32)
            part = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            part.sample_rate, part.time_base, part.pts = RATE, Fraction(1, RATE), begin
            file.mux(sound.encode(part))
        file.mux(sound.encode())


def _decode(video: Path) -> None:
    import av

    with av.open(str(video)) as file:
        stream = file.streams.video[0]
        stream.thread_type = "AUTO"
        for _ in file.decode(stream):
            pass


def _pictures(video: Path) -> None:
    pictures, latest = Pictures(video), None
    for picture in on_grid(pictures, Fraction(1, 25)):
        if picture is not latest:
            pictures.rgb(picture)
        latest = picture


def _extract(video: Path, **encoders: object) -> None:
    with tempfile.TemporaryDirectory() as out:
        extract(video, out, report=lambda _: None, **encoders)


class _Nothing(nn.Module):
    """A network that does next to nothing."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(B, 3, F, h, w) -> (B, 3)."""
        return clips[..., 0, 0].mean(2)


def _swin() -> VideoNetwork:
    from torchvision.models.video import Swin3D_B_Weights

    return VideoNetwork(_Nothing(), Swin3D_B_Weights.DEFAULT.transforms(), name="nothing", source="nowhere")


class _Spectrograms:
    """AST's preparation without AST."""

    def __init__(self) -> None:
        self.prepare = load_encoder("audio", "ast:random:0").prepare

    def __call__(self, spectrograms: torch.Tensor) -> torch.Tensor:
        """(B, L, M) -> (B, M)."""
        return spectrograms.mean(1)
