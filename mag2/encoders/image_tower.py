"""CLIP image towers through open_clip, with the preprocessing that belongs to them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mag2.encoders.clip import TOWERS, load_clip

__all__ = ["load_image_tower"]


def load_image_tower(name: str) -> tuple[nn.Module, Callable[[Any], Tensor]]:
    """The open_clip model of that name, and what makes its input (3, h, w) of a PIL image; float32, on the CPU.

    `model.encode_image` gives features in the space of the text encoder that `load_text_encoder` loads by that name.

    Args:
        name: `open_clip:ViT-B-16/openai`, `open_clip:ViT-B-16//home/me/clip.pt`, `open_clip:ViT-B-16/random:0`, or
            `random:0` for a small CLIP that was never trained.

    Raises:
        ValueError: the name has another form, or as `load_open_clip`.
    """
    from open_clip import get_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, image_transform_v2

    model, _ = load_clip(name, None, TOWERS, what="image tower")
    return model, image_transform_v2(PreprocessCfg(**get_model_preprocess_cfg(model)), is_train=False)
