"""What audio-visual models check before they begin: their sizes, and the clips that they are given."""

import torch
from torch import Tensor, nn

from mag2.nn.feature_rows import check_tensors
from mag2.nn.masks import blanked, check_some_real


def sight_and_sound(
    model: nn.Module, visual: Tensor, audio: Tensor | None, clip_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The clips of a model with a `visual_dim` and an `audio_dim`, checked, with zeros where `clip_mask` is False.

    Raises:
        ValueError: no audio; clips of another shape; audio and visual of different length; a mask of another shape.
    """
    name = type(model).__name__
    if audio is None:
        raise ValueError(f"{name} wants visual and audio features; audio is not given")
    check_tensors(visual=visual, audio=audio)
    for modality, clips in (("visual", visual), ("audio", audio)):
        width = getattr(model, f"{modality}_dim")
        if clips.dim() != 3 or clips.shape[2] != width or clips.shape[1] == 0:
            raise ValueError(
                f"{modality} is {tuple(clips.shape)}; give {name} (videos, clips, {width}) with at least one clip"
            )
    if visual.shape[:2] != audio.shape[:2]:
        raise ValueError(
            f"{name} wants as many clips of each modality, got visual {tuple(visual.shape)} and audio "
            f"{tuple(audio.shape)}"
        )
    if clip_mask is None:
        return visual, audio
    if clip_mask.shape != visual.shape[:2] or clip_mask.dtype != torch.bool:
        raise ValueError(
            f"clip_mask is {clip_mask.dtype} {tuple(clip_mask.shape)}; give True or False for each clip, "
            f"{tuple(visual.shape[:2])}"
        )
    check_some_real(clip_mask)
    return blanked(visual, clip_mask), blanked(audio, clip_mask)


def at_least_one(**sizes: int) -> None:
    """Refuse sizes that cannot be built.

    Raises:
        ValueError: naming the first size below 1.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; give 1 or more")
