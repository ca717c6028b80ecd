import math

import pytest

from rectilinear.papers import Claim


@pytest.mark.parametrize(
    ("value", "ok"), [(1.0, True), (1.1, True), (0.89, False), (math.nan, False), (math.inf, False)]
)
def test_close(value: float, ok: bool) -> None:
    assert Claim.close("x", value, expected=1.0, tolerance=0.1001).ok is ok


@pytest.mark.parametrize(
    ("value", "ok"), [(0.0, True), (0.1, True), (0.2, False), (math.nan, False)]
)
def test_at_most(value: float, ok: bool) -> None:
    assert Claim.at_most("x", value, 0.1).ok is ok


@pytest.mark.parametrize(
    ("value", "ok"), [(32.4, True), (135.0, True), (32.3, False), (math.nan, False)]
)
def test_at_least(value: float, ok: bool) -> None:
    assert Claim.at_least("x", value, 32.4).ok is ok
