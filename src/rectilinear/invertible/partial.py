"""Blocks that treat coordinates apart: a fixed scale for each, and a network on the leading ones alone."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear.errors import ShapeError, SingularOperatorError
from rectilinear.invertible.base import Invertible


class Scaling(Invertible):
    """``z = x * scale`` with one fixed positive scale for each coordinate; log-determinant ``sum log scale``.

    Around a network, ``Chain(Scaling(1 / std), g, Scaling(std))`` lets ``g`` work at unit scale and leaves the scale
    of the latents to the operator.

    Args:
        scale: ``(n,)``, positive.

    Raises:
        ShapeError: if ``scale`` is not a vector.
        SingularOperatorError: if a scale is not positive and finite.

    Example:
        >>> g = Scaling(torch.tensor([2.0, 4.0]))
        >>> g(torch.ones(1, 2)).tolist(), g.inverse(torch.ones(1, 2)).tolist()
        ([[2.0, 4.0]], [[0.5, 0.25]])
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        if scale.ndim != 1:
            raise ShapeError(f"scales of shape {tuple(scale.shape)}", "one for each coordinate, (n,)")
        if not bool(((scale > 0) & scale.isfinite()).all()):
            raise SingularOperatorError("scales that are not all positive and finite", "positive ones", "Clamp them.")
        self.shape = self.latent_shape = (len(scale),)
        self.register_buffer("scale", scale.detach().clone())

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * self.scale, self.scale.log().sum().expand(len(x))

    def _decode(self, z: Tensor) -> Tensor:
        return z / self.scale


class Leading(Invertible):
    """A network on the leading coordinates, the others unchanged: ``(x_1, x_2) -> (g(x_1), x_2)``.

    Behind principal axes the leading coordinates carry the data and the others little but noise, so that a network of
    them alone costs a fraction of one of all.

    Args:
        network: on vectors, ``(k,)``.
        dim: number of coordinates, at least ``k``.

    Raises:
        ShapeError: if the network is not on vectors of at most ``dim`` coordinates.

    Example:
        >>> g = Leading(Scaling(torch.tensor([2.0])), dim=3)
        >>> g(torch.ones(1, 3)).tolist()
        [[2.0, 1.0, 1.0]]
    """

    def __init__(self, network: Invertible, dim: int) -> None:
        super().__init__()
        if len(network.shape) != 1 or network.shape != network.latent_shape or network.dim > dim:
            raise ShapeError(
                got=f"a network from {network.shape} to {network.latent_shape} for {dim} coordinates",
                expected="one on vectors of at most that many",
                fix="Put a Flatten before it, or raise dim.",
            )
        self.shape = self.latent_shape = (dim,)
        self.network = network

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        leading, rest = self._split(x)
        z, logdet = self.network._encode(leading)
        return torch.cat([z, rest], dim=1), logdet

    def _decode(self, z: Tensor) -> Tensor:
        leading, rest = self._split(z)
        return torch.cat([self.network._decode(leading), rest], dim=1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, : self.network.dim], x[:, self.network.dim :]
