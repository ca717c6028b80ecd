"""Velocities that are linear at every time, ``dz/dt = W(t) z``: constant, series, networks, solved.

:class:`TimeVarying` is the contract. A new family is one class here: ``velocity(t)`` suffices to
sample, to fold all steps into one operator and to be saved; ``transport`` and ``fixed_factors``
make the fold exact or cheap where a family has a closed form or factors that do not depend on the
time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import pi
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from rectilinear.errors import ConfigError, ShapeError, SingularOperatorError
from rectilinear.operators import matrix_functions as _matrix
from rectilinear.operators.algebra import add, scale
from rectilinear.operators.base import Operator, require_square
from rectilinear.operators.dense import Dense
from rectilinear.operators.diagonal import Diagonal, Identity
from rectilinear.operators.expm import expm
from rectilinear.operators.fourier import Spectral
from rectilinear.operators.low_rank import LowRank, ScalarPlusLowRank
from rectilinear.serialization import Configured


class FixedFactors(NamedTuple):
    """``W(t) = scale(t) I + u core(t) v^T``: ``u``, ``v`` ``(n, R)``, ``at(t) = scale, core``."""

    u: Tensor
    v: Tensor
    at: Callable[[float], tuple[Tensor, Tensor]]


class TimeVarying(Configured, ABC):
    """A velocity field that is linear at every time: ``dz/dt = W(t) z`` for ``t`` in ``[0, 1]``.

    ``velocity(t)`` is ``W(t)``; ``endpoint(t) = I + (1 - t) W(t)`` predicts ``z_1`` from ``z_t``.
    ``t`` is a float or a scalar tensor (one operator), or of shape ``(b,)`` (an operator of batch
    shape ``(b,)``). A family given by its end point is singular at ``t = 1`` and says so by
    ``singular_at_one``. ``transport(s, t)`` carries ``z_s`` to ``z_t`` where a closed form exists,
    and is None elsewhere; so is ``fixed_factors()``.
    """

    dim: int
    singular_at_one: bool = False

    @abstractmethod
    def velocity(self, t: float | Tensor) -> Operator:
        """``W(t)``."""

    def endpoint(self, t: float | Tensor) -> Operator:
        """``I + (1 - t) W(t)``."""
        W = self.velocity(t)
        return add(Identity(self.dim, like=W.like), scale(W, 1 - as_time(t, W.like)))

    def transport(self, s: float | Tensor, t: float | Tensor) -> Operator | None:  # noqa: ARG002 - families override it
        """The operator from ``z_s`` to ``z_t`` in closed form, times ``s``, ``t``; or None."""
        return None

    def fixed_factors(self) -> FixedFactors | None:
        """Factors that serve at all times, so that the rank of a product stays; None without."""
        return None


class ConstantVelocity(TimeVarying):
    """``W(t) = A`` at all times, with ``A`` the ``operator``; its flow is ``exp((t - s) A)``.

    Example:
        >>> from rectilinear.operators.diagonal import Diagonal
        >>> W = ConstantVelocity(Diagonal(torch.zeros(2)))
        >>> W.transport(0.0, 1.0)(torch.ones(2)).tolist()
        [1.0, 1.0]
    """

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        require_square(operator, "a velocity")
        self.operator, self.dim = operator, operator.in_dim

    def velocity(self, t: float | Tensor) -> Operator:  # noqa: ARG002 - the same at all times
        return self.operator

    def transport(self, s: float | Tensor, t: float | Tensor) -> Operator:
        like = self.operator.like
        return expm(self.operator, as_time(t, like) - as_time(s, like))


def as_time(t: float | Tensor, like: Tensor) -> Tensor:
    """``t`` as a tensor of the dtype and device of ``like``."""
    return torch.as_tensor(t, dtype=like.dtype, device=like.device)


def chebyshev(t: Tensor, degree: int) -> Tensor:
    """``T_k(2 t - 1)`` for ``k = 0 .. degree``: shape ``(..., degree + 1)``."""
    x = 2 * t - 1
    values = [torch.ones_like(x), x]
    for _ in range(degree - 1):
        values.append(2 * x * values[-1] - values[-2])
    return torch.stack(values[: degree + 1], -1)


def chebyshev_integral(s: Tensor, t: Tensor, degree: int) -> Tensor:
    """The integrals of ``T_k(2 t - 1)`` from ``s`` to ``t``: shape ``(..., degree + 1)``."""
    s, t = torch.broadcast_tensors(s, t)
    rise = (chebyshev(t, degree + 1) - chebyshev(s, degree + 1)) / 2
    k = torch.arange(degree + 1, device=t.device, dtype=t.dtype)
    up = rise[..., 1:] / (2 * (k + 1))
    down = torch.cat([torch.zeros_like(rise[..., :2]), rise[..., 1:-2]], -1)[..., : degree + 1]
    down = torch.where(k > 1, down / (2 * (k - 1)).clamp(min=1), 0)
    return torch.where(k == 0, 2 * up, up - down)


class SpectralVelocity(TimeVarying):
    """``W(t) = Q D(t) Q^T``: a fixed basis, and eigenvalues that are Chebyshev series in time.

    ``D(t)`` has blocks ``[[a, -b], [b, a]]`` and real entries. The velocities commute, so the flow
    from ``s`` to ``t`` is ``Q exp(int_s^t D) Q^T``, exactly. Initially zero.

    Args:
        dim: ``n``.
        pairs: complex pairs ``p``, by default ``n // 2``; the other ``n - 2p`` eigenvalues are
            real.
        degree: of the series.
        basis: orthogonal ``Q``, by default the identity (a network before it learns its own basis).

    Raises:
        ConfigError: if there are more pairs than ``n // 2``.

    Example:
        >>> W = SpectralVelocity(5)
        >>> W.transport(0.0, 1.0)(torch.ones(5)).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self, dim: int, pairs: int | None = None, degree: int = 4, basis: Operator | None = None
    ) -> None:
        super().__init__()
        pairs = dim // 2 if pairs is None else pairs
        if not 0 <= 2 * pairs <= dim:
            raise ConfigError(f"{pairs} pairs in {dim} dimensions", f"0 to {dim // 2}")
        self.dim, self.degree = dim, degree
        self.basis = Identity(dim) if basis is None else basis
        self.real = nn.Parameter(torch.zeros(degree + 1, dim - pairs))
        self.imag = nn.Parameter(torch.zeros(degree + 1, pairs))

    def velocity(self, t: float | Tensor) -> Operator:
        return self._with(chebyshev(as_time(t, self.real), self.degree))

    def transport(self, s: float | Tensor, t: float | Tensor) -> Operator:
        weights = chebyshev_integral(as_time(s, self.real), as_time(t, self.real), self.degree)
        return self._with(weights).map(torch.exp)

    def _with(self, weights: Tensor) -> Spectral:
        return Spectral(self.basis, weights @ self.real, weights @ self.imag, trainable=False)


