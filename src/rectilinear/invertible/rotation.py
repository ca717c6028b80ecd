"""Orthogonal mixing: the inverse is the transpose."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rectilinear._autocast import precision_of
from rectilinear._tolerance import tolerance
from rectilinear.errors import ConfigError, NotInvertibleError, ShapeError
from rectilinear.invertible.base import VolumePreserving
from rectilinear.invertible.reflections import reflect


class Rotation(VolumePreserving):
    """``z = H Q^T (x - mean)`` with ``Q`` orthogonal and fixed, ``H`` a trainable product of reflections.

    ``Q`` is drawn at random, or given by :meth:`from_matrix` (principal axes as columns make it a PCA). ``H`` is
    ``I - V^T T V`` for ``reflections`` vectors ``V``, in pairs that start equal, so it starts at the identity and
    stays orthogonal whatever the training does; its cost is ``O(n reflections)`` a row.

    Args:
        dim: number of coordinates ``n``.
        reflections: number of trainable reflections, even; 0 keeps the rotation fixed.

    Raises:
        ConfigError: for an odd or negative number of reflections.

    Example:
        >>> g = Rotation(3)
        >>> x = torch.randn(5, 3)
        >>> torch.allclose(g.inverse(g(x)), x, atol=1e-5), torch.allclose(g(x).norm(dim=1), x.norm(dim=1))
        (True, True)
    """

    matrix: Tensor
    mean: Tensor

    def __init__(self, dim: int, reflections: int = 0) -> None:
        super().__init__()
        if reflections < 0 or reflections % 2:
            raise ConfigError(got=f"reflections={reflections}", expected="an even number, 0 or more")
        self.shape = self.latent_shape = (dim,)
        self.reflections = reflections
        self.register_buffer("matrix", torch.linalg.qr(torch.randn(dim, dim)).Q.contiguous())
        self.register_buffer("mean", torch.zeros(dim))
        half = torch.randn(reflections // 2, dim) / dim**0.5
        self.vectors = nn.Parameter(half.repeat_interleave(2, dim=0)) if reflections else None

    @classmethod
    def from_matrix(cls, q: Tensor, mean: Tensor | None = None, reflections: int = 0) -> Rotation:
        """The rotation ``z = q^T (x - mean)`` into the columns of ``q``.

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
                got=f"q of shape {tuple(q.shape)}" + ("" if mean is None else f", mean of shape {tuple(mean.shape)}"),
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
        if torch.finfo(self.matrix.dtype).eps < before:  # a matrix rounded to float32 is orthogonal to 1e-7 only
            q = self.matrix
            for _ in range(2 if before < 1e-4 else 5):  # Newton steps, each squares the error: 1e-7, 1e-14, 1e-28
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
    """An orthogonal mix of the channels, the same at every pixel: a 1 x 1 convolution by a :class:`Rotation`.

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
