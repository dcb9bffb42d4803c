"""What each dataset is scored on, and the constant each score is divided by."""

from mag2.published import recipes

# Label scales of the published recipes: label = score / scale, in [0, 1]. FS1000's PCS is first divided by
# the program factor of its label row.
SCALES: dict[str, dict[str, float]] = {}
for (_dataset, _target), _published in recipes().items():
    SCALES.setdefault(_dataset, {})[_target] = _published.score_scale

# The published recipes have no row for LOGO. Its scores run from 0 to 100, so the scale is 100; that is our choice.
SCALES["LOGO"] = {"score": 100.0}

TARGETS: dict[str, tuple[str, ...]] = {dataset: tuple(scales) for dataset, scales in SCALES.items()}
