"""How long a small start stays where it is, and when it is halfway."""

from __future__ import annotations

import math

from rectilinear.dynamics.linear_deep import deep_time

LEFT = 0.01  # the plateau ends when the loss has fallen by this part of what the mode can take off


def half_time(s: float, u0: float, lam: float = 1.0, kappa: float = 1.0, depth: int = 2) -> float:
    r"""When the strength of a mode is half its limit ``s/lam``: ``log(s/(lam U0) - 1)/(2 kappa s)`` for two layers.

    Args:
        s: correlation of inputs and targets along the mode.
        u0: strength of the map at the start, between zero and half the limit.
        lam: variance of the inputs along the mode.
        kappa: half the slopes' sum of the activation, ``(1 + alpha)/2`` for leaky ReLU; 1 where ``depth`` is not 2.
        depth: number of layers; of a ReLU network from :func:`two_blocks` half the time holds (``kappa = 1/2``).

    Returns:
        Learning rate times steps.

    Example:
        >>> round(half_time(s=2.0, u0=0.02, kappa=0.5), 6) == round(math.log(99) / 2, 6)
        True
    """
    return deep_time((s / lam / 2) ** (1 / depth), s, u0 ** (1 / depth), depth, lam) / kappa


def plateau(s: float, u0: float, lam: float = 1.0, kappa: float = 1.0, depth: int = 2) -> float:
    r"""When the loss has fallen by one percent of the ``s^2/(2 lam)`` that the mode takes off in the end.

    At that time the strength is ``(s/lam) (1 - sqrt(0.99))``.

    Args:
        s: correlation of inputs and targets along the mode.
        u0: strength of the map at the start, below that strength.
        lam: variance of the inputs along the mode.
        kappa: half the slopes' sum of the activation.
        depth: number of layers.

    Returns:
        Learning rate times steps.

    Example:
        >>> plateau(s=1.0, u0=1e-9) < half_time(s=1.0, u0=1e-9) < 1.5 * plateau(s=1.0, u0=1e-9)
        True
    """
    strength = s / lam * (1 - math.sqrt(1 - LEFT))
    return deep_time(strength ** (1 / depth), s, u0 ** (1 / depth), depth, lam) / kappa
