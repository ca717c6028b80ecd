"""Powers, exponential and logarithm of a Linearizer that maps a space to itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rectilinear.linearizer.linearizer import Linearizer, endomorphism
from rectilinear.operators import expm, logm, power

if TYPE_CHECKING:
    from torch import Tensor


@power.register(Linearizer)
def _power(f: Linearizer, p: float) -> Linearizer:
    return f**p


@expm.register(Linearizer)
def _expm(f: Linearizer, t: float | Tensor = 1.0) -> Linearizer:
    return Linearizer(f.g_in, expm(endomorphism(f, "the exponential"), t))


@logm.register(Linearizer)
def _logm(f: Linearizer) -> Linearizer:
    return Linearizer(f.g_in, logm(endomorphism(f, "the logarithm")))
