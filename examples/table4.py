"""Table 4: what the texts and MAG2 do for CoFInAl, QTD and PAMFN, and MLAVL with and without its prompts.

    python examples/table4.py                       # simulated data, says so
    python examples/table4.py --data /path/FS1000   # FS1000 in its released layout: measured beside published

Rows 1 to 12 are the paper's; 3b, 6b and 9b, with texts and MAG2 together, are ours.
"""

import sys
from functools import partial

from torch import nn

from mag2 import MLAVL
from mag2.adapters import cofinal, pamfn, qtd
from mag2.baselines import PAMFN, QTD, CoFInAl
from mag2.data import TARGETS
from mag2.published import table
from mag2.training.command import Inputs, Row, Table, main
from mag2.training.recipe import COFINAL_RECIPE, MLAVL_RECIPE, PAMFN_RECIPE, QTD_RECIPE
from mag2.training.report import Line

# For a first look on a few cores: narrow models, which a few epochs can train.
SMALL = {"dim": 64, "n_heads": 4, "dropout": 0.1}
SMALL_QTD = {"dim": 64, "feed_forward": 64, "n_queries": 16}
SMALL_PAMFN = {"dim": 32}


def build_cofinal(inputs: Inputs, with_texts: bool = False, with_mag2: bool = False) -> nn.Module:
    """Rows 1 to 3: CoFInAl grades in four words."""
    size = SMALL if inputs.small else {}
    model = CoFInAl(in_dim=inputs.widths["visual"], **size)
    return plugged(cofinal, model, inputs, with_texts, with_mag2)


def build_qtd(inputs: Inputs, with_texts: bool = False, with_mag2: bool = False) -> nn.Module:
    """Rows 4 to 6."""
    size = SMALL_QTD if inputs.small else {}
    model = QTD(in_dim=inputs.widths["visual"], **size)
    return plugged(qtd, model, inputs, with_texts, with_mag2)


def build_pamfn(inputs: Inputs, with_texts: bool = False, with_mag2: bool = False) -> nn.Module:
    """Rows 7 to 9: three modalities, the branches trained before the fusion."""
    size = SMALL_PAMFN if inputs.small else {}
    widths = {f"{modality}_dim": width for modality, width in inputs.widths.items()}
    return plugged(pamfn, PAMFN(**widths, **size), inputs, with_texts, with_mag2, **size)


def build_mlavl(inputs: Inputs, queries: str = "texts", use_pe: bool = False) -> nn.Module:
    """Rows 10 to 12: the paper's model; with learnable vectors in place of the grade texts; with positions on these."""
    size = SMALL if inputs.small else {}
    widths = {"visual_dim": inputs.widths["visual"], "audio_dim": inputs.widths["audio"]}
    return MLAVL(inputs.texts(), **widths, **size, queries=queries, use_pe=use_pe)


def plugged(adapter, model: nn.Module, inputs: Inputs, with_texts: bool, with_mag2: bool, **grading) -> nn.Module:
    """The model with what the row plugs into it; `grading` sizes the text decoder of an adapter that brings one."""
    texts = inputs.texts()
    if with_texts:
        adapter.with_texts(model, texts, **grading)
    if with_mag2:
        adapter.with_mag2(model, texts, dropout=SMALL["dropout"] if inputs.small else 0.3)
    return model


def published_line(key: str, method: str, variant: str) -> Line:
    """The names of a row and what the paper prints in it, if it has the row."""
    for row in table(4):
        if row["row"] == key:
            numbers = {t: (float(row[f"sp_{t}"]), float(row[f"mse_{t}"])) for t in TARGETS["FS1000"]}
            return Line(key, method, variant, numbers, (float(row["sp_avg"]), float(row["mse_avg"])))
    return Line(key, method, variant)


def variants(numbers: tuple[str, ...], method: str, build, recipe, **row) -> list[Row]:
    """The rows of a baseline: plain, +Texts, +MAG2, and both."""
    plugs = ((False, False, ""), (True, False, "+Texts"), (False, True, "+MAG2"), (True, True, "+Texts+MAG2"))
    return [
        Row(published_line(key, method, name), partial(build, with_texts=texts, with_mag2=mag2), recipe, **row)
        for key, (texts, mag2, name) in zip(numbers, plugs, strict=True)
    ]


HEARD, ALL = ("visual", "audio"), ("visual", "audio", "flow")
TABLE4 = Table(
    name="table4",
    title="Table 4",
    targets=("TES", "PCS"),
    rows=(
        *variants(("1", "2", "3", "3b"), "CoFInAl", build_cofinal, COFINAL_RECIPE),
        *variants(("4", "5", "6", "6b"), "QTD", build_qtd, QTD_RECIPE),
        *variants(("7", "8", "9", "9b"), "PAMFN", build_pamfn, PAMFN_RECIPE, needs=ALL, stages=4),
        Row(published_line("10", "MLAVL", ""), build_mlavl, MLAVL_RECIPE, HEARD),
        Row(
            published_line("11", "MLAVL", "Texts->LV"),
            partial(build_mlavl, queries="learnable"),
            MLAVL_RECIPE,
            HEARD,
        ),
        Row(
            published_line("12", "MLAVL", "Texts->LV+PE"),
            partial(build_mlavl, queries="learnable", use_pe=True),
            MLAVL_RECIPE,
            HEARD,
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(main(TABLE4))
