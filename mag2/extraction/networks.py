"""Video networks of torchvision: Video Swin, and S3D, which is I3D with separable kernels."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mag2.encoders import from_seed, seed_of
from mag2.extraction.faults import needed, reason
from mag2.extraction.timing import Timing
from mag2.extraction.weights import is_file_name, read_weights
from mag2.nn.state_dicts import load_strictly

__all__ = ["NETWORKS", "VideoNetwork", "load_network"]

# The classification head of each network, which gives way to the features before it, and their width.
NETWORKS = {
    "swin3d_t": ("head", 768),
    "swin3d_s": ("head", 768),
    "swin3d_b": ("head", 1024),
    "s3d": ("classifier", 1024),
}


class VideoNetwork(nn.Module):
    """A video classifier of torchvision without its head, with the preprocessing of its published weights.

    Shapes: pictures (H, W, 3) uint8 are prepared one by one; clips (B, F, 3, h, w) uint8 -> features (B, D).

    Args:
        network: a network without its head: (B, 3, F, h, w) in, (B, D) out.
        preset: torchvision's `VideoClassification` preset, which has the size, mean and standard deviation.
        name: of the architecture.
        source: origin of the weights, in words.
        least: smallest number of frames of a clip.
        random: whether the weights are untrained.
    """

    frames = None

    def __init__(
        self, network: nn.Module, preset: Any, *, name: str, source: str, least: int = 1, random: bool = False
    ):
        super().__init__()
        self.network, self.preset = network, preset
        self.name, self.source, self.least, self.random = name, source, least, random
        self.about = {
            "resize": list(preset.resize_size),
            "crop": list(preset.crop_size),
            "mean": list(preset.mean),
            "std": list(preset.std),
        }

    def check(self, timing: Timing) -> None:
        """Raise a ValueError where the clips of a `Timing` have too few frames."""
        if timing.frames < self.least:
            raise ValueError(f"{self.name} reads {self.least} frames or more, and a clip has {timing.frames}")

    def prepare(self, picture: Tensor) -> Tensor:
        """Resize and crop a picture (H, W, 3) to (3, h, w), uint8."""
        from torchvision.transforms import functional as image

        # What the preset does to all frames at once; every frame for itself keeps long clips of large frames small.
        resized = image.resize(
            picture.permute(2, 0, 1),
            self.preset.resize_size,
            interpolation=self.preset.interpolation,
            antialias=False,
        )
        return image.center_crop(resized, self.preset.crop_size)

    def forward(self, clips: Tensor) -> Tensor:
        """Features (B, D) of prepared clips."""
        from torchvision.transforms import functional as image

        clips = image.normalize(image.convert_image_dtype(clips, torch.float32), self.preset.mean, self.preset.std)
        return self.network(clips.transpose(1, 2))


def load_network(name: str, weights: str) -> VideoNetwork:
    """Load a network of `NETWORKS` with weights: a tag of torchvision, "" for its default, a file, or `random:SEED`.

    Raises:
        ValueError: no such tag or file, weights that do not fit, or a download that failed.
    """
    models = needed("torchvision.models")
    tags = models.get_model_weights(name)
    head, _ = NETWORKS[name]
    seed, published = seed_of(weights), tags.DEFAULT
    if seed is not None:
        with from_seed(seed):
            network = models.get_model(name, weights=None)
        source = weights
    elif weights and is_file_name(weights):
        network = models.get_model(name, weights=None)
        source = f"the file {Path(weights).name}"
    else:
        if weights and weights not in tags.__members__:
            raise ValueError(
                f"{weights!r} is neither a file nor weights of {name}; its weights are {', '.join(tags.__members__)}"
            )
        published = tags[weights] if weights else tags.DEFAULT
        source = f"torchvision's {published.name}"
        try:
            network = models.get_model(name, weights=published)
        except Exception as error:  # whatever the download raises
            raise ValueError(f"could not load {published.name} of {name}: {reason(error)}") from error
    setattr(network, head, nn.Identity())
    if weights and seed is None and is_file_name(weights):
        load_strictly(network, read_weights(Path(weights).expanduser(), without=(f"{head}.",)))
    return VideoNetwork(
        network,
        published.transforms(),
        name=name,
        source=source,
        least=published.meta["min_temporal_size"],
        random=seed is not None,
    )
