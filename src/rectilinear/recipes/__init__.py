"""Named runs: a frozen configuration, what it trains, and the folder it leaves."""

from rectilinear.recipes.base import Recipe
from rectilinear.recipes.digits import Digits
from rectilinear.recipes.run import Run, open_run, recipe_named, train

__all__ = ["Digits", "Recipe", "Run", "open_run", "recipe_named", "train"]
