"""Compositions: chain, inverse, identity, fixed scales, and a network of leading coordinates."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as checkpointed

from rectilinear.errors import InputError, ShapeError, SingularOperatorError
from rectilinear.invertible.base import Invertible, VolumePreserving
from rectilinear.modules import module_list


class Identity(VolumePreserving):
    """The identity ``g(x) = x`` on arrays of ``shape``.

    Example:
        >>> Identity((3,)).inverse(torch.ones(1, 3))
        tensor([[1., 1., 1.]])
    """

    def __init__(self, shape: tuple[int, ...] | int) -> None:
        super().__init__()
        self.shape = self.latent_shape = (shape,) if isinstance(shape, int) else tuple(shape)

    def _latents(self, x: Tensor) -> Tensor:
        return x

    def _decode(self, z: Tensor) -> Tensor:
        return z


class Inverse(Invertible):
    """The inverse of a network as a network: encodes with ``g^-1``, decodes with ``g``.

    Example:
        >>> from rectilinear.invertible import Squeeze
        >>> unsqueeze = Inverse(Squeeze((1, 4, 4), 2))
        >>> unsqueeze(torch.zeros(2, 4, 2, 2)).shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(self, network: Invertible) -> None:
        super().__init__()
        self.network = network
        self.shape, self.latent_shape = network.latent_shape, network.shape

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.network._decode(x)
        if isinstance(self.network, VolumePreserving):
            return z, x.new_zeros(x.shape[0])
        return z, -self.network._encode(z)[1]

    def _latents(self, x: Tensor) -> Tensor:
        return self.network._decode(x)

    def _decode(self, z: Tensor) -> Tensor:
        return self.network._latents(z)


class Chain(Invertible):
    """The composition ``g = g_k . ... . g_1``; log-determinants add.

    With ``checkpoint=True`` the activations inside each block are recomputed in the backward pass
    instead of stored: the same gradient, less memory, about a third more time. (Forward-mode
    derivatives and ``torch.func.grad`` need ``checkpoint=False``.)

    Raises:
        InputError: without blocks.
        ShapeError: if the latents of one block do not fit the next.

    Example:
        >>> from rectilinear.invertible import Flatten, Rotation
        >>> g = Chain(Flatten((1, 2, 2)), Rotation(4))
        >>> g(torch.zeros(3, 1, 2, 2)).shape
        torch.Size([3, 4])
    """

    def __init__(self, *blocks: Invertible, checkpoint: bool = False) -> None:
        super().__init__()
        if not blocks:
            raise InputError(
                got="no blocks",
                expected="at least one",
                fix="Use Identity(shape) for the identity.",
            )
        for first, second in itertools.pairwise(blocks):
            if first.latent_shape != second.shape:
                raise ShapeError(
                    got=f"{type(first).__name__} with latents of shape {first.latent_shape}",
                    expected=f"{second.shape}, as the next block, {type(second).__name__}, needs",
                    fix="Put Flatten, Reshape or Squeeze between them.",
                )
        self.blocks = module_list(blocks)
        self.checkpoint = checkpoint
        self.shape, self.latent_shape = blocks[0].shape, blocks[-1].latent_shape

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logdet = x.new_zeros(x.shape[0])
        for block in self.blocks:
            x, added = self._call(block._encode, x)
            logdet = logdet + added
        return x, logdet

    def _latents(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = self._call(block._latents, x)
        return x

    def _decode(self, z: Tensor) -> Tensor:
        for block in reversed(self.blocks):
            z = self._call(block._decode, z)
        return z

    def _call(self, function, x):  # type: ignore[no-untyped-def]  # latents, or latents and log-determinant
        if self.checkpoint and torch.is_grad_enabled():
            return checkpointed(function, x, use_reentrant=False, preserve_rng_state=False)
        return function(x)


class Scaling(Invertible):
    """``z = x * scale`` with one fixed positive scale for each coordinate.

    The log-determinant is ``sum log scale``. Around a network,
    ``Chain(Scaling(1 / std), g, Scaling(std))`` lets ``g`` work at unit scale and leaves the scale
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
            raise ShapeError(
                f"scales of shape {tuple(scale.shape)}",
                "one for each coordinate, (n,)",
                "Flatten them: scale.flatten().",
            )
        if not bool(((scale > 0) & scale.isfinite()).all()):
            raise SingularOperatorError(
                "scales that are not all positive and finite", "positive ones", "Clamp them."
            )
        self.shape = self.latent_shape = (len(scale),)
        self.register_buffer("scale", scale.detach().clone())

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * self.scale, self.scale.log().sum().expand(len(x))

    def _decode(self, z: Tensor) -> Tensor:
        return z / self.scale


class Leading(Invertible):
    """A network on the leading coordinates, the others unchanged: ``(x_1, x_2) -> (g(x_1), x_2)``.

    Behind principal axes the leading coordinates carry the data and the others little but noise, so
    that a network of them alone costs a fraction of one of all.

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
                got=f"a network from {network.shape} to {network.latent_shape} for {dim} "
                "coordinates",
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
