"""Invertible networks: blocks, two ready networks, adapters, and a numerical check."""

from rectilinear.invertible.actnorm import ActNorm
from rectilinear.invertible.adapters import (
    from_callables,
    from_freia,
    from_module,
    from_normflows,
    from_zuko,
)
from rectilinear.invertible.base import Invertible, VolumePreserving, to_grid
from rectilinear.invertible.chain import Chain, Identity, Inverse, Leading, Scaling
from rectilinear.invertible.check import InvertibilityReport, check_invertible
from rectilinear.invertible.conditioners import MLP, ConvNet, ViT
from rectilinear.invertible.coupling import AdditiveCoupling, AffineCoupling, SplineCoupling
from rectilinear.invertible.flows import ImageFlow, VectorFlow
from rectilinear.invertible.mixture import MixtureMap
from rectilinear.invertible.mixture_fit import MixtureFit, fit_mixture
from rectilinear.invertible.reshape import Flatten, Patches, Permutation, Reshape, Squeeze
from rectilinear.invertible.rotation import Conv1x1, Reflections, Rotation

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
    "InvertibilityReport",
    "Invertible",
    "Leading",
    "MixtureFit",
    "MixtureMap",
    "Patches",
    "Permutation",
    "Reflections",
    "Reshape",
    "Rotation",
    "Scaling",
    "SplineCoupling",
    "Squeeze",
    "VectorFlow",
    "ViT",
    "VolumePreserving",
    "check_invertible",
    "fit_mixture",
    "from_callables",
    "from_freia",
    "from_module",
    "from_normflows",
    "from_zuko",
    "to_grid",
]
