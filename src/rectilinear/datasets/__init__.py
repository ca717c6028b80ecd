"""Data sets: labelled images from the package, from IDX files or from a folder, and two-dimensional
toys.
"""

from rectilinear.datasets.download import download
from rectilinear.datasets.images import Images
from rectilinear.datasets.load import NAMES, data_root, load, located
from rectilinear.datasets.series import read_series
from rectilinear.datasets.toys import TOYS, letters, toy2d
from rectilinear.datasets.trajectories import SYSTEMS, Trajectories, linear_eigenvalues, simulate

__all__ = [
    "NAMES",
    "SYSTEMS",
    "TOYS",
    "Images",
    "Trajectories",
    "data_root",
    "download",
    "letters",
    "linear_eigenvalues",
    "load",
    "located",
    "read_series",
    "simulate",
    "toy2d",
]
