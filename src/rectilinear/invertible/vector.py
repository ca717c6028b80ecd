"""The ready network for vectors."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from rectilinear.errors import ConfigError
from rectilinear.invertible.actnorm import ActNorm
from rectilinear.invertible.base import Invertible, Precision, check_precision
from rectilinear.invertible.chain import Chain
from rectilinear.invertible.conditioners import MLP
from rectilinear.invertible.coupling import AdditiveCoupling, AffineCoupling, SplineCoupling
from rectilinear.invertible.rotation import alternate, random_orders

Coupling = Literal["affine", "additive", "spline"]
BINS = 8  # of a spline


class VectorFlow(Invertible):
    """An invertible network on vectors, ``(b, dim) -> (b, dim)``: couplings with MLP conditioners.

    Each coupling sees the coordinates in another order (a permutation, no matrix product) and the
    orders undo themselves, so the network starts as the identity, exactly. For a PCA start put a
    rotation before it: ``Chain(Rotation.from_matrix(q, mean), VectorFlow(dim))``.

    Args:
        dim: number of coordinates, 2 or more.
        blocks: number of couplings.
        width: width of the conditioners.
        hidden: hidden layers of the conditioners, after the first.
        coupling: ``"affine"``, ``"additive"`` (volume preserving, best conditioned), or
            ``"spline"`` (for densities in few dimensions).
        scale_budget: bound of the sum over all couplings of the absolute log-scales.
        residual: conditioners with residual layers.
        actnorm: an :class:`ActNorm` before the couplings (needs a first batch in training mode).
        precision: ``"float32"`` (the dtype of the input), ``"bf16"`` (conditioners only), or
            ``"exact"`` (bit for bit on :func:`to_grid` inputs; additive couplings, no actnorm).
        checkpoint: recompute activations per coupling in the backward pass.
        seed: of the orders.

    Raises:
        ConfigError: for fewer than two coordinates, no blocks, or an exact precision with scales.

    Example:
        >>> import torch
        >>> g = VectorFlow(dim=6, blocks=4, width=32)
        >>> x = torch.randn(5, 6)
        >>> z, logdet = g.forward_and_logdet(x)
        >>> torch.equal(z, x), torch.allclose(g.inverse(z), x), logdet.shape
        (True, True, torch.Size([5]))
    """

    def __init__(
        self,
        dim: int,
        blocks: int = 8,
        width: int = 256,
        *,
        hidden: int = 1,
        coupling: Coupling = "affine",
        scale_budget: float = 5.0,
        residual: bool = True,
        actnorm: bool = False,
        precision: Precision = "float32",
        checkpoint: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_flow(blocks, coupling, scale_budget, precision, actnorm=actnorm)
        if dim < 2:
            raise ConfigError(
                got=f"dim={dim}", expected="two coordinates or more", fix="Pad the data with zeros."
            )
        self.shape = self.latent_shape = (dim,)
        keep = (dim + 1) // 2

        couplings = [
            vector_coupling(
                coupling,
                dim,
                keep,
                width,
                hidden,
                bound=scale_budget / blocks,
                residual=residual,
                precision=precision,
            )
            for _ in range(blocks)
        ]
        orders = [(0, order) for order in random_orders(dim, blocks, seed)]
        chain = alternate((dim,), couplings, orders, checkpoint=checkpoint)
        self.chain = Chain(ActNorm(dim), chain) if actnorm else chain

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.chain._encode(x)

    def _latents(self, x: Tensor) -> Tensor:
        return self.chain._latents(x)

    def _decode(self, z: Tensor) -> Tensor:
        return self.chain._decode(z)


def vector_coupling(
    kind: Coupling,
    dim: int,
    keep: int,
    width: int,
    hidden: int,
    *,
    bound: float,
    residual: bool = True,
    precision: Precision = "float32",
) -> Invertible:
    """One coupling of vectors whose first ``keep`` coordinates move the others as an MLP says."""
    moved = dim - keep
    if kind == "spline":
        conditioner = MLP(keep, moved * (3 * BINS + 1), width, hidden, residual=residual)
        return SplineCoupling(
            dim, conditioner, keep=keep, bins=BINS, bound=bound, precision=precision
        )
    conditioner = MLP(
        keep, moved if kind == "additive" else 2 * moved, width, hidden, residual=residual
    )
    if kind == "additive":
        return AdditiveCoupling(dim, conditioner, keep=keep, precision=precision)
    return AffineCoupling(dim, conditioner, keep=keep, bound=bound, precision=precision)


def check_flow(
    blocks: int,
    coupling: str,
    scale_budget: float,
    precision: Precision,
    *,
    actnorm: bool,
    kinds: tuple[str, ...] = get_args(Coupling),
) -> None:
    """Raise ConfigError for settings that no ready network has."""
    check_precision(precision)
    if blocks < 1:
        raise ConfigError(got=f"blocks={blocks}", expected="one coupling or more")
    if coupling not in kinds:
        raise ConfigError(got=f"coupling={coupling!r}", expected=f"one of {', '.join(kinds)}")
    if not scale_budget > 0:
        raise ConfigError(
            got=f"scale_budget={scale_budget}", expected="a positive bound of the total log-scale"
        )
    if precision.startswith("exact") and (coupling != "additive" or actnorm):
        raise ConfigError(
            got=f"precision={precision!r} with {'actnorm' if actnorm else f'{coupling} couplings'}",
            expected="additive couplings only: scales are not exact",
            fix="Set coupling='additive' and actnorm=False.",
        )
