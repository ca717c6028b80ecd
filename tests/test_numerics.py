import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from makers_data import rand
from rectilinear import numerics
from rectilinear.numerics import RIDGES, Moments


def fitted(x, t, centred, parts=3):
    moments = Moments()
    for rows, targets in zip(x.chunk(parts), t.chunk(parts), strict=True):
        moments.add(rows, targets)
    return moments.fit(centred=centred)


def slow(x, t, centred, ridge=0.0):
    """A matrix and a constant, from the normal equations of the centred rows."""
    mean_x, mean_t = (x.mean(0), t.mean(0)) if centred else (0 * x[0], 0 * t[0])
    c = (x - mean_x).mT @ (x - mean_x) + ridge * torch.eye(x.shape[1]).double()
    a = torch.linalg.pinv(c, rtol=1e-12) @ (x - mean_x).mT @ (t - mean_t)
    return a.mT, mean_t - a.mT @ mean_x


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(6, 30),
    d=st.integers(1, 8),
    centred=st.booleans(),
    offset=st.floats(-100, 100),
)
@settings(deadline=None, max_examples=25)
def test_the_fit_is_the_least_square(seed, n, d, centred, offset):
    x, t = rand(n, d, seed=seed) + offset, rand(n, 2, seed=seed + 1)
    fit = fitted(x, t, centred)
    a, b = slow(x, t, centred)
    scale = 1e-7 * (1 + float(a.abs().max()))  # offsets square into the moments
    if n > d + 1:
        assert torch.allclose(fit.matrix, a, atol=scale)
        assert torch.allclose(fit.predict(x), x @ a.mT + b, atol=scale * (1 + abs(offset)))
    r = t - fit.predict(x)
    total = (t - t.mean(0) if centred else t).square().sum()
    assert fit.r2 == pytest.approx(1 - float(r.square().sum() / total), abs=1e-6)


@given(seed=st.integers(0, 10**6), centred=st.booleans(), index=st.integers(0, len(RIDGES) - 1))
@settings(deadline=None, max_examples=20)
def test_held_out_residuals_are_those_of_refits(seed, centred, index):
    n, d = 15, 4
    x, t = rand(n, d, seed=seed), rand(n, 2, seed=seed + 1)
    fit = fitted(x, t, centred)
    left = fit.residuals(x, t).held_out[index]
    ridge = (
        RIDGES[index] * float((fit.s / fit.basis.square().sum(0)).sum()) / d
    )  # columns share one scale
    for i in (0, 7):
        keep = torch.arange(n) != i
        if centred:  # the constant is not shrunk: one more column, without a penalty
            rows = torch.cat([x - fit.mean_x, torch.ones(n, 1).double()], 1)
            penalty = ridge * torch.diag(torch.tensor([1.0] * d + [0.0]).double())
        else:
            rows, penalty = x, ridge * torch.eye(d).double()
        a = torch.linalg.solve(rows[keep].mT @ rows[keep] + penalty, rows[keep].mT @ t[keep])
        assert torch.allclose(left[i], t[i] - rows[i] @ a, atol=1e-9)


def test_constant_columns_and_copies_are_no_trouble():
    x = rand(40, 3, seed=0)
    x = torch.cat([x, x[:, :1], torch.full((40, 2), 7.0).double()], 1)
    t = x @ rand(6, 2, seed=1)
    fit = fitted(x, t, centred=True)
    assert len(fit.s) == 3
    assert fit.r2 == pytest.approx(1, abs=1e-12)
    assert fit.residuals(x, t).held_out[0].abs().max() < 1e-9


def test_a_row_alone_in_its_direction_is_not_known_there():
    x = torch.cat([rand(20, 2, seed=0), torch.zeros(20, 1).double()], 1)
    x[3, 2] = 1.0
    t = x @ torch.ones(3, 1).double()
    left = fitted(x, t, centred=False).residuals(x, t).held_out[0]
    assert left.abs()[3] > 0.1
    assert left.abs()[torch.arange(20) != 3].max() < 1e-9


@pytest.mark.parametrize("name", ["eig", "eigvals"])
def test_eigenvalues_are_those_of_a_copy(name, monkeypatch):
    """A backend may write over its argument, as PyTorch 2.11 does on CUDA with matrices stored by
    columns.
    """
    m = rand(5, 5, seed=0).mT
    before, kept = m.clone(), getattr(torch.linalg, name)

    def overwriting(argument):
        found = kept(argument)
        argument.zero_()
        return found

    monkeypatch.setattr(torch.linalg, name, overwriting)
    found = getattr(numerics, name)(m)
    assert torch.equal(m, before)
    values = found[0] if name == "eig" else found
    assert float((values.prod() - torch.linalg.det(before)).abs()) < 1e-12


def test_nobody_calls_what_is_unsafe_in_torch_directly():
    source = Path(numerics.__file__).parent
    calls = [
        path.name
        for path in source.rglob("*.py")
        if re.search(r"torch\.linalg\.(eig|eigvals|lstsq)\(", path.read_text())
    ]
    assert calls == ["numerics.py"]


@pytest.mark.parametrize("columns", [16, 40])
def test_least_squares_do_not_depend_on_what_memory_held_before(columns):
    stream = torch.Generator().manual_seed(0)
    a = torch.randn(100, columns, generator=stream, dtype=torch.float64)
    a[:, 1], a[:, 2] = a[:, 0], 1e-9 * a[:, 2]
    b = torch.randn(100, 2, generator=stream, dtype=torch.float64)
    found = []
    for pivot in (0, 1, 0, 1):
        freed = [torch.full((columns,), pivot, dtype=torch.int32) for _ in range(20)]
        del freed  # the next arrays of this size lie there
        found.append(numerics.lstsq(a, b))
    assert all(torch.equal(found[0], other) for other in found[1:])
    wanted = torch.from_numpy(np.linalg.lstsq(a.numpy(), b.numpy(), rcond=None)[0])
    assert torch.allclose(a @ found[0], a @ wanted, rtol=0, atol=1e-6)
