"""Use a trained model: load it, score performances, and compute what each clip adds to a score."""

from mag2.scoring.conformal import Interval, calibrate
from mag2.scoring.contributions import METHODS, contributions
from mag2.scoring.features import read_given
from mag2.scoring.loading import find_trained, load_trained
from mag2.scoring.score import score_by
from mag2.scoring.scores import NamedAction, Score, Scores
from mag2.scoring.trained import Trained

__all__ = [
    "METHODS",
    "Interval",
    "NamedAction",
    "Score",
    "Scores",
    "Trained",
    "calibrate",
    "contributions",
    "find_trained",
    "load_trained",
    "read_given",
    "score_by",
]
