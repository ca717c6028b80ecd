"""Data sets: images with labels, points in the plane, trajectories and series."""

from rectilinear.datasets.images import Images
from rectilinear.datasets.load import data_root as data_root
from rectilinear.datasets.load import letters, load
from rectilinear.datasets.mnist import download
from rectilinear.datasets.series import SeriesFile, read_series
from rectilinear.datasets.synthetic import Trajectories, simulate_system, toy2d

__all__ = [
    "Images",
    "SeriesFile",
    "Trajectories",
    "download",
    "letters",
    "load",
    "read_series",
    "simulate_system",
    "toy2d",
]
