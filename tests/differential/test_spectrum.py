"""Eigenvalues and time scales of known linear systems, in any rotation and units."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from rectilinear.koopman import DMD, KoopmanRegressor

OSCILLATORS = np.array(
    [[-0.05, -1.0, 0, 0], [1.0, -0.05, 0, 0], [0, 0, -0.2, -2.3], [0, 0, 2.3, -0.2]]
)
MIXED = np.array([[0.0, -0.7, 0], [0.7, 0.0, 0], [0, 0, -0.5]])


def trajectories(generator: np.ndarray, dt: float, count: int, steps: int, seed: int) -> np.ndarray:
    """Exact states ``(count, steps + 1, d)`` of ``x' = A x``: powers of ``exp(A dt)``."""
    step, x = expm(dt * generator), np.random.default_rng(seed).normal(size=(count, len(generator)))
    found = [x]
    for _ in range(steps):
        found.append(found[-1] @ step.T)
    return np.stack(found, 1)


def upper(values: np.ndarray) -> np.ndarray:
    """One of each pair, sorted."""
    kept = values[values.imag > -1e-9]
    return kept[np.lexsort([kept.real.round(6), kept.imag.round(6)])]


@settings(deadline=None, max_examples=10)
@given(
    system=st.sampled_from([OSCILLATORS, MIXED]),
    seed=st.integers(0, 99),
    size=st.sampled_from([1e-150, 1e-12, 1.0, 1e12, 1e150]),
    units=st.floats(1e-12, 1e12),
    offset=st.sampled_from([0.0, 3.0, -100.0]),
    dt=st.sampled_from([1e-9, 0.1, 1e9]),
)
def test_linear_systems_in_any_rotation_units_and_time(
    system: np.ndarray, seed: int, size: float, units: float, offset: float, dt: float
) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=system.shape))[0]
    scale = size * np.array([1.0, *np.full(len(system) - 1, units)])
    x = (trajectories(system, 0.1, 12, 60, seed) @ turn.T + offset) * scale
    model = KoopmanRegressor(rank=len(system), horizon=40, fourier=0).fit(x[:10], dt=dt)
    exponents = upper(model.modes_.exponents.numpy() * dt / 0.1)
    assert np.allclose(exponents, upper(np.linalg.eigvals(system)), atol=1e-7)
    scales, true = (
        model.modes_.time_scale.numpy() * 0.1 / dt,
        -1 / np.minimum(upper(np.linalg.eigvals(system)).real, -1e-9),
    )
    assert np.allclose(
        np.sort(scales)[: sum(true < 1e6)], np.sort(true)[true[np.argsort(true)] < 1e6], rtol=1e-6
    )
    error = (model.simulate(x[10:, 0], 60) - x[10:]) / scale
    assert np.abs(error).max() < 1e-9 * (1 + abs(offset))


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 99), scale=st.sampled_from([1e-12, 1.0, 1e12]))
def test_the_same_as_dynamic_mode_decomposition(seed: int, scale: float) -> None:
    x = scale * trajectories(MIXED, 0.2, 8, 60, seed)
    ours = KoopmanRegressor(rank=3, horizon=30, fourier=0).fit(x)
    baseline = DMD().fit(x)
    assert np.allclose(upper(ours.eigenvalues_), upper(baseline.eigenvalues_), atol=1e-8)
    assert np.allclose(
        ours.simulate(x[:, 0], 40), baseline.simulate(x[:, 0], 40), atol=1e-8 * scale
    )


@pytest.mark.parametrize("offset", [0.0, 0.37, 1e3, -1e6])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_rank_counts_modes_beside_the_mean(offset: float, size: float) -> None:
    t = 0.1 * np.arange(400)
    x = size * (offset + sum(np.sin(w * t + p) for w, p in ((0.5, 0.0), (2.5, 1.0), (5.0, 2.0))))
    model = KoopmanRegressor(rank=6, horizon=100, delays=6).fit(x, dt=0.1)
    exponents = model.modes_.exponents.numpy()
    assert exponents.shape == (3,)
    assert np.allclose(np.sort(exponents.imag), [0.5, 2.5, 5.0], atol=1e-9 * (1 + abs(offset)))
    assert np.allclose(exponents.real, 0, atol=1e-9 * (1 + abs(offset)))


@pytest.mark.parametrize("columns", [1, 3])
def test_sines_at_their_rank_in_many_columns_and_series(columns: int) -> None:
    t, rng = 0.1 * np.arange(250), np.random.default_rng(0)
    waves = np.stack([np.sin(w * t + p) for w in (0.5, 2.5, 5.0) for p in (0.0, 1.5)], 1)
    parts = rng.normal(size=(6, columns))
    series = [2.0 + waves[:200] @ parts, 2.0 + waves[50:] @ parts]
    model = KoopmanRegressor(rank=6, horizon=90, delays=6).fit(series, dt=0.1)
    assert np.allclose(np.sort(model.modes_.exponents.numpy().imag), [0.5, 2.5, 5.0], atol=1e-8)


def test_what_differs_between_series_is_a_mode_and_what_all_share_is_none() -> None:
    x = trajectories(OSCILLATORS[:2, :2], 0.1, 10, 80, 0)
    levels = np.random.default_rng(1).normal(size=(10, 1, 1)) * np.ones((10, 81, 1))
    shared = KoopmanRegressor(rank=8, horizon=40, fourier=0).fit(
        np.concatenate([x, 0 * levels + 7], 2)
    )
    own = KoopmanRegressor(rank=8, horizon=40, fourier=0).fit(np.concatenate([x, levels], 2))
    assert len(shared.eigenvalues_) == 1
    assert np.allclose(np.sort(own.eigenvalues_.real)[-1], 1, atol=1e-9)
    assert np.allclose(
        own.simulate(np.concatenate([x, levels], 2)[:, 0], 80)[..., 2:], levels, atol=1e-9
    )


def test_a_trend_that_all_windows_share_is_kept() -> None:
    t = np.arange(200.0)
    model = KoopmanRegressor(rank=2, horizon=20, fourier=0).fit(3 + 0.5 * t)
    assert np.allclose(model.simulate([[53.0]], 20)[0, :, 0], 53 + 0.5 * t[:21], atol=1e-6)
