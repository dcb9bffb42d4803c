"""What a table states: its rows, the targets that they are trained on, and what the paper prints for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

from torch import nn

from mag2.alignment import SimilarityWeighted
from mag2.data import TARGETS
from mag2.data.performances import VISION_LANGUAGE
from mag2.published import table
from mag2.texts import CONTROLS, TextFeatures
from mag2.training.recipe import Recipe

# A target of a dataset is written "FS1000/TES", the average over all targets of one "RG/average".
AVERAGE = "average"
CLIP = "open_clip:ViT-B-16/openai"
METRICS = {"sp": "spearman", "mse": "mse"}  # as the paper's tables name their columns


@dataclass(frozen=True)
class Line:
    """A row of a table: its names and, for real data, what the paper prints: target -> metric -> number."""

    key: str
    method: str
    variant: str = ""
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Method and variant."""
        return f"{self.method} {self.variant}".strip()


@dataclass(frozen=True)
class Inputs:
    """What a row's model is built for.

    Attributes:
        sport: whose texts. widths: of the features, by modality.
        small: the model is to be narrow, for a first look on a few cores; otherwise it has the size of its paper.
        control: what to take away from the guidance of the row, None for nothing.
        encoder: the text encoder whose features are wanted, "shipped" or a name that `TextFeatures.load` knows.
    """

    sport: str
    widths: Mapping[str, int]
    small: bool = False
    control: str | None = None
    encoder: str = "shipped"

    def texts(self, **prompts: Any) -> TextFeatures:
        """The text features of the sport; `prompts` are those of `TextFeatures.for_sport` (grades, templates)."""
        return load_texts(self.sport, self.encoder, **prompts)

    @property
    def tower(self) -> str:
        """The name of a text tower that can be trained; for narrow models a small one that was never trained."""
        if self.encoder.startswith(("open_clip:", "random:")):
            return self.encoder
        return "random:0" if self.small else CLIP

    @property
    def clip(self) -> str:
        """The name of a CLIP text encoder: the one that was asked for, or as `tower`."""
        return self.tower if self.encoder == "shipped" else self.encoder


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        line: its names and what the paper printed.
        build: makes its model; must be importable by a fresh process.
        recipe: how it is trained. needs: the features that it cannot do without. stages: how often `fit` runs for it.
        extractors: modality -> the network of its features (`dataset_providers.EXTRACTOR_WIDTHS`); by default those
            that were released.
        guided: it has a graph, from which a control can take something away. control: what is taken away.
    """

    line: Line
    build: Callable[[Inputs], nn.Module]
    recipe: Recipe
    needs: tuple[str, ...] = ("visual",)
    stages: int = 1
    extractors: Mapping[str, str] = field(default_factory=dict)
    guided: bool = False
    control: str | None = None

    def weighted(self) -> list["Row"]:
        """The same row once more with edges weighted from outside, unpublished; none where it has no graph."""
        line = Line(f"{self.line.key}-weighted", self.line.method, f"{self.line.variant} (weighted edges)".strip())
        built = partial(build_weighted, build=self.build)
        needs = (*self.needs, VISION_LANGUAGE)
        return [replace(self, line=line, build=built, needs=needs)] if self.guided else []

    def controls(self) -> list["Row"]:
        """The same row once more for each control, unpublished; none where it has no graph."""
        told = {name: f"({name.replace('_', ' ')})" for name in CONTROLS}
        return [
            replace(
                self,
                line=Line(f"{self.line.key}-{name}", self.line.method, f"{self.line.variant} {told[name]}".strip()),
                control=name,
            )
            for name in (CONTROLS if self.guided else ())
        ]


def build_weighted(inputs: Inputs, build: Callable[[Inputs], nn.Module]) -> nn.Module:
    """A row's model whose graphs hear each text as much as the clip resembles it.

    Raises:
        ValueError: the clips' features in the encoder's space are of another width than its texts.
    """
    texts, width = inputs.texts(), inputs.widths[VISION_LANGUAGE]
    if width != texts.width:
        raise ValueError(
            f"the vision_language features are {width} wide, the texts of {inputs.encoder} {texts.width}; "
            f"name the encoder of the features with --texts"
        )
    return SimilarityWeighted(build(inputs), texts)


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        name: of its files. title: of its page.
        rows: what is compared.
        targets: dataset -> the targets that are trained unless others are asked for.
        metrics: what the page shows.
        facts: a part of the page that no training changes, made by this function; None for no such part.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    targets: Mapping[str, tuple[str, ...]]
    metrics: tuple[str, ...] = ("spearman", "mse")
    facts: Callable[[], str] | None = None


def published(number: int, dataset: str = "FS1000", **where: str) -> dict[str, dict[str, float]]:
    """What a table of the paper prints in the row with these entries: target -> metric -> number.

    Columns of another dataset bear its name ("sp_RG_avg").

    Raises:
        ValueError: no such table, or not exactly one such row.
    """
    rows = [row for row in table(number) if all(row[column] == value for column, value in where.items())]
    if len(rows) != 1:
        raise ValueError(f"table {number} has {len(rows)} rows with {where}, 1 is wanted")
    numbers: dict[str, dict[str, float]] = {}
    for column, value in rows[0].items():
        metric, _, target = column.partition("_")
        if metric in METRICS and target:
            numbers.setdefault(_target(target, dataset), {})[METRICS[metric]] = float(value)
    return numbers


def key(dataset: str, target: str) -> str:
    """How a target is written."""
    return f"{dataset}/{target}"


def parts(written: str) -> tuple[str, str]:
    """The dataset and the target of what `key` wrote."""
    dataset, _, target = written.partition("/")
    return dataset, target


@cache
def load_texts(sport: str, encoder: str, **prompts: Any) -> TextFeatures:
    """`TextFeatures.load`, once a process: an encoder takes seconds to build, and every row asks for its texts."""
    return TextFeatures.load(sport, encoder, **prompts)


def _target(column: str, dataset: str) -> str:
    name, _, rest = column.rpartition("_")
    whose: Any = name if name in TARGETS else dataset
    return key(whose, AVERAGE if rest == "avg" else rest)
