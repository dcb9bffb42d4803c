"""What each dataset is scored on, and the constant each score is divided by."""

from collections.abc import Mapping

from mag2.published import recipes

# Label scales: label = score / scale, in [0, 1]. FS1000's PCS is first divided by the program factor of its label row.
SCALES: dict[str, dict[str, float]] = {}
TARGETS: dict[str, tuple[str, ...]] = {}


def declare(dataset: str, scales: Mapping[str, float]) -> None:
    """Make a dataset's targets known, with the scale of each."""
    SCALES[dataset] = dict(scales)
    TARGETS[dataset] = tuple(scales)


for _dataset in dict.fromkeys(dataset for dataset, _ in recipes()):
    declare(_dataset, {target: known.score_scale for (name, target), known in recipes().items() if name == _dataset})
