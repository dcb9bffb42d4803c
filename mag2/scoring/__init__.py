"""What a trained model is for: load it, score performances, and say what each clip adds to a score."""

from mag2.scoring.loading import find_trained, load_trained
from mag2.scoring.trained import Trained

__all__ = ["Trained", "find_trained", "load_trained"]
