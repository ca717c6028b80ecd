import json
import math
from dataclasses import asdict

import numpy as np
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


def test_numbers_of_numpy_are_written_as_json():
    one = np.float64(1.0)
    for claim in (
        Claim.close("a", one, one, np.float64(0.1)),
        Claim.at_most("a", one, 2 * one),
        Claim.at_least("a", one, 2 * one),
    ):
        assert json.loads(json.dumps(asdict(claim))) == asdict(claim)
        assert claim.ok is (claim.name == "a")
