"""Image towers of open_clip, averaged over the frames of a clip: features in the space of a text encoder."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mag2.encoders import load_image_tower

__all__ = ["ImageTower", "load_images"]


class ImageTower(nn.Module):
    """Image features of a CLIP for each frame, averaged over the frames of a clip and not normalised, as in ViFi-CLIP.

    Shapes: pictures (H, W, 3) uint8 are prepared one by one; clips (B, F, 3, h, w) float32 -> features (B, D).

    Args:
        model: an open_clip model, or another one with `encode_image`.
        transform: its preprocessing, from a PIL image to (3, h, w).
        name: of the model.
        source: origin of the weights, in words.
        frames: number of frames of a clip, spread evenly; None for all.
        random: whether the weights are untrained.
    """

    def __init__(
        self,
        model: Any,
        transform: Callable[[Any], Tensor],
        *,
        name: str,
        source: str,
        frames: int | None = None,
        random: bool = False,
    ):
        super().__init__()
        self.model, self.transform, self.name, self.source = model, transform, name, source
        self.frames, self.random = frames, random
        self.about = {"transform": " ".join(str(transform).split())}

    def prepare(self, picture: Tensor) -> Tensor:
        """Resize, crop and normalise a picture (H, W, 3) to (3, h, w), float32."""
        from PIL import Image

        return self.transform(Image.fromarray(picture.numpy()))

    def forward(self, clips: Tensor) -> Tensor:
        """Features (B, D) of prepared clips."""
        features = self.model.encode_image(clips.flatten(0, 1)).float()
        return features.unflatten(0, clips.shape[:2]).mean(dim=1)


def load_images(name: str, frames: int | None = None) -> ImageTower:
    """Load the image tower of `open_clip:<model>/<weights>`, or of the small untrained CLIP `random:SEED`.

    Raises:
        ValueError: as `mag2.encoders.load_image_tower`.
    """
    model, transform = load_image_tower(name)
    known, _, weights = name.partition("/")
    random = name.startswith("random:") or weights.startswith("random:")
    return ImageTower(
        model, transform, name=known if weights else "small CLIP", source=name, frames=frames, random=random
    )
