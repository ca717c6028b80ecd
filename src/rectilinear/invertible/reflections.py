"""An orthogonal map that is given by a few axes: products of reflections, never a matrix of all coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from rectilinear._autocast import precision_of
from rectilinear._shapes import single
from rectilinear._tolerance import tolerance
from rectilinear.errors import NotInvertibleError, ShapeError
from rectilinear.invertible.base import VolumePreserving


class Reflections(VolumePreserving):
    """``z = Q^T (x - mean)``, where the first ``k`` columns of the orthogonal ``Q`` are given axes.

    ``Q = (I - V^T T V) diag(signs)`` is a product of ``k`` fixed Householder reflections, at ``O(n k)`` a row and in
    memory: for principal axes in so many dimensions that no ``(n, n)`` rotation can be held. The other columns are
    whatever completes the basis.

    Args:
        axes: ``(n, k)`` with orthonormal columns, ``k <= n``.
        mean: ``(n,)``, zero if not given.

    Raises:
        ShapeError: if the axes are not ``(n, k)`` with ``1 <= k <= n``, or the mean does not fit them.
        NotInvertibleError: if the columns are not orthonormal.

    Reference:
        Schreiber, Van Loan, "A storage-efficient WY representation for products of Householder transformations", 1989.

    Example:
        >>> axes = torch.linalg.qr(torch.randn(1000, 3)).Q
        >>> g = Reflections(axes)
        >>> x = torch.randn(5, 1000)
        >>> torch.allclose(g(x)[:, :3], x @ axes, atol=1e-5), torch.allclose(g.inverse(g(x)), x, atol=1e-5)
        (True, True)
    """

    vectors: Tensor
    signs: Tensor
    mean: Tensor

    def __init__(self, axes: Tensor, mean: Tensor | None = None) -> None:
        super().__init__()
        n, k = axes.shape if axes.ndim == 2 else (0, 0)
        if not 1 <= k <= n or (mean is not None and mean.shape != (n,)):
            raise ShapeError(
                got=f"axes of shape {tuple(axes.shape)}" + ("" if mean is None else f", mean {tuple(mean.shape)}"),
                expected="(n, k) with 1 <= k <= n, and (n,)",
                fix="Give the axes as columns.",
            )
        error = (axes.T @ axes - torch.eye(k, dtype=axes.dtype, device=axes.device)).abs().max().item()
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
    """The reflections ``I - 2 v v^T / |v|^2``, one after the other, of the rows of ``z``; transposed, last to first.

    Their product is ``I - V^T T V`` with ``T`` triangular, whatever the lengths of ``vectors``, ``(k, n)``.
    """
    dtype, z, vectors = z.dtype, single(z), single(vectors)
    gram = vectors @ vectors.T
    inverse_t = gram.triu(1) + (gram.diagonal() / 2).diag()
    coefficients = torch.linalg.solve_triangular(
        inverse_t.T if transpose else inverse_t, z @ vectors.T, upper=not transpose, left=False
    )
    return (z - coefficients @ vectors).to(dtype)
