"""CLIP image towers through open_clip, with their preprocessing."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mag2.encoders.clip import TOWERS, load_clip

__all__ = ["load_image_tower"]


def load_image_tower(name: str) -> tuple[nn.Module, Callable[[Any], Tensor]]:
    """Load a CLIP for its image tower, with its preprocessing.

    `model.encode_image` returns features in the space of the text encoder that `load_text_encoder` loads by that name.

    Args:
        name: `open_clip:ViT-B-16/openai`, `open_clip:ViT-B-16//home/me/clip.pt`, `open_clip:ViT-B-16/random:0`, or
            `random:0` for a small untrained CLIP.

    Returns:
        The open_clip model in float32 on the CPU, and a function from a PIL image to its input (3, h, w).

    Raises:
        ValueError: the name has another form, or as `load_open_clip`.
    """
    from open_clip import get_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, image_transform_v2

    model, _ = load_clip(name, None, TOWERS, what="image tower")
    return model, image_transform_v2(PreprocessCfg(**get_model_preprocess_cfg(model)), is_train=False)
