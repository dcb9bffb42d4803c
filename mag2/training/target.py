"""A target: one score of one dataset."""

from typing import NamedTuple

__all__ = ["AVERAGE", "Target"]

# The name under which tables show the average over all targets of a dataset.
AVERAGE = "average"


class Target(NamedTuple):
    """What a model is trained to score: `Target("FS1000", "TES")`, written "FS1000/TES" in files.

    Attributes:
        dataset: the dataset's name; "" where a grid of trainings has no more than one.
        name: a target of the dataset, or `AVERAGE`.
    """

    dataset: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "Target":
        """The target that `str` wrote."""
        dataset, _, name = text.rpartition("/")
        return cls(dataset, name)

    def __str__(self) -> str:
        return f"{self.dataset}/{self.name}" if self.dataset else self.name
