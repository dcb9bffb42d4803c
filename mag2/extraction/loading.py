"""Load encoders of clips by name."""

from collections.abc import Callable

from torch import nn

from mag2.extraction.images import load_images
from mag2.extraction.networks import NETWORKS, load_network
from mag2.extraction.transformer_models import load_ast, load_timesformer

__all__ = ["FORMS", "load_encoder"]

_CLIP = "open_clip:<model>/<weights>, random:<seed>"
FORMS = {
    "visual": f"{', '.join(NETWORKS)}, timesformer, {_CLIP}",
    "audio": "ast",
    "vision_language": _CLIP,
}


def load_encoder(modality: str, name: str, *, image_frames: int | None = None) -> nn.Module:
    """Load an encoder by its name, on the CPU.

    `swin3d_b`, `swin3d_s`, `swin3d_t`, `s3d`, `timesformer` and `ast` use their published weights, which are
    downloaded; `<name>:<weights>` uses those of a tag, of a local file or of `random:<seed>`.

    Args:
        modality: "visual", "audio" or "vision_language".
        name: of the encoder, as in `mag2.extraction.extract`.
        image_frames: number of frames of a clip for an image tower; all by default.

    Returns:
        The encoder, a module that `mag2.extraction.extract` accepts.

    Raises:
        ValueError: no encoder of that name for the modality, or its weights cannot be loaded.
    """
    kind, _, weights = name.partition(":")
    loaders: dict[str, Callable[[], nn.Module]] = {}
    if modality == "visual":
        loaders |= {network: lambda: load_network(kind, weights) for network in NETWORKS}
        loaders["timesformer"] = lambda: load_timesformer(weights)
    if modality == "audio":
        loaders["ast"] = lambda: load_ast(weights)
    else:
        loaders |= {clip: lambda: load_images(name, image_frames) for clip in ("open_clip", "random")}
    if kind not in loaders:
        raise ValueError(
            f"there is no {modality} encoder {name!r}; give {FORMS[modality]}, each with :<weights> if need be, "
            f"or a function"
        )
    return loaders[kind]()
