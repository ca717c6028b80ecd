"""Densities of a projector's coordinates: a Gaussian, a spline flow, the training objective."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rectilinear.checks import check_batch, check_finite
from rectilinear.errors import ConfigError
from rectilinear.invertible import Chain, Invertible, Rotation, Scaling, VectorFlow


def gaussian(coordinates: Tensor, noise: float = 0.0) -> Invertible:
    """A Gaussian density, as the affine network that whitens ``coordinates``.

    Args:
        coordinates: data to fit, ``(b, k)``.
        noise: ``noise^2 I`` is added to the covariance; 0 by default.

    Raises:
        ConfigError: for fewer than two rows.

    Example:
        >>> c = torch.randn(500, 3) @ torch.randn(3, 3) + 2
        >>> w = gaussian(c)(c)
        >>> bool(w.mean(0).abs().max() < 1e-4), bool((w.T.cov() - torch.eye(3)).abs().max() < 1e-3)
        (True, True)
    """
    check_batch(coordinates, tuple(coordinates.shape[-1:]), "coordinates")
    check_finite(coordinates, "coordinates")
    if len(coordinates) < 2:
        raise ConfigError(
            f"{len(coordinates)} rows for a Gaussian", "two or more", "Pass more data."
        )
    c = coordinates.detach().double()
    mean = c.mean(0)
    variances, axes = torch.linalg.eigh((c - mean).T @ (c - mean) / (len(c) - 1))
    std = (variances.clamp(min=0) + noise**2).sqrt()
    std = std.clamp(min=1e-6 * std.max())  # a constant coordinate still has an inverse
    return Chain(
        Rotation.from_matrix(axes.to(coordinates), mean.to(coordinates)),
        Scaling((1 / std).to(coordinates)),
    )


def spline(
    coordinates: Tensor, blocks: int = 6, width: int = 128, noise: float = 0.0, seed: int = 0
) -> Invertible:
    """An untrained spline flow: the Gaussian of ``coordinates``, then identity couplings.

    A single coordinate has nothing to be coupled with and keeps its Gaussian.

    Args:
        coordinates: data to fit, ``(b, k)``.
        blocks: number of spline couplings, 6 by default.
        width: hidden width of their conditioner networks, 128 by default.
        noise: ``noise^2 I`` is added to the covariance of the Gaussian; 0 by default.
        seed: of the initialisation, 0 by default.

    Example:
        >>> c = torch.randn(50, 2)
        >>> torch.allclose(spline(c)(c), gaussian(c)(c), atol=1e-6)
        True
    """
    base = gaussian(coordinates, noise)
    if base.dim < 2:
        return base
    flow = VectorFlow(
        base.dim, blocks, width, coupling="spline", scale_budget=float(blocks), seed=seed
    )
    return Chain(base, flow.to(coordinates))


class DensityObjective(nn.Module):
    """The negative log-likelihood of coordinates ``(b, k)``, in nats per coordinate.

    Args:
        density: the invertible network from coordinates to standard normal variables.
        noise: standard deviation of noise added to the coordinates, a regularisation; 0 by default.

    Example:
        >>> from rectilinear.invertible import Identity
        >>> round(float(DensityObjective(Identity(2))(torch.zeros(3, 2))["loss"]), 4)
        0.9189
    """

    def __init__(self, density: Invertible, noise: float = 0.0) -> None:
        super().__init__()
        self.density, self.noise = density, noise

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        noisy = batch + self.noise * torch.randn_like(batch) if self.noise else batch
        w, logdet = self.density.forward_and_logdet(noisy)
        normal = -0.5 * (w.square() + torch.log(w.new_tensor(2 * torch.pi))).sum(1)
        return {"loss": -(normal + logdet).mean() / batch.shape[1]}
