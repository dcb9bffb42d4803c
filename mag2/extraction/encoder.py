"""One form for all encoders, loaded by name or given as a function."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mag2.extraction.timing import Timing
from mag2.extraction.weights import digest

__all__ = ["AUDIO_RATE", "PRECISIONS", "Encoder", "FeatureFunction", "as_encoder"]

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Samples a second that an audio encoder reads unless it says otherwise: AST's.
AUDIO_RATE = 16_000

# A batch of clips in, a feature row for each clip out.
FeatureFunction = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Encoder:
    """An encoder of clips, with the preprocessing of its input.

    Attributes:
        modality: "visual", "audio" or "vision_language".
        run: maps a batch of prepared pictures (B, F, ...) or windows of sound (B, ...) to features (B, D).
        about: everything that determines the features, as JSON; features of one folder must have equal values.
        source: origin of the weights, in words.
        prepare: turns one picture (H, W, 3) uint8, or one window of sound (S,) float32, into the input of `run`.
        frames: number of pictures of a clip, spread evenly; None for all.
        rate: samples of the sound per second.
        random: whether the weights are untrained.
    """

    modality: str
    run: FeatureFunction
    about: Mapping[str, Any]
    source: str
    prepare: Callable[[Tensor], Tensor]
    frames: int | None = None
    rate: int = AUDIO_RATE
    random: bool = False

    def features(self, batch: Tensor, device: torch.device, precision: str) -> NDArray[np.float32]:
        """The features (B, D) of a batch in float32, on the CPU.

        Raises:
            ValueError: no (B, D) came out, or not all of it is finite.
        """
        dtype = PRECISIONS[precision]
        with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            made = self.run(batch.to(device))
        made = made if isinstance(made, Tensor) else torch.as_tensor(np.asarray(made))
        if made.dim() != 2 or len(made) != len(batch) or not made.shape[1]:
            raise ValueError(
                f"the {self.modality} encoder gave features of shape {tuple(made.shape)} for {len(batch)} clips; "
                f"({len(batch)}, D) is expected"
            )
        # A copy: features may be a view of the clips, which would then stay in memory.
        rows = np.array(made.detach().float().cpu().numpy())
        if not np.isfinite(rows).all():
            hint = "" if precision == "float32" else "; choose precision float32"
            raise ValueError(f"the {self.modality} encoder gave features that are not finite{hint}")
        return rows


def as_encoder(modality: str, given: FeatureFunction, device: torch.device, timing: Timing) -> Encoder:
    """The encoder of a function, or of one of our modules.

    A module is moved to the device and put into evaluation mode.

    Raises:
        ValueError: not callable, or it cannot read clips of this length.
    """
    if not callable(given):
        raise ValueError(
            f"the {modality} encoder is a {type(given).__name__}; give a name or a function of a batch of clips"
        )
    if isinstance(given, nn.Module):
        given.to(device).eval()
    check = getattr(given, "check", None)
    if check is not None:
        check(timing)
    frames, rate = getattr(given, "frames", None), getattr(given, "rate", AUDIO_RATE)
    if frames is not None and not 1 <= frames <= timing.frames:
        raise ValueError(f"the {modality} encoder reads {frames} frames of a clip, and a clip has {timing.frames}")
    name = getattr(given, "name", None) or _name(given)
    about: dict[str, Any] = {"encoder": str(name)}
    if isinstance(given, nn.Module):
        about["weights"] = digest(given)
    about |= getattr(given, "about", {})
    if modality != "audio":
        about["frames"] = frames if frames is not None else timing.frames
    else:
        about["rate"] = rate
    return Encoder(
        modality,
        given,
        about,
        getattr(given, "source", "a function"),
        getattr(given, "prepare", _as_it_is),
        frames,
        rate,
        getattr(given, "random", False),
    )


def _as_it_is(part: Tensor) -> Tensor:
    return part


def _name(given: object) -> str:
    while isinstance(given, functools.partial):
        given = given.func
    return getattr(given, "__qualname__", None) or type(given).__qualname__
