"""Streamed least squares against rational arithmetic, certified values and NumPy's solvers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from makers_data import rand
from rectilinear.errors import InputError
from rectilinear.numerics import Fit, Moments

N = 16


def streamed(x: Tensor, t: Tensor, size: int = 10**6, centred: bool = True) -> Fit:
    moments = Moments()
    for rows, targets in zip(x.split(size), t.split(size), strict=True):
        moments.add(rows, targets)
    return moments.fit(centred=centred)


def exactly(x: Tensor, t: Tensor, centred: bool) -> tuple[list[Fraction], Fraction, Fraction]:
    """Predictions, the sum of squares that is left and the total, by Gauss-Jordan elimination on
    fractions.
    """
    rows = [[Fraction(v) for v in row] + [Fraction(1)] * centred for row in x.tolist()]
    targets = [Fraction(v) for v in t[:, 0].tolist()]
    width = len(rows[0])
    a = [
        [sum((r[i] * r[j] for r in rows), Fraction(0)) for j in range(width)]
        + [sum((r[i] * y for r, y in zip(rows, targets, strict=True)), Fraction(0))]
        for i in range(width)
    ]
    for c in range(width):
        pivot = next(r for r in range(c, width) if a[r][c])
        a[c], a[pivot] = a[pivot], a[c]
        a[c] = [v / a[c][c] for v in a[c]]
        a = [
            row if r == c else [u - row[c] * v for u, v in zip(row, a[c], strict=True)]
            for r, row in enumerate(a)
        ]
    predicted = [sum((a[j][width] * row[j] for j in range(width)), Fraction(0)) for row in rows]
    left = sum(((y - p) ** 2 for y, p in zip(targets, predicted, strict=True)), Fraction(0))
    mean = sum(targets, Fraction(0)) / len(targets) if centred else Fraction(0)
    return predicted, left, sum(((y - mean) ** 2 for y in targets), Fraction(0))


COLUMNS = {
    "plain": ([1, 1, 1], [0, 0, 0], 0, 1e-13),
    "units": ([1e8, 1, 1], [0, 0, 0], 0, 1e-13),
    "units apart": ([1e6, 1, 1e-6], [0, 0, 0], 0, 1e-13),
    "small": ([1e-150, 1e-150, 1e-150], [0, 0, 0], 0, 1e-13),
    "large": ([1e150, 1e150, 1e150], [0, 0, 0], 0, 1e-13),
    "squares vanish": ([1e-200, 1e-180, 1], [0, 0, 0], 0, 1e-13),
    "squares overflow": ([1e200, 1e160, 1], [0, 0, 0], 0, 1e-13),
    "offset": ([1, 1, 1], [1e8, 0, 0], 0, 1e-7),
    "nearly one": ([1, 1, 1], [0, 0, 0], 1e-6, 1e-8),
    "all but one": ([1, 1, 1], [0, 0, 0], 1e-10, 1e-3),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("unit", [1.0, 1e-140, 1e140])
@pytest.mark.parametrize("size", [5, N])
def test_the_fit_is_that_of_exact_arithmetic(name, centred, unit, size):
    scales, offsets, apart, allowed = COLUMNS[name]
    x, t = rand(N, 3), unit * rand(N, 1, seed=1)
    x[:, 1] = x[:, 0] + apart * x[:, 1] if apart else x[:, 1]
    x = x * torch.tensor(scales, dtype=torch.float64) + torch.tensor(offsets, dtype=torch.float64)
    predicted, left, total = exactly(x, t, centred)
    fit = streamed(x, t, size, centred)
    scale = float(max(abs(p) for p in predicted))
    wanted = torch.tensor([float(p) for p in predicted], dtype=torch.float64)
    assert fit.predict(x)[:, 0] / scale == pytest.approx((wanted / scale).numpy(), abs=10 * allowed)
    assert float(fit.left[0]) == pytest.approx(float(left), rel=allowed)
    assert float(fit.total[0]) == pytest.approx(float(total), rel=1e-12)
    assert fit.r2 == pytest.approx(float(1 - left / total), abs=allowed)


DELTAS = [759, -2048, 2048, -2048, 2523, -2048, 2048, -2048, 1838, -2048, 2048, -2048, 1838]
DELTAS += [-2048, 2048, -2048, 2523, -2048, 2048, -2048, 759]
WAMPLER = [
    (1, 0, 0.0),
    (3, 1, 2360.14502379268),
    (4, 100, 236014.502379268),
    (5, 10_000, 23601450.2379268),
]


@pytest.mark.parametrize(("number", "noise", "deviation"), WAMPLER)
def test_wampler(number, noise, deviation):
    """Certified by NIST: all coefficients are one, whatever the noise, and the standard deviation
    of the residuals.
    """
    z = torch.arange(21, dtype=torch.float64)
    x = torch.stack([z**k for k in range(1, 6)], 1)
    t = (x.sum(1) + 1 + noise * torch.tensor(DELTAS, dtype=torch.float64))[:, None]
    fit = streamed(x, t, size=4)
    digits = 1e-9 if noise < 100 else 1e-5
    assert fit.matrix[0].numpy() == pytest.approx(np.ones(5), abs=digits)
    assert float(fit.constant) == pytest.approx(1, abs=10 * digits)
    assert (float(fit.left) / 15) ** 0.5 == pytest.approx(deviation, rel=1e-9, abs=1e-8)


def test_wampler_2():
    z = torch.arange(21, dtype=torch.float64)
    x = torch.stack([z**k for k in range(1, 6)], 1)
    coefficients = torch.tensor([10.0**-k for k in range(1, 6)], dtype=torch.float64)
    fit = streamed(x, (1 + x @ coefficients)[:, None], size=4)
    assert fit.matrix[0].numpy() == pytest.approx(coefficients.numpy(), rel=1e-9)
    assert float(fit.constant) == pytest.approx(1, abs=1e-10)


@given(
    st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 9), st.integers(1, 4), st.booleans()
)
@settings(deadline=None, max_examples=30)
def test_any_shape_and_any_parts(seed, n, d, kind, centred):
    """Fewer rows than columns, copies of columns, constants: predictions and residuals are those of
    ``lstsq``.
    """
    x, t = rand(n, d, seed=seed), rand(n, 2, seed=seed + 1)
    if kind == 2:
        x = torch.cat([x, x[:, :1], 2 * x[:, -1:]], 1)
    if kind == 3:
        x = torch.cat([x, torch.full((n, 2), 1e6).double()], 1)
    if kind == 4:
        x = x.mul(2).round()
    design = torch.cat([x, torch.ones(n, 1).double()], 1) if centred else x
    a = torch.from_numpy(np.linalg.lstsq(design.numpy(), t.numpy(), rcond=1e-11)[0])
    for size in (1, 7, n):
        fit = streamed(x, t, size, centred)
        assert torch.allclose(fit.predict(x), design @ a, atol=1e-6)
        assert torch.allclose(fit.left, (t - design @ a).square().sum(0), atol=1e-6)
        assert torch.allclose(fit.residuals(x, t).own, t - design @ a, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_low_rank_maps_are_those_of_reduced_rank_regression(scale):
    x, t = rand(200, 5), rand(200, 4, seed=1)
    t = t + 2 * x[:, :4] @ rand(4, 4, seed=2)
    x = x * torch.tensor([scale, 1, 1, 1, 1 / scale], dtype=torch.float64)
    left, right = streamed(x, t, 30).by_rank()
    centred = x - x.mean(0)
    fitted = centred @ torch.linalg.lstsq(
        centred / centred.norm(dim=0), t - t.mean(0)
    ).solution.div(centred.norm(dim=0)[:, None])
    for rank in (1, 2, 3, 4):
        v = torch.linalg.svd(fitted, full_matrices=False).Vh[:rank]
        made = centred @ (left[:, :rank] @ right[:rank]).mT
        assert torch.allclose(made, fitted @ v.mT @ v, atol=1e-9)
        assert int(torch.linalg.matrix_rank(made, rtol=1e-9)) == rank


@pytest.mark.parametrize("unit", [1e-140, 1.0, 1e140])
def test_procrustes(unit):
    x, q = rand(50, 4), torch.linalg.qr(rand(4, 4, seed=3)).Q
    moments, other = Moments(), Moments()
    moments.add(unit * x, unit * (3 * x @ q + 7))
    other.add(x, x**2)
    assert moments.procrustes() == pytest.approx(1)
    a, b = x - x.mean(0), x**2 - (x**2).mean(0)
    wanted = torch.linalg.matrix_norm(a.mT @ b, "nuc") ** 2 / (a.square().sum() * b.square().sum())
    assert other.procrustes() == pytest.approx(float(wanted))


@pytest.mark.parametrize("unit", [1e-170, 1e170])
def test_targets_whose_squares_leave_the_numbers_are_refused(unit):
    with pytest.raises(InputError, match="targets of size"):
        streamed(rand(9, 2), unit * rand(9, 1))


def test_rounding_errors_of_half_precision_are_not_fitted():
    z = rand(400, 3)
    hidden = (z @ rand(3, 20, seed=1)).bfloat16()
    moments = Moments(computed=True)
    moments.add(hidden, z)
    assert len(moments.fit().s) == 3
    assert len(streamed(z.float(), z).s) == 3
