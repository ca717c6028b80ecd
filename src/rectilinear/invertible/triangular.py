"""A network that keeps the order of its coordinates: the block-triangular map of Knothe and Rosenblatt."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from rectilinear.errors import ConfigError
from rectilinear.invertible.base import Invertible
from rectilinear.invertible.mixing import alternate, random_orders
from rectilinear.invertible.partial import Leading
from rectilinear.invertible.vector import Coupling, vector_coupling

if TYPE_CHECKING:
    from torch import Tensor


class TriangularFlow(Invertible):
    """Vectors ``(b, k) -> (b, k)``; the leading ``ends[i]`` latents are a bijection of the leading ``ends[i]`` inputs.

    Each segment of coordinates moves by couplings of its own, which see all earlier segments. So latents ordered by
    importance stay in their order, and cutting them off after ``ends[i]`` loses what it lost before: where the later
    latents are set to zero, the inverse puts their conditional centre, given the leading ones. Starts as the identity.

    Args:
        ends: where the segments end, increasing; each segment has two coordinates or more, the last end is ``k``.
        blocks: couplings of each segment.
        width: width of the conditioners.
        hidden: hidden layers of the conditioners, after the first.
        coupling: ``"spline"``, ``"affine"`` or ``"additive"``.
        scale_budget: bound of the sum over the couplings of a segment of the absolute log-scales.
        seed: of the orders in which coordinates are split.

    Raises:
        ConfigError: for segments of fewer than two coordinates, no couplings, or a budget that is not positive.

    Reference:
        Knothe, "Contributions to the theory of convex bodies", 1957; Rosenblatt, "Remarks on a multivariate
        transformation", 1952.

    Example:
        >>> g = TriangularFlow(ends=(2, 6), blocks=4, width=16)
        >>> x = torch.randn(5, 6)
        >>> torch.allclose(g(x), x, atol=1e-5), g(torch.cat([x[:, :2], 0 * x[:, 2:]], 1))[:, :2].equal(g(x)[:, :2])
        (True, True)
    """

    def __init__(
        self,
        ends: tuple[int, ...],
        blocks: int = 8,
        width: int = 256,
        *,
        hidden: int = 1,
        coupling: Coupling = "spline",
        scale_budget: float = 8.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not ends or any(hi - lo < 2 for lo, hi in pairwise((0, *ends))):
            raise ConfigError(got=f"ends={ends}", expected="ends of segments of two coordinates or more, increasing")
        if blocks < 1 or not scale_budget > 0:
            raise ConfigError(
                got=f"blocks={blocks}, scale_budget={scale_budget}", expected="one coupling or more, a positive budget"
            )
        dim = ends[-1]
        self.shape = self.latent_shape = (dim,)
        couplings: list[Invertible] = []
        orders: list[tuple[int, Tensor]] = []
        for segment, (lo, hi) in enumerate(pairwise((0, *ends))):
            keep = (lo + hi + 1) // 2
            for order in random_orders(hi - lo, blocks, seed + segment):
                block = vector_coupling(coupling, hi, keep, width, hidden, bound=scale_budget / blocks)
                couplings.append(Leading(block, dim) if hi < dim else block)
                orders.append((0, torch.cat([torch.arange(lo), lo + order, torch.arange(hi, dim)])))
        self.chain = alternate((dim,), couplings, orders)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.chain._encode(x)

    def _latents(self, x: Tensor) -> Tensor:
        return self.chain._latents(x)

    def _decode(self, z: Tensor) -> Tensor:
        return self.chain._decode(z)
