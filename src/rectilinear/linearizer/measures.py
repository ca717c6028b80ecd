"""Numbers of a Linearizer in the induced inner products: those of its operator, since encoding is an isometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.linearizer.linearizer import Linearizer
from rectilinear.operators import cond, logdet, norm, rank

if TYPE_CHECKING:
    from torch import Tensor


@rank.register(Linearizer)
def _rank(f: Linearizer, rtol: float | None = None) -> Tensor:
    return rank(f.operator, rtol)


@cond.register(Linearizer)
def _cond(f: Linearizer) -> Tensor:
    return cond(f.operator)


@norm.register(Linearizer)
def _norm(f: Linearizer, kind: str = "spectral") -> Tensor:
    """The spectral norm is the Lipschitz constant of ``f`` between its spaces."""
    return norm(f.operator, kind)


@logdet.register(Linearizer)
def _logdet(f: Linearizer) -> Tensor:
    """Log of the factor by which ``f`` changes volumes between its spaces."""
    return logdet(f.operator)
