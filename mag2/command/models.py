"""The models that `mag2 train` accepts by name.

The library imports no model of the field: their classes are found by the names that saved files have for them, and
their adapters by the names of their modules.
"""

import importlib
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from mag2.data.performances import MODALITIES
from mag2.saving.registry import class_of
from mag2.training import recipes
from mag2.training.tables import Heading, ModelInputs, Row, Table

__all__ = ["MODELS", "TRAIN", "Model"]

SMALL_DROPOUT = 0.1  # of the guides that are attached to narrow models


@dataclass(frozen=True)
class Model:
    """A model of the field.

    Attributes:
        kind: its name in saved files.
        method: its name in tables.
        about: a description in one line.
        recipe: how it is built and trained, by dataset and target.
        needs: the modalities that it needs.
        adapter: the module that attaches texts and MAG2 to it; None if there is none.
        stages: the number of its trainings, which run one after the other.
    """

    kind: str
    method: str
    about: str
    recipe: recipes.Recipes
    needs: tuple[str, ...]
    adapter: str | None = None
    stages: int = 1


VIDEO, AUDIO_VISUAL = ("visual",), ("visual", "audio")
KNOWN = {
    "mlavl": Model(
        kind="mlavl",
        method="MLAVL",
        about="texts guide clips, fusion and grades (the paper's model, CVPR 2025)",
        recipe=recipes.mlavl,
        needs=AUDIO_VISUAL,
    ),
    "gdlt": Model(
        kind="gdlt",
        method="GDLT",
        about="a decoder separates grades (Xu et al., CVPR 2022)",
        recipe=recipes.gdlt,
        needs=VIDEO,
        adapter="gdlt",
    ),
    "cofinal": Model(
        kind="cofinal",
        method="CoFInAl",
        about="coarse grades, then fine ones (Zhou et al., 2024)",
        recipe=recipes.cofinal,
        needs=VIDEO,
        adapter="cofinal",
    ),
    "qtd": Model(
        kind="qtd",
        method="QTD",
        about="queries decode clips, each with a share in the score (Dong et al., BMVC 2024)",
        recipe=recipes.qtd,
        needs=VIDEO,
        adapter="qtd",
    ),
    "pamfn": Model(
        kind="pamfn",
        method="PAMFN",
        about="three modalities, fused step by step (Zeng and Zheng, TIP 2024)",
        recipe=recipes.pamfn,
        needs=MODALITIES,
        adapter="pamfn",
        stages=4,
    ),
    "mixer": Model(
        kind="skating_mixer",
        method="Skating-Mixer",
        about="MLPs with a memory mix video and audio (Xia et al., AAAI 2023)",
        recipe=recipes.mixer,
        needs=AUDIO_VISUAL,
    ),
    "mbert": Model(
        kind="mbert_late",
        method="M-BERT",
        about="a transformer for each modality, fused late (Lee et al., ICLR 2021)",
        recipe=recipes.mbert,
        needs=AUDIO_VISUAL,
    ),
    "sgn": Model(
        kind="sgn",
        method="SGN",
        about="a teacher that reads texts trains the model (Du et al., TMM 2024)",
        recipe=recipes.sgn,
        needs=AUDIO_VISUAL,
    ),
}
PLUGS = {"": "", "+texts": "+Texts", "+mag2": "+MAG2", "+texts+mag2": "+Texts+MAG2"}


def _build(inputs: ModelInputs, model: Model, plug: str) -> nn.Module:
    """A model for features of these widths, with what its name attaches."""
    size = dict(inputs.settings)
    several = len(model.needs) > 1
    widths = {f"{each}_dim" if several else "in_dim": inputs.widths[each] for each in model.needs}
    cls = class_of(model.kind)
    if model.kind == "mlavl":
        return cls(inputs.texts(), **widths, **size, control=inputs.control)
    if model.kind == "sgn":
        return cls(inputs.texts().visual, **widths, **size)
    made = cls(**widths, **size)
    if not plug:
        return made
    adapter: Any = importlib.import_module(f"mag2.adapters.{model.adapter}")
    if "+texts" in plug:
        grading = {"dim": size["dim"]} if model.kind == "pamfn" and "dim" in size else {}
        adapter.with_texts(made, inputs.texts(), **grading)
    if "+mag2" in plug:
        dropout = SMALL_DROPOUT if inputs.small else 0.3
        adapter.with_mag2(made, inputs.texts(), dropout=dropout, control=inputs.control, start=inputs.start)
    return made


def _row(key: str, model: Model, plug: str) -> Row:
    return Row(
        Heading(f"{key}{plug}", model.method, PLUGS[plug]),
        partial(_build, model=model, plug=plug),
        model.recipe,
        needs=model.needs,
        stages=model.stages,
        guided=key == "mlavl" or "+mag2" in plug,
    )


# The rows by the names that `mag2 train` takes, and the table that they make.
MODELS: dict[str, Row] = {
    f"{key}{plug}": _row(key, model, plug)
    for key, model in KNOWN.items()
    for plug in (PLUGS if model.adapter else ("",))
}
TRAIN = Table("train", "Training", tuple(MODELS.values()), {"FS1000": ("TES",)}, usual_rows=("mlavl",))
