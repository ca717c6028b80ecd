"""Named runs: a frozen configuration, what it trains, and the folder it leaves."""

from rectilinear.recipes.base import Features, Recipe
from rectilinear.recipes.generators import Digits
from rectilinear.recipes.run import Run, changed, load, open_run, recipe_named, train

__all__ = [
    "Digits",
    "Features",
    "Recipe",
    "Run",
    "changed",
    "load",
    "open_run",
    "recipe_named",
    "train",
]
