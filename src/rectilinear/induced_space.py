"""The vector space that an invertible network induces: points, arithmetic and geometry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from rectilinear.checks import check_finite, check_floating, is_factor, is_zero, tolerance
from rectilinear.errors import DtypeError, InputError, ShapeError, SpaceMismatchError
from rectilinear.invertible.base import Invertible
from rectilinear.notebook import short_repr


@final
class InducedSpace:
    """The Hilbert space that an invertible network ``g`` carries over from ``R^n``.

    ``x (+) y = g^-1(g(x) + g(y))``, ``a (.) x = g^-1(a g(x))`` and ``<x, y> = <g(x), g(y)>``.
    Points are arrays ``(b, *g.shape)``; operations on several act row by row. Spaces are equal if
    they have the same network object.

    Raises:
        DtypeError: if ``g`` is not an :class:`~rectilinear.invertible.Invertible`, or points are
            not floating.
        ShapeError: if points are not of shape ``(b, *g.shape)``.

    Reference: transport of structure along a bijection; Berman et al., arXiv 2510.08570, section 3.

    Example:
        >>> import rectilinear as rl
        >>> space = rl.InducedSpace(rl.invertible.Identity((2,)))
        >>> space.add(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]))
        tensor([[4., 6.]])
        >>> (2 * space(torch.tensor([[1.0, 2.0]])) - space(torch.tensor([[0.0, 1.0]]))).point
        tensor([[2., 3.]])
    """

    def __init__(self, g: Invertible) -> None:
        if not isinstance(g, Invertible):
            raise DtypeError(
                f"g of type {type(g).__name__}",
                "an Invertible",
                "Wrap it with rectilinear.invertible.from_module.",
            )
        self.g = g

    @property
    def dim(self) -> int:
        """Dimension of the space."""
        return self.g.dim

    def encode(self, x: Tensor) -> Tensor:
        """Latent coordinates ``g(x)``: ``(b, *shape) -> (b, n)``."""
        check_floating(x, "x")
        return self.g(x).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """The points ``g^-1(z)``: ``(b, n) -> (b, *shape)``."""
        check_floating(z, "z")
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise ShapeError(
                f"coordinates of shape {tuple(z.shape)}",
                f"(batch, {self.dim})",
                "Take them from encode(x); write those of one point as z[None].",
            )
        return self.g.inverse(z.unflatten(1, self.g.latent_shape))

    def __call__(self, x: Tensor) -> Point:
        """The points as vectors that know ``+ - * / @``."""
        return Point(self, self.encode(x))

    def add(self, *points: Tensor) -> Tensor:
        """The sum ``x_1 (+) ... (+) x_k`` of the ``points``, each of shape ``(b, *shape)``."""
        if not points:
            raise InputError("no points", "at least one", "For the zero vector use space.zero().")
        return self.decode(torch.stack([self.encode(x) for x in points]).sum(0))

    def scale(self, factor: float | Tensor, x: Tensor) -> Tensor:
        """The multiple ``a (.) x``; ``factor`` a number or of shape ``(b,)``."""
        return (factor * self(x)).point

    def combine(self, coefficients: Tensor, points: Tensor) -> Tensor:
        """``sum_j c_ij (.) x_j``: ``coefficients`` ``(m, k)`` of ``points`` ``(k, *shape)``."""
        check_floating(coefficients, "coefficients")
        check_floating(points, "points")
        if coefficients.ndim != 2 or coefficients.shape[1] != len(points):
            raise ShapeError(
                f"coefficients of shape {tuple(coefficients.shape)}",
                f"(m, {len(points)})",
                "Write those of one point as coefficients[None]." if coefficients.ndim == 1 else "",
            )
        return self.decode(coefficients @ self.encode(points))

    def zero(self, like: Tensor | None = None) -> Tensor:
        """The zero vector ``g^-1(0)``, ``(1, *shape)``, with the dtype and device of ``like``.

        Those of the network by default.
        """
        return self.decode((self._like() if like is None else like).new_zeros(1, self.dim))

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        """The inner products ``<g(x), g(y)>``, shape ``(b,)``."""
        return self(x) @ self(y)

    def norm(self, x: Tensor) -> Tensor:
        """The lengths ``|g(x)|``, shape ``(b,)``."""
        return torch.linalg.vector_norm(self.encode(x), dim=-1)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The distances ``|g(x) - g(y)|``, shape ``(b,)``."""
        return torch.linalg.vector_norm(self.encode(x) - self.encode(y), dim=-1)

    def mean(self, x: Tensor) -> Tensor:
        """The mean of the points ``x``, ``(1, *shape)``: least summed squared distance."""
        return self.decode(self.encode(x).mean(0, keepdim=True))

    def interpolate(
        self, x: Tensor, y: Tensor, t: float | Tensor, spherical: bool = False
    ) -> Tensor:
        """The point at ``t`` of the segment from ``x`` to ``y``, or of the arc if ``spherical``.

        ``t`` a number gives ``(b, *shape)``, of shape ``(s,)`` gives ``(s, b, *shape)``.

        Raises:
            InputError: for an arc between opposite vectors or from the zero vector, which is not
                unique.
        """
        start, end = self.encode(x), self.encode(y)
        times = torch.as_tensor(t, dtype=start.dtype, device=start.device)
        if times.ndim > 1:
            raise ShapeError(
                f"t of shape {tuple(times.shape)}", "a number or (s,)", "Write t.flatten()."
            )
        z = (_arc if spherical else torch.lerp)(start, end, times.reshape(-1, 1, 1))
        return self.decode(z.flatten(0, 1)).reshape(*times.shape, len(start), *self.g.shape)

    def project(self, x: Tensor, onto: Tensor) -> Tensor:
        """The nearest points to ``x`` in the span of the points ``onto`` ``(k, *shape)``.

        They may be linearly dependent.
        """
        _, s, directions = torch.linalg.svd(self.encode(onto), full_matrices=False)
        basis = directions[s > tolerance(s.dtype) * s.max()]
        return self.decode(self.encode(x) @ basis.T @ basis)

    def orthonormalize(self, points: Tensor) -> Tensor:
        """Gram-Schmidt: the first ``i`` results span what the first ``i`` of ``points`` span.

        Raises:
            InputError: if the points are linearly dependent.
        """
        q, r = torch.linalg.qr(self.encode(points).T)
        size = r.diagonal()
        if len(points) > self.dim or bool(
            (size.abs() <= tolerance(r.dtype) * torch.linalg.matrix_norm(r, 2)).any()
        ):
            raise InputError(
                f"{len(points)} linearly dependent points",
                "independent ones",
                "Drop some, or use pca.",
            )
        return self.decode((q * size.sign()).T)

    def pca(self, x: Tensor, k: int) -> PrincipalComponents:
        """The ``k`` principal components of the points ``x`` in this space.

        Raises:
            InputError: if ``k`` is not between 1 and ``min(b, n)``.
            NonFiniteError: if the points, or their coordinates, are not finite.
        """
        check_floating(x, "x")
        if not 1 <= k <= min(len(x), self.dim):
            raise InputError(
                f"k = {k}",
                f"1 to {min(len(x), self.dim)} for {len(x)} points in {self.dim} dimensions",
            )
        check_finite(x, "x")
        z = self.encode(x)
        check_finite(z, "the coordinates of x")
        mean = z.mean(0)
        _, s, directions = torch.linalg.svd(z - mean, full_matrices=False)
        return PrincipalComponents(self, mean, directions[:k], s[:k] ** 2 / max(len(x) - 1, 1))

    def _like(self) -> Tensor:
        """A tensor of the network's dtype and device."""
        return next((t for t in _tensors(self.g) if t.is_floating_point()), torch.empty(()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InducedSpace) and self.g is other.g

    def __hash__(self) -> int:
        return hash(id(self.g))

    def __repr__(self) -> str:
        return f"InducedSpace({type(self.g).__name__} of shape {self.g.shape})"


@final
class Point:
    """Vectors of an induced space, with ``p + q``, ``a * p``, ``p / a``, inner products ``p @ q``.

    ``latent`` holds the coordinates, ``(b, n)``; ``point`` decodes them, ``(b, *shape)``. Nothing
    is decoded before.

    Raises:
        SpaceMismatchError: if ``p`` and ``q`` are of different spaces.

    Example:
        >>> import rectilinear as rl
        >>> p = rl.InducedSpace(rl.invertible.Identity((2,)))(torch.tensor([[3.0, 4.0]]))
        >>> (p @ p, (p / 2 + p).point)
        (tensor([25.]), tensor([[4.5000, 6.0000]]))
    """

    __array_ufunc__ = None  # numpy leaves 0.5 * p to p

    def __init__(self, space: InducedSpace, latent: Tensor) -> None:
        self.space, self.latent = space, latent

    @property
    def point(self) -> Tensor:
        return self.space.decode(self.latent)

    def __add__(self, other: Point) -> Point:
        return (
            Point(self.space, self.latent + self._same(other))
            if isinstance(other, Point)
            else NotImplemented
        )

    def __radd__(self, other: object) -> Point:
        return self if is_zero(other) else NotImplemented

    def __sub__(self, other: Point) -> Point:
        return (
            Point(self.space, self.latent - self._same(other))
            if isinstance(other, Point)
            else NotImplemented
        )

    def __neg__(self) -> Point:
        return Point(self.space, -self.latent)

    def __mul__(self, factor: float | Tensor) -> Point:
        if not is_factor(factor):
            return NotImplemented
        return Point(
            self.space,
            self.latent * (factor.reshape(-1, 1) if isinstance(factor, Tensor) else float(factor)),
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Tensor) -> Point:
        return self * (1 / divisor) if is_factor(divisor) else NotImplemented

    def __matmul__(self, other: Point) -> Tensor:
        return (
            (self.latent * self._same(other)).sum(-1)
            if isinstance(other, Point)
            else NotImplemented
        )

    def _same(self, other: Point) -> Tensor:
        if self.space != other.space:
            raise SpaceMismatchError(
                got=(
                    f"a vector of {self.space} and one of {other.space} with another network object"
                ),
                expected="vectors of one space",
                fix="Make both with the same InducedSpace, or map one over with a Linearizer.",
            )
        return other.latent

    def __repr__(self) -> str:
        return f"Point({len(self.latent)} in {self.space})"


@final
@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """Principal components in an induced space: ``x ~ g^-1(mean + sum_i c_i directions_i)``.

    ``mean`` ``(n,)`` and ``directions`` ``(k, n)`` are coordinates; ``variances`` ``(k,)`` descend.
    """

    space: InducedSpace
    mean: Tensor
    directions: Tensor
    variances: Tensor

    __repr__ = short_repr

    def coordinates(self, x: Tensor) -> Tensor:
        """The coordinates ``c`` of points ``x``: ``(b, *shape) -> (b, k)``."""
        return (self.space.encode(x) - self.mean) @ self.directions.T

    def decode(self, coordinates: Tensor) -> Tensor:
        """The points with these coordinates: ``(b, k) -> (b, *shape)``."""
        check_floating(coordinates, "coordinates")
        return self.space.decode(self.mean + coordinates @ self.directions)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The nearest points to ``x`` in the plane of the components."""
        return self.decode(self.coordinates(x))


def _arc(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Directions along the great circle, lengths in proportion to ``t``."""
    length0, length1 = (torch.linalg.vector_norm(z, dim=-1, keepdim=True) for z in (start, end))
    start, end = start / length0, end / length1
    apart, together = (
        torch.linalg.vector_norm(z, dim=-1, keepdim=True) for z in (start - end, start + end)
    )
    if not bool((together > tolerance(start.dtype)).all()):  # NaN where a length is zero
        raise InputError(
            "opposite or zero vectors", "vectors with one arc between them", "Use spherical=False."
        )
    angle = 2 * torch.atan2(apart, together)
    sine = torch.where(angle > 0, angle.sin(), 1.0)
    weight0 = torch.where(angle > 0, ((1 - t) * angle).sin() / sine, 1 - t)
    weight1 = torch.where(angle > 0, (t * angle).sin() / sine, t)
    return (weight0 * start + weight1 * end) * torch.lerp(length0, length1, t)


def _tensors(g: Invertible) -> Iterator[Tensor]:
    yield from g.parameters()
    yield from g.buffers()
