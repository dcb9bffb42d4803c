"""Training: recipes, one model (`fit`, `train`), folds (`cross_validate`), grids of trainings, and their pages."""

from mag2.training.contract import ContractError, ScoringModel
from mag2.training.cross_validation import CrossValidation, cross_validate
from mag2.training.fit import fit
from mag2.training.history import Epoch, History
from mag2.training.prediction import measure, predict
from mag2.training.recipe import Recipe
from mag2.training.run import Run
from mag2.training.stages import train
from mag2.training.trained_folder import save_trained
from mag2.training.validation import Validation

__all__ = [
    "ContractError",
    "CrossValidation",
    "Epoch",
    "History",
    "Recipe",
    "Run",
    "ScoringModel",
    "Validation",
    "cross_validate",
    "fit",
    "measure",
    "predict",
    "save_trained",
    "train",
]
