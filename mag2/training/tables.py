"""A table: its rows, the targets that they are trained on, and the numbers of the paper for them."""

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
    """The heading of a row: its names and, for real data, the numbers of the paper.

    Attributes:
        key: of the row, for `--rows`.
        method: name of the method.
        variant: "+MAG2" for example.
        published: target -> metric -> number in the paper.
    """

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
    """The data and settings for which the model of a row is built.

    Attributes:
        sport: a key of `ACTIONS` or `OTHER_ACTIONS` of `mag2.vocabulary`.
        widths: widths of the features, by modality.
        small: True for a narrow model, for a first trial on a few cores; False for one of the size of its paper.
        control: what to remove from the guides of the row, one of `mag2.texts.CONTROLS`; None for nothing.
        encoder: the text encoder, "shipped" or a name as in `TextFeatures.load`.
        settings: arguments of the model's constructor from the row's recipe, for its target and for `small`.
        start: how the output of the guides of "+MAG2" enters the model, as in `mag2.attach`.
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
        heading: its names and the numbers of the paper.
        build: makes its model from `ModelInputs`; a function that another process can import.
        recipe: how it is trained: a `Recipe`, or a function of dataset and target that returns a `ModelRecipe`, such as
            those of `mag2.training.recipes`. With a `Recipe` the numbers of epochs are the paper's.
        needs: the modalities that it needs.
        stages: the number of calls of `fit` for it.
        extractors: modality -> the network of its features (`dataset_providers.EXTRACTOR_WIDTHS`); by default those
            that were released.
        guided: whether it has a graph, so that controls can be trained.
        control: the control, one of `mag2.texts.CONTROLS`; None for none.
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
    """A table of the paper, or of your own.

    Attributes:
        name: of its files.
        title: of its page.
        rows: the rows that are compared.
        targets: dataset -> the targets that are trained by default.
        simulated: the same for calls without data and datasets, which are simulated; `targets` by default.
        seeds: the default seeds of such calls.
        usual_rows: keys of the rows that are trained by default; None for all.
        metrics: the measures on the page.
        facts: returns a part of the page that does not depend on trainings; None for no such part.
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
    """Return the numbers in a row of a table of the paper: target -> metric -> number.

    Args:
        number: of the table, 1 to 7.
        dataset: the dataset of columns without a dataset in their name ("sp_RG_avg" has one).
        where: column -> entry, to select the row.

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
