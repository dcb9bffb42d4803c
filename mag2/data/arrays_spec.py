"""A dataset of your own arrays under a name, as every table's command reads it."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from mag2.data.errors import DataError
from mag2.data.performances import Dataset
from mag2.data.reading import Locations, require_folder
from mag2.data.spec import DatasetSpec

__all__ = ["ArraysSpec"]

# What `read` gives to `Dataset.from_arrays` itself.
_OWN = ("name", "target", "scale", "clips")


class ArraysSpec(DatasetSpec):
    """A dataset whose features and scores your own function reads.

    A subclass defines `name`, `sport`, `scales`, `clips` and `arrays`. After `mag2.data.register(TheSubclass())` the
    command of every table accepts ``--data NAME=FOLDER``.
    """

    label_files: ClassVar[Mapping[str, str]] = {}
    features: ClassVar[Mapping[str, Locations]] = {}

    @abstractmethod
    def arrays(self, folder: Path, target: str) -> Mapping[str, Any]:
        """Return the arguments of `Dataset.from_arrays` for one target, as a dict.

        "features" and "scores" are required. Leave out name, target, scale and clips: the class has them.

        Args:
            folder: the folder that the user gave.
            target: one of `targets`.
        """

    def read_labels(self, files: Mapping[str, Path], target: str) -> NoReturn:
        """Raise DataError: there are no label files, because scores are a part of `arrays`."""
        raise DataError(f"{self.name} has no label files: its scores are a part of arrays()")

    def read(
        self,
        folder: str | Path,
        target: str,
        *,
        clips: int | None = None,
        label_files: Mapping[str, str | Path] | None = None,
        features: Mapping[str, Locations | None] | None = None,
        cache: str | Path | None = None,
        progress: Callable[[int, int], None] | None = None,
        label_folder: str | Path | None = None,
        feature_folder: str | Path | None = None,
        needs: Collection[str] | None = None,
        crops: str = "shortest",
    ) -> Dataset:
        """Read the dataset for one target; arguments as in `DatasetSpec.read`.

        `label_files`, `features`, `label_folder`, `feature_folder` and `crops` must have their defaults.

        Raises:
            DataError: one of these is given, no such target or folder, or `arrays` returned something else than the
                arguments of `Dataset.from_arrays`.
        """
        folder = Path(folder)
        self.require_target(target)
        if label_files or features or label_folder or feature_folder:
            raise DataError(f"{self.name} is read by arrays(): give it no label files and no locations of features")
        if crops != "shortest":
            raise DataError(f"{self.name} is read by arrays(): its videos end with their shortest modality")
        require_folder(folder, self.name)
        given = self.arrays(folder, target)
        if not isinstance(given, Mapping) or not {"features", "scores"} <= set(given):
            raise DataError(f"{self.name}.arrays returned no features or scores: return a dict with both")
        double = [name for name in _OWN if name in given]
        if double:
            raise DataError(f"{self.name}.arrays returned {double[0]}: leave it out, it is an attribute of the dataset")
        options: dict[str, Any] = {
            "cache": cache,
            **given,
            "name": self.name,
            "target": target,
            "scale": self.scales[target],
            "clips": self.clips if clips is None else clips,
        }
        return Dataset.from_arrays(**options)
