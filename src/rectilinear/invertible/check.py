"""Numerical check of an invertible network: round trips, determinism, log-determinant."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from rectilinear.checks import check_batch, check_finite, check_tolerance, tolerance
from rectilinear.errors import NonFiniteError, NotInitializedError, NotInvertibleError
from rectilinear.invertible.actnorm import ActNorm
from rectilinear.invertible.base import Invertible, autograd_logdet
from rectilinear.random import generator

MAX_TOLERANCE = 0.1  # in half precision: at 1 nothing of the data need come back


@dataclass(frozen=True)
class InvertibilityReport:
    """The measurements of :func:`check_invertible`.

    Attributes:
        forward_error: largest entry of ``|g^-1(g(x)) - x|``.
        latent_error: largest entry of ``|g(g^-1(z)) - z|`` on the given latents.
        deterministic: whether two evaluations agree, in both directions.
        amplification: largest growth of a small perturbation, in either direction: a lower bound of
            the Lipschitz constants, and the factor by which rounding errors in latents come back.
        logdet_error: largest difference of the log-determinant from automatic differentiation, if
            asked for.
        tolerance: what the errors were compared with.
    """

    forward_error: float
    latent_error: float
    deterministic: bool
    amplification: float
    logdet_error: float | None
    tolerance: float

    @property
    def problems(self) -> list[str]:
        """The reasons why the network is not invertible to the tolerance; empty if it is."""
        found = []
        if not self.forward_error <= self.tolerance:  # also for NaN
            found.append(f"|g^-1(g(x)) - x| = {self.forward_error:.1e}")
        if not self.latent_error <= self.tolerance:
            found.append(f"|g(g^-1(z)) - z| = {self.latent_error:.1e}")
        if not self.deterministic:
            found.append("two evaluations that differ")
        if not isfinite(self.amplification):
            found.append(f"perturbations that grow by {self.amplification}")
        if self.logdet_error is not None and not self.logdet_error <= self.tolerance:
            found.append(f"a log-determinant wrong by {self.logdet_error:.1e}")
        return found

    @property
    def ok(self) -> bool:
        """True if the network is invertible to the tolerance."""
        return not self.problems

    def raise_if_bad(self) -> None:
        """Raise unless the network is invertible to the tolerance.

        Raises:
            NotInvertibleError: naming what failed.
        """
        if not self.ok:
            fix = (
                "Call g.eval(), and remove dropout and batch statistics."
                if not self.deterministic
                else "Bound the log-scales, use additive couplings or float64, or raise tol."
            )
            raise NotInvertibleError(
                got="; ".join(self.problems), expected=f"errors <= {self.tolerance:.1e}", fix=fix
            )


@torch.no_grad()
def check_invertible(
    g: Invertible,
    x: Tensor,
    latents: Tensor | None = None,
    *,
    logdet: bool = False,
    tol: float | None = None,
) -> InvertibilityReport:
    """Measure whether ``g.inverse`` undoes ``g`` on data, and ``g`` its inverse on latents.

    The network is used as it is, in training or evaluation mode: dropout shows up as a random
    inverse.

    Args:
        g: the network.
        x: data, ``(b, *shape)``.
        latents: latents to decode, ``(b, *latent_shape)``, such as an operator produces; Gaussian
            ones with the mean and the standard deviation of ``g(x)`` if not given.
        logdet: also compare the log-determinant with automatic differentiation (``n`` backward
            passes).
        tol: largest relative error; by default what the dtype and the number of coordinates allow,
            and never more than a tenth.

    Raises:
        ShapeError: if ``x`` or ``latents`` have the wrong shape.
        NonFiniteError: if they, or ``g(x)``, hold NaN or infinite entries.
        NotInitializedError: if the network has an ActNorm that has seen no training batch.
        ConfigError: if ``tol`` is negative or not finite.

    Example:
        >>> from rectilinear.invertible import Rotation
        >>> report = check_invertible(Rotation(3), torch.randn(10, 3))
        >>> report.ok, report.deterministic, round(report.amplification, 2)
        (True, True, 1.0)
    """
    check_batch(x, g.shape, "x")
    check_finite(x, "x")
    check_tolerance(tol, "tol")
    if any(isinstance(m, ActNorm) and not m.initialized for m in g.modules()):
        raise NotInitializedError(
            got="an ActNorm that has seen no training batch",
            expected="an initialised network",
            fix="Call g(x) once in training mode, or load a state dict.",
        )
    random = generator(0, x.device)

    def noise_like(a: Tensor) -> Tensor:
        return torch.randn(a.shape, dtype=a.dtype, device=a.device, generator=random)

    z = g(x)
    if not bool(z.isfinite().all()):
        raise NonFiniteError(
            got=f"g(x) with NaN or infinite entries for x of {x.dtype} up to "
            f"{x.abs().max().item():.1e}",
            expected="finite latents",
            fix="Scale the data down, convert network and data to a dtype of more range, or check "
            "the parameters.",
        )
    if latents is None:
        center, spread = z.mean(0), z.std(0, correction=0)
        latents = center + spread * noise_like(z)
    check_batch(latents, g.latent_shape, "latents")
    check_finite(latents, "latents")
    back, decoded = g.inverse(z), g.inverse(latents)
    again = g(decoded)
    limit = min(tolerance(x.dtype, n=g.dim), MAX_TOLERANCE) if tol is None else tol
    repeats = max(_error(g(x), z), _error(g.inverse(z), back))

    size = max(_size(x), _size(z))
    step = size * torch.finfo(x.dtype).eps ** (1 / 3)
    growth = 0.0
    for _ in range(4):
        dx, dz = noise_like(x), noise_like(z)
        dx, dz = (
            step * d / d.flatten(1).norm(dim=1).reshape(-1, *(1,) * (d.ndim - 1)) for d in (dx, dz)
        )
        moved = torch.cat([(g(x + dx) - z).flatten(1), (g.inverse(z + dz) - back).flatten(1)])
        growth = max(growth, (moved.norm(dim=1) / step).nan_to_num(nan=torch.inf).max().item())

    logdet_error = None
    if logdet:
        exact = autograd_logdet(g, x)
        logdet_error = _error(g.forward_and_logdet(x)[1], exact) / g.dim
    return InvertibilityReport(
        forward_error=_error(back, x),
        latent_error=_error(again, latents),
        deterministic=repeats <= limit,
        amplification=growth,
        logdet_error=logdet_error,
        tolerance=limit,
    )


def _size(a: Tensor) -> float:
    return max(1.0, a.abs().max().item())


def _error(a: Tensor, b: Tensor) -> float:
    error = (a - b).abs().nan_to_num(nan=torch.inf)  # inf - inf is no agreement
    return error.max().item() / _size(b)
