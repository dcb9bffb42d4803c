"""The authors' names: their state_dict keys as ours, and their matrix of text features."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mag2.projection import TokenProjection
from mag2.texts import TextFeatures

__all__ = ["our_weights", "released_name", "released_texts"]

# The released module registers some parts twice (encoder and decoder also under `transformer.`), and holds its text
# tower and a position table; ours has each part once.
THEIR_CLIP = ("CLIP", "clip_model", "text_encoder", "model_clip")
_PASSED_OVER = ("transformer.", "pos_encoder.")
_RENAMED: dict[str, str] = {
    "w1": "grading.w",
    **TokenProjection.released_keys("proj_visual", "project_visual"),
    **TokenProjection.released_keys("proj_audio", "project_audio"),
    **TokenProjection.released_keys("proj_text", "owned_texts.projection"),
    "SSCEncoder.": "context.encoder.",
    "gcn_V.": "guide_visual.",
    "gcn_A.": "guide_audio.",
    "T_decoder.": "fusion.decoder.",
    **TokenProjection.released_keys("clip_fusion", "fusion.clip_wise.mix"),
    "GradeDecoder.": "grading.decoder.",
    "regressor_AV.": "grading.audio_visual.regressor.",
    "regressor_V.": "grading.visual.regressor.",
}


def our_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a released MLAVL under our keys."""
    ours = {}
    for key, value in state.items():
        if key.startswith(_PASSED_OVER):
            continue
        prefix = next((old for old in _RENAMED if key.startswith(old)), None)
        name = key if prefix is None else _RENAMED[prefix] + key[len(prefix) :]
        # Their 1x1 convolutions are linear maps here.
        ours[name] = value.squeeze(-1) if value.dim() == 3 else value
    return ours


def released_name(ours: str) -> str:
    """Return the released code's name of one of our parameters, such as "grading.w"."""
    back = {new: old for old, new in _RENAMED.items()}
    prefix = next(new for new in back if ours.startswith(new))
    return back[prefix] + ours[len(prefix) :]


def released_texts(texts: TextFeatures | Tensor, n_grades: int, n_text: int | None) -> TextFeatures:
    """Return the `TextFeatures` of a matrix (rows, D) in the released row order; `TextFeatures` are returned as given.

    Args:
        texts: the matrix, or `TextFeatures`.
        n_grades: N, the number of visual grades.
        n_text: number of visual texts; None for half of the action rows.

    Raises:
        ValueError: the matrix has too few rows.
    """
    if isinstance(texts, TextFeatures):
        return texts
    rows = torch.as_tensor(texts).float()
    actions = len(rows) - 3 * n_grades
    visual = actions // 2 if n_text is None else n_text
    if not 0 < visual < actions:
        raise ValueError(f"{len(rows)} text rows and {n_grades} grades leave no room for {visual} visual texts")
    parts = rows.split([visual, actions - visual, 2 * n_grades, n_grades])
    return TextFeatures(visual=parts[0], audio=parts[1], audio_visual_grades=parts[2], grades=parts[3])