class ChebyshevVelocity(TimeVarying):
    """``W(t) = a(t) I + U(t) V(t)^T``, all three Chebyshev series in time.

    ``U(t) = sum_k T_k(2 t - 1) U_k``, and ``(degree + 1) (2 dim rank + 1)`` parameters in all,
    where networks of the time need millions.

    Args:
        dim: ``n``.
        rank: columns of ``U(t)`` and ``V(t)``.
        degree: of the series.

    Example:
        >>> ChebyshevVelocity(6, rank=2).velocity(torch.tensor([0.0, 0.5, 1.0])).batch_shape
        torch.Size([3])
    """

    def __init__(self, dim: int, rank: int, degree: int = 4) -> None:
        super().__init__()
        self.dim, self.rank, self.degree = dim, rank, degree
        self.a = nn.Parameter(torch.zeros(degree + 1))
        self.u, self.v = (nn.Parameter(self._initial()) for _ in range(2))

    def _initial(self) -> Tensor:
        coefficients = torch.zeros(self.degree + 1, self.dim, self.rank)
        coefficients[0] = torch.randn(self.dim, self.rank) / self.dim**0.5
        return coefficients

    def velocity(self, t: float | Tensor) -> Operator:
        basis = chebyshev(as_time(t, self.a), self.degree)
        u, v = (torch.einsum("...k,knr->...nr", basis, x) for x in (self.u, self.v))
        return ScalarPlusLowRank(basis @ self.a, u, v, trainable=False)

    def fixed_factors(self) -> FixedFactors:
        u, v = (x.transpose(0, 1).flatten(1) for x in (self.u, self.v))

        def at(t: float) -> tuple[Tensor, Tensor]:
            weights = chebyshev(as_time(t, self.a), self.degree)
            eye = torch.eye(self.rank, dtype=weights.dtype, device=weights.device)
            return weights @ self.a, torch.kron(torch.outer(weights, weights), eye)

        return FixedFactors(u, v, at)


