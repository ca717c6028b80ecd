"""The test by which nonlinear models are tried at all: does a nonlinear map gain over one step?"""

from __future__ import annotations

from collections.abc import Sequence
from math import log1p

from rectilinear.koopman.autoregression import LINEAR_RIDGES, Plan, count_windows, of_fit
from rectilinear.koopman.candidates import thin_moments
from rectilinear.koopman.dictionaries import Dictionary, Fourier, Monomials
from rectilinear.koopman.held_out import MOST_STATE, Candidate, Held, judged

GAIN = 0.02
"""Part of the error over one or some steps that a nonlinear map must gain."""
_ROWS, _FEATURES = 3000, 100


def bends(held: Held, lags: Sequence[int], seed: int = 0) -> bool:
    """True where a nonlinear map is better than a linear one, for certain, over one or some steps.

    Errors of one application are those of many more independent rows than errors over the horizon,
    and they cost a hundredth: of a series of noise this says in a second that it is linear.

    Example:
        >>> import torch
        >>> from rectilinear.koopman.held_out import hold_out
        >>> from rectilinear.koopman.autoregression import Piece
        >>> x = [torch.tensor(0.3, dtype=torch.float64)]
        >>> for _ in range(200):
        ...     x.append(4 * x[-1] * (1 - x[-1]))
        >>> bent = torch.stack(x)[:, None]
        >>> flat = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)).double()
        >>> [bends(hold_out([Piece(y)], 2, 5), [1, 2]) for y in (bent, flat)]
        [True, False]
    """
    horizon, d = held.future.shape[1], held.width
    tried = [k for k in lags if k * d <= MOST_STATE]
    for stride in sorted({1, max(1, round(horizon**0.5))}):
        flat = [_best(held, Plan(k, stride, "mean")) for k in tried]
        known = [c for c in flat if c is not None]
        if not known:
            return True
        line = min(known, key=lambda c: c.score)
        for k in tried:
            curves: list[Dictionary] = [Fourier(_FEATURES, b, seed) for b in (0.5, 1.0)]
            curves += [Monomials(2)] if k * d <= 24 else []
            for curve in curves:
                one = _best(held, Plan(k, stride, "last", dictionary=curve))
                gain = 0.0 if one is None else line.score - one.score
                if one is not None and gain > -2 * log1p(-GAIN) and line.worse_for_certain(one):
                    return True
    return False


def _best(held: Held, plan: Plan) -> Candidate | None:
    """The candidate of the best penalty by the errors of one application."""
    if count_windows(held.train, plan.lags, plan.stride) < 8:
        return None
    fit = thin_moments(plan, held.train, _ROWS).fit()
    near = held.first(plan.stride)
    found = [judged("", of_fit(plan, fit, ridge), near) for ridge in LINEAR_RIDGES[::2]]
    return min(found, key=lambda c: c.score)
