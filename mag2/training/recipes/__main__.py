"""Print the recipes of all models: `python -m mag2.training.recipes`."""

import sys

from mag2.training.recipes import RECIPES
from mag2.training.recipes.page import main

if __name__ == "__main__":
    sys.exit(main(RECIPES))
