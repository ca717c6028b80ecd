"""Orthogonal blocks, whose inverse is the transpose: rotations, 1 x 1 convolutions, reflections."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear.checks import single, tolerance
from rectilinear.errors import ConfigError, NotInvertibleError, ShapeError
from rectilinear.invertible.base import VolumePreserving
from rectilinear.modules import precision_of


class Rotation(VolumePreserving):
    """``z = H Q^T (x - mean)``: ``Q`` orthogonal and fixed, ``H`` trainable reflections.

    ``Q`` is drawn at random, or given by :meth:`from_matrix` (principal axes as columns make it a
    PCA). ``H`` is ``I - V^T T V`` for ``reflections`` vectors ``V``, in pairs that start equal, so
    it starts at the identity and stays orthogonal whatever the training does; its cost is ``O(n
    reflections)`` a row.

    Args:
        dim: number of coordinates ``n``.
        reflections: number of trainable reflections, even; 0 keeps the rotation fixed.

    Raises:
        ConfigError: for an odd or negative number of reflections.

    Example:
        >>> g = Rotation(3)
        >>> x = torch.randn(5, 3)
        >>> torch.allclose(g.inverse(g(x)), x, atol=1e-5)
        True
        >>> torch.allclose(g(x).norm(dim=1), x.norm(dim=1))
        True
    """

    matrix: Tensor
    mean: Tensor

    def __init__(self, dim: int, reflections: int = 0) -> None:
        super().__init__()
        if reflections < 0 or reflections % 2:
            raise ConfigError(
                got=f"reflections={reflections}", expected="an even number, 0 or more"
            )
        self.shape = self.latent_shape = (dim,)
        self.reflections = reflections
        self.register_buffer("matrix", torch.linalg.qr(torch.randn(dim, dim)).Q.contiguous())
        self.register_buffer("mean", torch.zeros(dim))
        half = torch.randn(reflections // 2, dim) / dim**0.5
        self.vectors = nn.Parameter(half.repeat_interleave(2, dim=0)) if reflections else None

    @classmethod
    def from_matrix(cls, q: Tensor, mean: Tensor | None = None, reflections: int = 0) -> Rotation:
        """The rotation ``z = q^T (x - mean)`` into the columns of ``q``, with ``reflections``.

        Raises:
            ShapeError: if ``q`` is not square, or ``mean`` does not fit it.
            NotInvertibleError: if ``q`` is not orthogonal.

        Example:
            >>> x = torch.randn(100, 3) @ torch.randn(3, 3)
            >>> q = torch.linalg.svd(x - x.mean(0)).Vh.T
            >>> z = Rotation.from_matrix(q, x.mean(0))(x)  # principal coordinates
            >>> z.cov().shape[0], torch.allclose(z.T.cov(), z.T.cov().diag().diag(), atol=1e-4)
            (100, True)
        """
        n = q.shape[-1]
        if q.shape != (n, n) or (mean is not None and mean.shape != (n,)):
            raise ShapeError(
                got=f"q of shape {tuple(q.shape)}"
                + ("" if mean is None else f", mean of shape {tuple(mean.shape)}"),
                expected="(n, n) and (n,)",
                fix="Give a full basis, with as many columns as coordinates.",
            )
        error = (q.T @ q - torch.eye(n, dtype=q.dtype, device=q.device)).abs().max().item()
        if not error <= tolerance(q.dtype, scale=10.0, n=n):
            raise NotInvertibleError(
                got=f"a matrix with |q^T q - I| = {error:.1e}",
                expected="an orthogonal matrix",
                fix="Use the Q of torch.linalg.qr(q).",
            )
        rotation = cls(n, reflections).to(dtype=q.dtype, device=q.device)
        rotation.matrix.copy_(q.detach())
        if mean is not None:
            rotation.mean.copy_(mean.detach())
        return rotation

    def _apply(self, fn, recurse: bool = True) -> Rotation:  # type: ignore[no-untyped-def]  # torch's signature
        before = torch.finfo(self.matrix.dtype).eps
        super()._apply(fn, recurse)
        if torch.finfo(self.matrix.dtype).eps < before:
            # A matrix rounded to float32 is orthogonal to 1e-7; each Newton step squares the error.
            q = self.matrix
            for _ in range(2 if before < 1e-4 else 5):
                q = 1.5 * q - 0.5 * q @ (q.T @ q)
            self.matrix = q
        return self

    def _latents(self, x: Tensor) -> Tensor:
        with precision_of(x):
            return self._reflect((x - self.mean) @ self.matrix, transpose=False)

    def _decode(self, z: Tensor) -> Tensor:
        with precision_of(z):
            return self._reflect(z, transpose=True) @ self.matrix.T + self.mean

    def _reflect(self, z: Tensor, *, transpose: bool) -> Tensor:
        return z if self.vectors is None else reflect(z, self.vectors, transpose=transpose)


class Conv1x1(VolumePreserving):
    """A 1 x 1 convolution by an orthogonal matrix, a :class:`Rotation` of the channels.

    Args:
        shape: ``(c, h, w)``.
        reflections: number of trainable reflections, even; ``c`` rounded up to even if not given.

    Example:
        >>> g = Conv1x1((3, 2, 2))
        >>> x = torch.randn(5, 3, 2, 2)
        >>> torch.allclose(g.inverse(g(x)), x, atol=1e-5)
        True
    """

    def __init__(self, shape: tuple[int, int, int], reflections: int | None = None) -> None:
        super().__init__()
        self.shape = self.latent_shape = tuple(shape)
        c = shape[0]
        self.reflections = c + c % 2 if reflections is None else reflections
        self.rotation = Rotation(c, self.reflections)

    def _latents(self, x: Tensor) -> Tensor:
        return self._mix(x, self._weight(x))

    def _decode(self, z: Tensor) -> Tensor:
        return self._mix(z, self._weight(z).T)

    def _weight(self, x: Tensor) -> Tensor:
        return self.rotation._latents(torch.eye(self.shape[0], dtype=x.dtype, device=x.device)).T

    def _mix(self, x: Tensor, weight: Tensor) -> Tensor:
        with precision_of(x):
            return functional.conv2d(x, weight[:, :, None, None])


def onto_axes(axes: Tensor, mean: Tensor) -> Rotation | Reflections:
    """``z = Q^T (x - mean)`` with the orthonormal axes ``(n, k)`` as the first columns of ``Q``.

    ``Q`` is a matrix where all ``n`` are given, else a product of reflections.
    """
    n, k = axes.shape
    return Rotation.from_matrix(axes, mean) if k == n else Reflections(axes, mean)


class Reflections(VolumePreserving):
    """``z = Q^T (x - mean)``, where the first ``k`` columns of the orthogonal ``Q`` are given axes.

    ``Q = (I - V^T T V) diag(signs)`` is a product of ``k`` fixed Householder reflections, at
    ``O(n k)`` a row and in memory: for principal axes in so many dimensions that no ``(n, n)``
    rotation can be held. The other columns are whatever completes the basis.

    Args:
        axes: ``(n, k)`` with orthonormal columns, ``k <= n``.
        mean: ``(n,)``, zero if not given.

    Raises:
        ShapeError: if the axes are not ``(n, k)`` with ``1 <= k <= n``, or the mean does not fit
            them.
        NotInvertibleError: if the columns are not orthonormal.

    Reference:
        Schreiber, Van Loan, "A storage-efficient WY representation for products of Householder
        transformations", 1989.

    Example:
        >>> axes = torch.linalg.qr(torch.randn(1000, 3)).Q
        >>> g = Reflections(axes)
        >>> x = torch.randn(5, 1000)
        >>> torch.allclose(g(x)[:, :3], x @ axes, atol=1e-5)
        True
        >>> torch.allclose(g.inverse(g(x)), x, atol=1e-5)
        True
    """

    vectors: Tensor
    signs: Tensor
    mean: Tensor

    def __init__(self, axes: Tensor, mean: Tensor | None = None) -> None:
        super().__init__()
        n, k = axes.shape if axes.ndim == 2 else (0, 0)
        if not 1 <= k <= n or (mean is not None and mean.shape != (n,)):
            raise ShapeError(
                got=f"axes of shape {tuple(axes.shape)}"
                + ("" if mean is None else f", mean {tuple(mean.shape)}"),
                expected="(n, k) with 1 <= k <= n, and (n,)",
                fix="Give the axes as columns.",
            )
        error = (
            (axes.T @ axes - torch.eye(k, dtype=axes.dtype, device=axes.device)).abs().max().item()
        )
        if not error <= tolerance(axes.dtype, scale=10.0, n=n):
            raise NotInvertibleError(
                got=f"axes with |axes^T axes - I| = {error:.1e}",
                expected="orthonormal columns",
                fix="Use the Q of torch.linalg.qr(axes).",
            )
        self.shape = self.latent_shape = (n,)
        packed, _ = torch.geqrf(axes.detach().double())  # axes = Q R, where R = diag(+-1)
        vectors = (packed.tril(-1) + torch.eye(n, k, dtype=torch.float64, device=axes.device)).T
        self.register_buffer("vectors", vectors.to(axes.dtype).contiguous())
        self.register_buffer("signs", torch.ones(n, dtype=axes.dtype, device=axes.device))
        self.register_buffer("mean", axes.new_zeros(n) if mean is None else mean.detach().clone())
        self.signs[:k] = self._reflect(axes.detach().T, transpose=False)[:, :k].diagonal().sign()

    def _latents(self, x: Tensor) -> Tensor:
        with precision_of(x):
            return self._reflect(x - self.mean, transpose=False) * self.signs

    def _decode(self, z: Tensor) -> Tensor:
        with precision_of(z):
            return self._reflect(z * self.signs, transpose=True) + self.mean

    def _reflect(self, z: Tensor, *, transpose: bool) -> Tensor:
        return reflect(z, self.vectors, transpose=transpose)


def reflect(z: Tensor, vectors: Tensor, *, transpose: bool) -> Tensor:
    """The reflections ``I - 2 v v^T / |v|^2`` of the rows of ``z``, one after the other.

    Transposed, they are applied last to first. Their product is ``I - V^T T V`` with ``T``
    triangular, whatever the lengths of ``vectors``, ``(k, n)``.
    """
    dtype, z, vectors = z.dtype, single(z), single(vectors)
    gram = vectors @ vectors.T
    inverse_t = gram.triu(1) + (gram.diagonal() / 2).diag()
    coefficients = torch.linalg.solve_triangular(
        inverse_t.T if transpose else inverse_t, z @ vectors.T, upper=not transpose, left=False
    )
    return (z - coefficients @ vectors).to(dtype)