class TimeNetwork(nn.Module):
    """A network of the time ``t``: sines and cosines of ``t``, one hidden layer, ``out`` values.

    The slowest wave makes a quarter of a turn over ``[0, 1]`` and the fastest eight turns, so that
    every feature varies.

    Example:
        >>> TimeNetwork(3, width=8)(torch.tensor([0.0, 1.0])).shape
        torch.Size([2, 3])
    """

    frequencies: Tensor

    def __init__(self, out: int, width: int, features: int = 32) -> None:
        super().__init__()
        half = features // 2
        self.register_buffer("frequencies", pi / 2 * 32 ** (torch.arange(half) / max(half - 1, 1)))
        self.layers = nn.Sequential(nn.Linear(2 * half, width), nn.SiLU(), nn.Linear(width, out))

    def features(self, t: Tensor) -> Tensor:
        """``cos`` and ``sin`` of ``t`` at all frequencies, ``(..., features)``."""
        angle = t[..., None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], -1)

    def forward(self, t: Tensor) -> Tensor:
        return self.layers(self.features(t))


class LowRankEndpoint(TimeVarying):
    """``A(t) = U(t) V(t)^T`` predicts the end point, ``U`` and ``V`` networks of the time.

    The published family. The velocity ``(A(t) - I) / (1 - t)`` is singular at ``t = 1``, and the
    collapsed operator has rank ``rank``.

    Args:
        dim: ``n``.
        rank: ``r``.
        width: hidden units of each network, whose last layer has ``width * n * r`` weights.

    Reference: Berman, Hallak, Shocher, Who Said Neural Networks Aren't Linear? (2025).

    Example:
        >>> LowRankEndpoint(6, rank=2).endpoint(0.5)
        LowRank(6 x 6)
    """

    singular_at_one = True

    def __init__(self, dim: int, rank: int, width: int = 64) -> None:
        super().__init__()
        self.dim, self.rank = dim, rank
        self.u, self.v = (TimeNetwork(dim * rank, width) for _ in range(2))

    def endpoint(self, t: float | Tensor) -> LowRank:
        time = as_time(t, self.u.frequencies)
        u, v = (
            net(time).unflatten(-1, (self.dim, self.rank)) / self.dim**0.5
            for net in (self.u, self.v)
        )
        return LowRank(u, v, trainable=False)

    def velocity(self, t: float | Tensor) -> Operator:
        """``W(t) = (A(t) - I) / (1 - t)``.

        Raises:
            SingularOperatorError: at ``t = 1``.
        """
        left = 1 - as_time(t, self.u.frequencies)
        if bool((left == 0).any()):
            raise SingularOperatorError(
                got="t = 1 for a velocity given by its end point",
                expected="t < 1",
                fix="Integrate in tau = -log(1 - t), or use a family with a velocity at t = 1.",
            )
        end = self.endpoint(t)
        return ScalarPlusLowRank(-1 / left, end.u / left[..., None, None], end.v, trainable=False)


class ScalarPlusLowRankVelocity(TimeVarying):
    """``W(t) = a(t) I + U diag(w(t)) V^T`` with ``a`` and ``w`` from a network of the time.

    Initially zero.

    Args:
        dim: ``n``.
        rank: columns of ``U`` and ``V``.
        width: hidden units of the network.

    Example:
        >>> ScalarPlusLowRankVelocity(6, rank=2).velocity(1.0)(torch.ones(6)).abs().max().item()
        0.0
    """

    def __init__(self, dim: int, rank: int, width: int = 64) -> None:
        super().__init__()
        self.dim, self.rank = dim, rank
        self.u, self.v = (nn.Parameter(torch.randn(dim, rank) / dim**0.5) for _ in range(2))
        self.weights = TimeNetwork(rank + 1, width)
        last = self.weights.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def velocity(self, t: float | Tensor) -> Operator:
        out = self.weights(as_time(t, self.u))
        return ScalarPlusLowRank(out[..., 0], self.u * out[..., None, 1:], self.v, trainable=False)

    def fixed_factors(self) -> FixedFactors:
        def at(t: float) -> tuple[Tensor, Tensor]:
            scale, *_ = out = self.weights(as_time(t, self.u))
            return scale, torch.diag(out[1:])

        return FixedFactors(self.u, self.v, at)


