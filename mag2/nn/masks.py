"""Masks of clips: checked, and applied to features."""

import torch
from torch import Tensor

__all__ = ["blanked", "check_some_real", "checked_mask"]


def checked_mask(mask: Tensor | None, shape: tuple[int, ...], name: str = "clip_mask") -> Tensor | None:
    """Return a mask (B, T), True where a clip is real, after a check of its shape and type; None is returned as None.

    Raises:
        ValueError: another shape or type. A float mask of 0 and 1, or of 0 and -inf, would mean different things.
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.shape != shape:
        given = tuple(mask.shape) if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
        raise ValueError(f"{name} wants shape {tuple(shape)}, got {given}")
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} wants True or False for each clip, got {mask.dtype}; give mask.bool(), True = real")
    return mask


def check_some_real(mask: Tensor | None) -> None:
    """Refuse a mask (B, T) in which a video has no real clip, because attention over no clips is nan.

    Compiled and traced code cannot read values, so nothing is checked there.

    Raises:
        ValueError: naming the first such video.
    """
    if mask is None or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    if torch._C._functorch.is_functorch_wrapped_tensor(mask):  # torch has no public function for it
        return
    some = mask.any(dim=-1)
    if not some.all():
        raise ValueError(f"video {int(some.int().argmin())} has no real clip in its mask; leave it out of the batch")


def blanked(clips: Tensor, mask: Tensor | None) -> Tensor:
    """Return the clips (B, T, d) with zeros where the mask (B, T) is False, so that padding changes nothing."""
    return clips if mask is None else clips.masked_fill(~mask[..., None], 0)
