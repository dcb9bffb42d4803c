"""A trained MLAVL without its texts, for deployment."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mag2.context import SharedSpecificContextEncoder
from mag2.fusion import make_fusion
from mag2.grading import PromptGuidedGrading
from mag2.guidance import FoldedGuidance
from mag2.nn.feature_rows import check_floating
from mag2.nn.masks import blanked, check_some_real, checked_mask
from mag2.nn.pretrained import Pretrained
from mag2.nn.state_dicts import check_names
from mag2.projection import TokenProjection

__all__ = ["FoldedMLAVL"]


# Those of MLAVL, with its number of grades.
_SIZES = (
    *("visual_dim", "audio_dim", "dim", "n_heads", "n_context", "n_fusion", "n_grading", "dropout", "guidance"),
    *("residual", "fusion", "queries", "use_pe", "control", "control_seed", "released", "n_grades"),
)


class FoldedMLAVL(Pretrained):
    """A trained `MLAVL` without its texts; `MLAVL.fold` makes it.

    The action texts are two constant vectors in each graph (`FoldedGuidance`); the grade queries are constants as well.
    It only scores: it has no `loss`.

    Shapes: as `MLAVL`; returns the dict of `PromptGuidedGrading`.

    Args:
        sizes: all of the model (`MLAVL.sizes`), and n_grades.

    Raises:
        TypeError: sizes of other names, or not all of them.
        ValueError: in `forward`: as `MLAVL`.
    """

    def __init__(self, **sizes: Any):
        super().__init__()
        check_names(sizes, _SIZES, "FoldedMLAVL")
        missing = [name for name in _SIZES if name not in sizes and name != "residual"]  # which version 0.1 had not
        if missing:
            raise TypeError(f"FoldedMLAVL lacks the argument {missing[0]!r}: MLAVL.fold makes one of a trained model")
        self.sizes = sizes
        dim, n_heads, dropout = sizes["dim"], sizes["n_heads"], sizes["dropout"]
        self.project_visual = TokenProjection(sizes["visual_dim"], dim)
        self.project_audio = TokenProjection(sizes["audio_dim"], dim)
        self.context = SharedSpecificContextEncoder(dim, n_heads=n_heads, n_layers=sizes["n_context"], dropout=dropout)
        self.guide_visual = FoldedGuidance(dim, dropout=dropout)
        self.guide_audio = FoldedGuidance(dim, dropout=dropout)
        self.fusion = make_fusion(sizes["fusion"], dim, n_heads=n_heads, n_layers=sizes["n_fusion"], dropout=dropout)
        self.grading = PromptGuidedGrading(
            dim,
            n_grades=sizes["n_grades"],
            queries=sizes["queries"],
            use_pe=sizes["use_pe"],
            n_heads=n_heads,
            n_layers=sizes["n_grading"],
            dropout=dropout,
            released=sizes["released"],
        )
        self.prompts: Tensor
        self.register_buffer("prompts", torch.zeros(3 * sizes["n_grades"], dim))

    def forward(
        self,
        visual: Tensor,
        audio: Tensor | None = None,
        flow: Tensor | None = None,
        clip_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score a batch: visual (B, T, visual_dim) and audio (B, T, audio_dim); `flow` is not used.

        `clip_mask` (B, T) is True where a clip is real.
        """
        visual, audio = checked_features(visual, audio, clip_mask, self.sizes)
        audio = self.context(self.project_audio(audio, clip_mask), clip_mask)
        visual = self.context(self.project_visual(visual, clip_mask), clip_mask)
        visual = entered(visual, self.guide_visual(visual, clip_mask=clip_mask), self.sizes)
        audio = entered(audio, self.guide_audio(audio, clip_mask=clip_mask), self.sizes)
        fused = self.fusion(visual, audio, clip_mask)
        n_grades = self.sizes["n_grades"]
        prompts = () if self.grading.queries is not None else self.prompts.split([2 * n_grades, n_grades])
        return self.grading(fused, visual, *prompts, clip_mask=clip_mask)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build this model again, as plain values for JSON."""
        return self.sizes

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FoldedMLAVL":
        """Build the model that `config` describes; load weights and constants afterwards."""
        return cls(**config)


def entered(clips: Tensor, guided: Tensor, sizes: Mapping[str, Any]) -> Tensor:
    """The clips that go on: the guided ones, or with `residual` their sum with the clips."""
    return clips + guided if sizes.get("residual", False) else guided


def checked_features(
    visual: Tensor, audio: Tensor | None, clip_mask: Tensor | None, sizes: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """The features of both modalities, with zeros where the mask is False.

    Raises:
        ValueError: no audio; features that are no tensor (B, T, width) of the widths that the model was built for;
            videos or clips that are not as many in both; a mask of another shape or type, or without a real clip.
    """
    if audio is None:
        raise ValueError("MLAVL wants audio features beside the visual ones; for video alone see GDLT, CoFInAl, QTD")
    for name, features in (("visual", visual), ("audio", audio)):
        width = sizes[f"{name}_dim"]
        if not isinstance(features, Tensor):
            raise ValueError(f"{name} is a {type(features).__name__}; give a tensor (videos, clips, {width})")
        if features.dim() != 3 or features.shape[-1] != width:
            exchanged = features.dim() == 3 and features.shape[1] == width
            build = f"build it with {name}_dim={features.shape[-1] if features.dim() else width}"
            raise ValueError(
                f"{name} is {tuple(features.shape)}, and this model was built for features {width} wide, "
                f"(videos, clips, {width}); "
                f"{f'its axes look exchanged, give {name}.transpose(1, 2)' if exchanged else build}"
            )
    check_floating(visual=visual, audio=audio)
    if visual.shape[:2] != audio.shape[:2]:
        raise ValueError(
            f"visual and audio want as many videos and clips, got {tuple(visual.shape)} and {tuple(audio.shape)}"
        )
    mask = checked_mask(clip_mask, visual.shape[:2])
    check_some_real(mask)
    return blanked(visual, mask), blanked(audio, mask)
