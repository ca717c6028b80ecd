"""The explorer: one HTML page in which a generator of images runs, for everyone to move."""

from rectilinear.explorer.page import write_explorer

__all__ = ["write_explorer"]
