"""Superposition error: the deviation of a map from linearity between given spaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from rectilinear.checks import check_batch, check_floating
from rectilinear.errors import ShapeError


class Bijection(Protocol):
    """A network with an inverse."""

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def inverse(self, z: Tensor, /) -> Tensor: ...


class Embedding(Protocol):
    """A named map from images ``(n, c, h, w)`` to features ``(n, d)``."""

    name: str

    def embed(self, images: Tensor, /) -> Tensor: ...


def linearity(
    f: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    g_in: Bijection | None = None,
    g_out: Bijection | None = None,
    a: float = 1.5,
    b: float = -0.5,
) -> Tensor:
    """The relative superposition error of ``f`` for each pair, between induced spaces, ``(b,)``.

    ``|f(a x + b y) - a f(x) - b f(y)| / (|a f(x)| + |b f(y)|)``, with the sums, products and norms
    of these spaces: zero for a map that is linear there (0/0 is taken as zero).

    Args:
        f: any map of batches.
        x: points ``(b, ...)``.
        y: points of the same shape.
        g_in: the network of the space of the points; None for the ordinary one.
        g_out: the network of the space of the values; None for the ordinary one.
        a: factor of ``x``.
        b: factor of ``y``.

    Returns:
        ``(b,)``.

    Raises:
        ShapeError: if ``x`` and ``y`` differ in shape.

    Reference: A. Berman, Y. Hallak, A. Shocher, Who said neural networks aren't linear?, arXiv
    2510.08570.

    Example:
        >>> x, y = torch.randn(2, 5, 3, dtype=torch.float64)
        >>> linearity(lambda z: 2 * z, x, y).max() < 1e-12
        tensor(True)
        >>> linearity(lambda z: z + 1, x, y, a=2, b=1).min() > 0.01
        tensor(True)
    """
    check_floating(x, "x")
    check_batch(x, None, "x")
    check_batch(y, tuple(x.shape[1:]), "y")
    if len(x) != len(y):
        raise ShapeError(
            f"{len(x)} points x and {len(y)} points y",
            "pairs",
            "Pass as many of one as of the other.",
        )
    encode, decode = (g_in, g_in.inverse) if g_in is not None else (_same, _same)
    read = g_out if g_out is not None else _same
    whole = read(f(decode(a * encode(x) + b * encode(y)))).flatten(1)
    part_x, part_y = a * read(f(x)).flatten(1), b * read(f(y)).flatten(1)
    every = [part.double() for part in (whole, part_x, part_y)]
    exponent = torch.frexp(
        torch.cat([part.detach().abs() for part in every], 1).amax(1, keepdim=True)
    ).exponent
    unit = torch.pow(2.0, exponent.clamp(-1000, 1000).double())  # squares stay in range
    dtype, (whole, part_x, part_y) = whole.dtype, (part / unit for part in every)
    size = part_x.norm(dim=1) + part_y.norm(dim=1)
    error = (whole - part_x - part_y).norm(dim=1)
    return torch.where(error == 0, 0, error / size).to(dtype)


def _same(x: Tensor) -> Tensor:
    return x
