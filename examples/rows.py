"""The models of the tables' rows: how they are built, and what is attached to them.

The arguments of a model's constructor for a target are in its recipe (`mag2.training.recipes`), also those of narrow
models.
"""

from functools import partial

from torch import nn

from mag2 import MLAVL
from mag2.adapters import cofinal, gdlt, pamfn, qtd
from mag2.baselines import GDLT, PAMFN, QTD, CoFInAl
from mag2.training.recipes import mlavl
from mag2.training.tables import Heading, ModelInputs, Row

SMALL_DROPOUT = 0.1  # of the guides that are attached to narrow models

RESIDUAL = "residual (ours, not the paper's)"
AUDIO_VISUAL, ALL = ("visual", "audio"), ("visual", "audio", "flow")
# The targets of Tables 1, 2, 3 and 5, which print of RG the average over its four apparatuses.
PAPER_TARGETS = {"FS1000": ("TES", "PCS"), "RG": ("Ball", "Clubs", "Hoop", "Ribbon")}


def build_gdlt(inputs: ModelInputs, with_texts: bool = False, with_mag2: bool = False, **entry) -> nn.Module:
    """GDLT, plain or with texts and guidance attached; `start` says how the guide enters, as in `mag2.attach`."""
    model = GDLT(in_dim=inputs.widths["visual"], **inputs.settings)
    return with_attachments(gdlt, model, inputs, with_texts, with_mag2, **entry)


def build_cofinal(inputs: ModelInputs, with_texts: bool = False, with_mag2: bool = False, **entry) -> nn.Module:
    """CoFInAl, likewise; it has four grades."""
    model = CoFInAl(in_dim=inputs.widths["visual"], **inputs.settings)
    return with_attachments(cofinal, model, inputs, with_texts, with_mag2, **entry)


def build_qtd(inputs: ModelInputs, with_texts: bool = False, with_mag2: bool = False, **entry) -> nn.Module:
    """QTD, likewise."""
    model = QTD(in_dim=inputs.widths["visual"], **inputs.settings)
    return with_attachments(qtd, model, inputs, with_texts, with_mag2, **entry)


def build_pamfn(inputs: ModelInputs, with_texts: bool = False, with_mag2: bool = False, **entry) -> nn.Module:
    """PAMFN, likewise: three modalities, the branches trained before the fusion."""
    widths = {f"{modality}_dim": inputs.widths[modality] for modality in ALL}
    grading = {"dim": inputs.settings["dim"]} if "dim" in inputs.settings else {}
    model = PAMFN(**widths, **inputs.settings)
    return with_attachments(pamfn, model, inputs, with_texts, with_mag2, **entry, **grading)


def build_mlavl(inputs: ModelInputs, texts=None, **design) -> nn.Module:
    """MLAVL with the inputs' texts or others; `design` is what the class takes beside its sizes."""
    widths = {"visual_dim": inputs.widths["visual"], "audio_dim": inputs.widths["audio"]}
    return MLAVL(texts or inputs.texts(), **widths, **inputs.settings, **design, control=inputs.control)


def build_worded_mlavl(inputs: ModelInputs, **prompts) -> nn.Module:
    """MLAVL with other prompts, as `TextFeatures.for_sport` takes them."""
    return build_mlavl(inputs, inputs.texts(**prompts))


def build_learning_mlavl(inputs: ModelInputs, live: type) -> nn.Module:
    """MLAVL with texts that learn; `live` is a class of `mag2.texts.learned`."""
    return build_mlavl(inputs, live.for_sport(inputs.sport, inputs.tower))


def with_attachments(
    adapter,
    model: nn.Module,
    inputs: ModelInputs,
    with_texts: bool,
    with_mag2: bool,
    start: str | None = None,
    **grading,
) -> nn.Module:
    """The model with what its row attaches; `grading` sets the sizes of the text decoder that PAMFN's adapter adds."""
    texts = inputs.texts()
    if with_texts:
        adapter.with_texts(model, texts, **grading)
    if with_mag2:
        dropout = SMALL_DROPOUT if inputs.small else 0.3
        adapter.with_mag2(model, texts, dropout=dropout, control=inputs.control, start=start or inputs.start)
    return model


def mlavl_row(heading: Heading, build=build_mlavl, **design) -> Row:
    """A row with MLAVL in one of its designs."""
    guided = design.get("guidance", "graph") == "graph"
    return Row(heading, partial(build, **design), mlavl, AUDIO_VISUAL, guided=guided)


def residual_row(key: str, method: str) -> Row:
    """A row of ours: MLAVL with the guided clips added to the clips."""
    return mlavl_row(Heading(key, method, RESIDUAL), residual=True)


def baseline_rows(keys: tuple[str, ...], method: str, build, recipe, numbers: dict, **row) -> list[Row]:
    """The rows of a baseline: plain, +Texts, +MAG2, and both, as many as there are keys.

    `numbers` is what the paper prints, by key.
    """
    plugs = ((False, False, ""), (True, False, "+Texts"), (False, True, "+MAG2"), (True, True, "+Texts+MAG2"))
    return [
        Row(
            Heading(key, method, name, numbers.get(key, {})),
            partial(build, with_texts=texts, with_mag2=mag2),
            recipe,
            guided=mag2,
            **row,
        )
        for key, (texts, mag2, name) in zip(keys, plugs, strict=False)
    ]
