"""What the rows of the tables are made of: the models, what is plugged into them, and their narrow sizes."""

from functools import partial

from torch import nn

from mag2 import MLAVL
from mag2.adapters import cofinal, gdlt, pamfn, qtd
from mag2.baselines import GDLT, PAMFN, QTD, CoFInAl
from mag2.training.recipe import MLAVL_RECIPE
from mag2.training.tables import Heading, ModelInputs, Row

# For a first look on a few cores: narrow models, which a few epochs can train.
SMALL = {"dim": 64, "n_heads": 4, "dropout": 0.1}
SMALL_QTD = {"dim": 64, "feed_forward": 64, "n_queries": 16}
SMALL_PAMFN = {"dim": 32}

HEARD, ALL = ("visual", "audio"), ("visual", "audio", "flow")
# Tables 1, 2, 3 and 5 show these targets, and of RG the average over its four apparatuses.
SHOWN = {"FS1000": ("TES", "PCS"), "RG": ("Ball", "Clubs", "Hoop", "Ribbon")}


def build_gdlt(inputs: ModelInputs, with_texts: bool = False, with_mag2: bool = False) -> nn.Module:
    """GDLT, plain or with what is plugged into it."""
    size = SMALL if inputs.small else {}
    return plugged(gdlt, GDLT(in_dim=inputs.widths["visual"], **size), inputs, with_texts, with_mag2)


def build_cofinal(inputs: ModelInputs, with_texts: bool = False, with_mag2: bool = False) -> nn.Module:
    """CoFInAl, which grades in four words."""
    size = SMALL if inputs.small else {}
    return plugged(cofinal, CoFInAl(in_dim=inputs.widths["visual"], **size), inputs, with_texts, with_mag2)


def build_qtd(inputs: ModelInputs, with_texts: bool = False, with_mag2: bool = False) -> nn.Module:
    """QTD."""
    size = SMALL_QTD if inputs.small else {}
    return plugged(qtd, QTD(in_dim=inputs.widths["visual"], **size), inputs, with_texts, with_mag2)


def build_pamfn(inputs: ModelInputs, with_texts: bool = False, with_mag2: bool = False) -> nn.Module:
    """PAMFN: three modalities, the branches trained before the fusion."""
    size = SMALL_PAMFN if inputs.small else {}
    widths = {f"{modality}_dim": inputs.widths[modality] for modality in ALL}
    return plugged(pamfn, PAMFN(**widths, **size), inputs, with_texts, with_mag2, **size)


def build_mlavl(inputs: ModelInputs, texts=None, **design) -> nn.Module:
    """MLAVL with the inputs' texts or others; `design` is what the class takes beside its sizes."""
    size = SMALL if inputs.small else {}
    widths = {"visual_dim": inputs.widths["visual"], "audio_dim": inputs.widths["audio"]}
    return MLAVL(texts or inputs.texts(), **widths, **size, **design, control=inputs.control)


def build_worded_mlavl(inputs: ModelInputs, **prompts) -> nn.Module:
    """MLAVL with other prompts, as `TextFeatures.for_sport` takes them."""
    return build_mlavl(inputs, inputs.texts(**prompts))


def build_learning_mlavl(inputs: ModelInputs, live: type) -> nn.Module:
    """MLAVL with texts that learn; `live` is a class of `mag2.texts.learned`."""
    return build_mlavl(inputs, live.for_sport(inputs.sport, inputs.tower))


def plugged(adapter, model: nn.Module, inputs: ModelInputs, with_texts: bool, with_mag2: bool, **grading) -> nn.Module:
    """The model with what the row plugs into it; `grading` sizes the text decoder of an adapter that brings one."""
    texts = inputs.texts()
    if with_texts:
        adapter.with_texts(model, texts, **grading)
    if with_mag2:
        adapter.with_mag2(model, texts, dropout=SMALL["dropout"] if inputs.small else 0.3, control=inputs.control)
    return model


def mlavl_row(heading: Heading, build=build_mlavl, **design) -> Row:
    """A row with MLAVL in one of its designs."""
    guided = design.get("guidance", "graph") == "graph"
    return Row(heading, partial(build, **design), MLAVL_RECIPE, HEARD, guided=guided)


def plugged_rows(keys: tuple[str, ...], method: str, build, recipe, numbers: dict, **row) -> list[Row]:
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
