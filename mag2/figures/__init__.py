"""The paper's figures for your own runs: `draw_figures(folder)` writes them; every other `draw_*` takes arrays.

They need the extra `figures` (matplotlib, scikit-learn), which is imported when something is drawn.
"""

from mag2.figures.collecting import FIGURES, Figures, draw_figures, make_figures
from mag2.figures.curves import draw_learning_curves, draw_seed_spread
from mag2.figures.embeddings import draw_fused_features, draw_grade_patterns
from mag2.figures.files import Drawing
from mag2.figures.grade_weights import draw_grade_weights
from mag2.figures.predictions import (
    Case,
    draw_cases,
    draw_contributions,
    draw_error_by_range,
    draw_predicted_against_true,
)

__all__ = [
    "FIGURES",
    "Case",
    "Drawing",
    "Figures",
    "draw_cases",
    "draw_contributions",
    "draw_error_by_range",
    "draw_figures",
    "draw_fused_features",
    "draw_grade_patterns",
    "draw_grade_weights",
    "draw_learning_curves",
    "draw_predicted_against_true",
    "draw_seed_spread",
    "make_figures",
]
