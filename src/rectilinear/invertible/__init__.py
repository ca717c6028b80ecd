"""Invertible networks: the blocks, two ready networks, adapters, and the check that an inverse is one."""

from rectilinear.invertible.actnorm import ActNorm
from rectilinear.invertible.base import Invertible, VolumePreserving
from rectilinear.invertible.chain import Chain, Identity, Inverse
from rectilinear.invertible.conditioners import MLP, ConvNet, ViT
from rectilinear.invertible.coupling import AdditiveCoupling, AffineCoupling
from rectilinear.invertible.image import ImageFlow
from rectilinear.invertible.precision import Precision, on_grid, to_grid
from rectilinear.invertible.reshape import Flatten, Patches, Permutation, Reshape, Squeeze
from rectilinear.invertible.rotation import Conv1x1, Rotation
from rectilinear.invertible.vector import VectorFlow

__all__ = [
    "MLP",
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Chain",
    "Conv1x1",
    "ConvNet",
    "Flatten",
    "Identity",
    "ImageFlow",
    "Inverse",
    "Invertible",
    "Patches",
    "Permutation",
    "Precision",
    "Reshape",
    "Rotation",
    "Squeeze",
    "VectorFlow",
    "ViT",
    "VolumePreserving",
    "on_grid",
    "to_grid",
]