class SolvedVelocity(TimeVarying):
    """The least-squares velocity between zero-mean latents with second moments ``S0`` and ``S1``.

    ``W(t) = (t S1 - (1 - t) S0) M(t)^-1`` with ``M(t) = (1 - t)^2 S0 + t^2 S1``, and
    ``A(t) = t S1 M(t)^-1``. Its flow is ``(M(t) M(s)^-1)^(1/2)`` in closed form, and carries
    ``N(0, S0)`` to ``N(0, S1)``: ``B S0 B^T = S1``.

    Args:
        s0: ``(n,)`` for a diagonal moment or ``(n, n)``, positive definite.
        s1: likewise.

    Raises:
        ShapeError: if the moments have different sizes.
        SingularOperatorError: when asked for a time at which ``M(t)`` is not positive definite.

    Example:
        >>> W = SolvedVelocity(torch.ones(2), torch.tensor([4.0, 9.0]))
        >>> W.transport(0.0, 1.0)(torch.ones(2)).tolist()
        [2.0, 3.0]
    """

    s0: Tensor
    s1: Tensor

    def __init__(self, s0: Tensor, s1: Tensor) -> None:
        super().__init__()
        n = s0.shape[-1]
        if any(s.shape not in {(n,), (n, n)} for s in (s0, s1)):
            raise ShapeError(
                f"moments of shapes {tuple(s0.shape)} and {tuple(s1.shape)}",
                "(n,) or (n, n) for both",
                "Take both from latents (b, n): SolvedVelocity.from_samples(z0, z1).",
            )
        self.dim = n
        self.register_buffer("s0", s0)
        self.register_buffer("s1", s1)

    @classmethod
    def from_samples(
        cls, z0: Tensor, z1: Tensor, *, diagonal: bool = False, shrinkage: float = 0.0
    ) -> Self:
        """The velocity from latents ``(b, n)`` of both ends.

        Args:
            z0: latents of the noise, ``(b, n)``.
            z1: latents of the data, ``(b, n)``.
            diagonal: keep only the diagonals of the moments.
            shrinkage: share of a multiple of the identity in each moment, 0 to 1.
        """
        return cls(*(_moment(z, diagonal=diagonal, shrinkage=shrinkage) for z in (z0, z1)))

    def velocity(self, t: float | Tensor) -> Operator:
        s0, s1, time = self._moments(t)
        return self._over(time * s1 - (1 - time) * s0, self._mixed(t))

    def endpoint(self, t: float | Tensor) -> Operator:
        _, s1, time = self._moments(t)
        return self._over(time * s1, self._mixed(t))

    def transport(self, s: float | Tensor, t: float | Tensor) -> Operator:
        start, end = self._mixed(s), self._mixed(t)
        if self._diagonal:
            return Diagonal((_positive(end) / _positive(start)).sqrt(), trainable=False)
        root = _cholesky(start)
        half = torch.linalg.solve_triangular(root, end, upper=False)
        inner = torch.linalg.solve_triangular(
            root, half.mT, upper=False
        )  # L^-1 M(t) L^-T, positive definite
        middle = root @ _matrix.sqrtm((inner + inner.mT) / 2)
        return Dense(
            weight=torch.linalg.solve_triangular(root, middle, upper=False, left=False),
            trainable=False,
        )

    @property
    def _diagonal(self) -> bool:
        return self.s0.ndim == self.s1.ndim == 1

    def _moments(self, t: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        time = as_time(t, self.s0)
        if self._diagonal:
            return self.s0, self.s1, time[..., None]
        s0, s1 = (torch.diag(s) if s.ndim == 1 else s for s in (self.s0, self.s1))
        return s0, s1, time[..., None, None]

    def _mixed(self, t: float | Tensor) -> Tensor:
        s0, s1, time = self._moments(t)
        return (1 - time) ** 2 * s0 + time**2 * s1

    def _over(self, numerator: Tensor, moment: Tensor) -> Operator:
        """``numerator moment^-1``, both symmetric."""
        if self._diagonal:
            return Diagonal(numerator / _positive(moment), trainable=False)
        return Dense(weight=torch.cholesky_solve(numerator, _cholesky(moment)).mT, trainable=False)


def _positive(moment: Tensor) -> Tensor:
    if not bool((moment > 0).all()):
        raise _not_definite()
    return moment


def _cholesky(moment: Tensor) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(moment)
    pivots, largest = (
        factor.detach().diagonal(dim1=-2, dim2=-1),
        moment.detach().diagonal(dim1=-2, dim2=-1).amax(-1),
    )
    small = pivots.amin(-1) ** 2 <= _matrix.default_rtol(moment.dtype, moment.shape[-1]) * largest
    if bool((small | (info != 0)).any()):
        raise _not_definite()
    return factor


def _not_definite() -> SingularOperatorError:
    return SingularOperatorError(
        got="second moments that are not positive definite",
        expected="positive definite ones",
        fix="Use more samples than dimensions, or shrinkage > 0.",
    )


def _moment(z: Tensor, *, diagonal: bool, shrinkage: float) -> Tensor:
    if z.ndim != 2:
        raise ShapeError(
            f"latents of shape {tuple(z.shape)}", "(b, n)", "Write images as z.flatten(1)."
        )
    power = z.square().mean(0)
    if diagonal:
        return (1 - shrinkage) * power + shrinkage * power.mean()
    eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    return (1 - shrinkage) * (z.mT @ z) / len(z) + shrinkage * power.mean() * eye
