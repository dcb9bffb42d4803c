"""What a table states: its rows, the targets that they are trained on, and what the paper prints for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import nn

from mag2.alignment import SimilarityWeighted
from mag2.data import TARGETS
from mag2.data.performances import VISION_LANGUAGE
from mag2.published import table
from mag2.texts import CONTROLS, TextFeatures
from mag2.training.recipe import Recipe, published_epochs
from mag2.training.recipes.model_recipe import ModelRecipe, Recipes
from mag2.training.target import AVERAGE, Target
from mag2.training.text_cache import load_texts

__all__ = ["Heading", "ModelInputs", "Row", "Table", "build_weighted", "published"]

CLIP = "open_clip:ViT-B-16/openai"
METRICS = {"sp": "spearman", "mse": "mse"}  # as the paper's tables name their columns


@dataclass(frozen=True)
class Heading:
    """The left side of a row: its names and, for real data, what the paper prints: target -> metric -> number."""

    key: str
    method: str
    variant: str = ""
    published: Mapping[Target, Mapping[str, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Method and variant."""
        return f"{self.method} {self.variant}".strip()


@dataclass(frozen=True)
class ModelInputs:
    """What a row's model is built for.

    Attributes:
        sport: a key of `ACTIONS` or `OTHER_ACTIONS` of `mag2.vocabulary`. widths: of the features, by modality.
        small: build a narrow model, for a first look on a few cores; otherwise one of the size of its paper.
        control: what to take away from the guidance of the row, one of `mag2.texts.CONTROLS`; None for nothing.
        encoder: the text encoder, "shipped" or a name that `TextFeatures.load` knows.
        settings: what the row's recipe sets of the model's constructor, for its target, and for `small`.
        start: how the guides of "+MAG2" enter, as in `mag2.attach`.
    """

    sport: str
    widths: Mapping[str, int]
    small: bool = False
    control: str | None = None
    encoder: str = "shipped"
    settings: Mapping[str, Any] = field(default_factory=dict)
    start: str = "residual"

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
        """The name of a CLIP text encoder: the encoder, or where that is the shipped one, as `tower`."""
        return self.tower if self.encoder == "shipped" else self.encoder


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        heading: its names and what the paper printed.
        build: makes its model; a fresh process can import it.
        recipe: how it is trained: a `Recipe`, or a function of dataset and target that returns a `ModelRecipe`, such as
            those of `mag2.training.recipes`. The epochs of a `Recipe` are the paper's.
        needs: the modalities that it cannot do without. stages: how often `fit` runs for it.
        extractors: modality -> the network of its features (`dataset_providers.EXTRACTOR_WIDTHS`); by default those
            that were released.
        guided: it has a graph, from which a control can take something away. control: what is taken away.
    """

    heading: Heading
    build: Callable[[ModelInputs], nn.Module]
    recipe: Recipe | Recipes
    needs: tuple[str, ...] = ("visual",)
    stages: int = 1
    extractors: Mapping[str, str] = field(default_factory=dict)
    guided: bool = False
    control: str | None = None

    def recipe_for(self, target: Target) -> ModelRecipe:
        """How its model is trained for a target at the size of its paper."""
        if isinstance(self.recipe, Recipe):
            return ModelRecipe(self.recipe, published_epochs(*target))
        return self.recipe(*target)

    def weighted(self) -> list["Row"]:
        """The same row once more with edges weighted from outside, unpublished; none where it has no graph."""
        heading = self._heading("weighted", "weighted edges")
        built = partial(build_weighted, build=self.build)
        needs = (*self.needs, VISION_LANGUAGE)
        return [replace(self, heading=heading, build=built, needs=needs)] if self.guided else []

    def controls(self) -> list["Row"]:
        """The same row once more for each control, unpublished; none where it has no graph."""
        names = CONTROLS if self.guided else ()
        return [replace(self, heading=self._heading(name, name.replace("_", " ")), control=name) for name in names]

    def _heading(self, suffix: str, words: str) -> Heading:
        return Heading(f"{self.heading.key}-{suffix}", self.heading.method, f"{self.heading.variant} ({words})".strip())


def build_weighted(inputs: ModelInputs, build: Callable[[ModelInputs], nn.Module]) -> nn.Module:
    """A row's model in whose graphs a clip receives each text with the weight of their similarity.

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


@dataclass(frozen=True, repr=False)
class Table:
    """A table of the paper.

    Attributes:
        name: of its files. title: of its page.
        rows: what is compared.
        targets: dataset -> the names of the targets that are trained unless others are requested.
        simulated: the same where neither data nor datasets are requested; `targets`, simulated, by default.
        seeds: those of that call unless others are requested.
        usual_rows: the keys of the rows that are trained unless others are requested; all by default.
        metrics: what the page shows.
        facts: makes a part of the page that no training changes; None for no such part.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    targets: Mapping[str, tuple[str, ...]]
    metrics: tuple[str, ...] = ("spearman", "mse")
    facts: Callable[[], str] | None = None
    simulated: Mapping[str, tuple[str, ...]] | None = None
    seeds: tuple[int, ...] = (0,)
    usual_rows: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"Table({self.title!r}, rows {', '.join(row.heading.key for row in self.rows)})"


def published(number: int, dataset: str = "FS1000", **where: str) -> dict[Target, dict[str, float]]:
    """What a table of the paper prints in the row with these entries: target -> metric -> number.

    Columns of another dataset bear its name ("sp_RG_avg").

    Raises:
        ValueError: no such table, or not exactly one such row.
    """
    rows = [row for row in table(number) if all(row[column] == value for column, value in where.items())]
    if len(rows) != 1:
        raise ValueError(f"table {number} has {len(rows)} rows with {where}, 1 is wanted")
    numbers: dict[Target, dict[str, float]] = {}
    for column, value in rows[0].items():
        metric, _, target = column.partition("_")
        if metric in METRICS and target:
            numbers.setdefault(_target(target, dataset), {})[METRICS[metric]] = float(value)
    return numbers


def _target(column: str, dataset: str) -> Target:
    name, _, rest = column.rpartition("_")
    return Target(name if name in TARGETS else dataset, AVERAGE if rest == "avg" else rest)
