"""Papers, a folder each, and in it a file a figure: ``compute``, ``draw`` and ``claims``.

A claim is a sentence of a paper as a number that can be checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True)
class Claim:
    """A measured and an expected number, and ``ok`` if they agree within the tolerance."""

    name: str
    value: float
    expected: float
    tolerance: float
    ok: bool

    @classmethod
    def close(cls, name: str, value: float, expected: float, tolerance: float) -> Claim:
        """``|value - expected| <= tolerance``.

        Example:
            >>> Claim.close("standard deviation", 0.98, expected=1.0, tolerance=0.05).ok
            True
        """
        return cls(
            name,
            float(value),
            float(expected),
            float(tolerance),
            bool(isfinite(value) and abs(value - expected) <= tolerance),
        )

    @classmethod
    def at_most(cls, name: str, value: float, bound: float) -> Claim:
        """``value <= bound``: expected 0 with the bound as tolerance, for errors.

        Example:
            >>> Claim.at_most("error", 0.2, 0.1)
            Claim(name='error', value=0.2, expected=0.0, tolerance=0.1, ok=False)
        """
        return cls(name, float(value), 0.0, float(bound), bool(value <= bound))

    @classmethod
    def at_least(cls, name: str, value: float, bound: float) -> Claim:
        """``value >= bound``: one-sided, so the tolerance is 0.

        Example:
            >>> Claim.at_least("signal to noise, dB", 135.0, 32.4).ok
            True
        """
        return cls(f"{name} (at least)", float(value), float(bound), 0.0, bool(value >= bound))
