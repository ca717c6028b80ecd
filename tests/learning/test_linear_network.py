"""Many steps at once against single steps, and the flow against an independent solver."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from rectilinear.errors import DivergedError
from rectilinear.learning import Moments, linear_network_descent
from rectilinear.learning.linear_network import MIN_STEPS, _sums, follow


def growth(y: NDArray) -> NDArray:
    """A saturating mode, and a fast one that follows it."""
    u, v = y[..., 0], y[..., 1]
    return np.stack([u * (1 - u), 3 * (u - v)], axis=-1)


def one_by_one(start: NDArray, steps: int, lr: float) -> NDArray:
    states = [start]
    for _ in range(steps):
        states.append(states[-1] + lr * growth(states[-1]))
    return np.stack(states)


@settings(deadline=None, max_examples=20)
@given(lr=st.floats(1e-4, 0.6), steps=st.integers(1, 3000), small=st.floats(1e-9, 1.5))
def test_descent_is_that_of_single_steps(lr: float, steps: int, small: float) -> None:
    start = np.array([small, 0.3])
    slow = one_by_one(start, steps, lr)
    at = np.unique(np.linspace(0, steps, 40).round())
    assert np.abs(follow(growth, start, at, lr) - slow[at.astype(int)]).max() < 1e-11


@pytest.mark.parametrize("steps", [MIN_STEPS, MIN_STEPS + 1, 2000])
@pytest.mark.parametrize("power", [0, 1, 5, 19])
def test_sums_of_powers(steps: int, power: int) -> None:
    nodes = (1 - np.cos(np.pi * np.arange(21) / 20)) / 2
    found = _sums(steps) @ nodes**power
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert found[-1] == pytest.approx(sum((i / steps) ** power for i in range(steps)), rel=1e-12)


def test_flow_is_that_of_a_solver() -> None:
    start, times = np.array([1e-9, 0.3]), np.linspace(0, 40, 200)
    run = solve_ivp(
        lambda _, y: growth(y), (0, 40), start, "DOP853", rtol=1e-13, atol=1e-22, t_eval=times
    )
    exact = 1 / (1 + (1e9 - 1) * np.exp(-times))
    found = follow(growth, start, times)
    assert np.abs(found[:, 0] / exact - 1).max() < 1e-11
    assert np.abs(found[:, 1] - run.y[1]).max() < 1e-8, "the solver interpolates between its steps"


def test_what_is_asked_for_twice_late_or_not_at_all() -> None:
    start, at = np.array([1e-3, 0.0]), np.array([0.0, 0.0, 7.0, 7.0, 500.0])
    found = follow(growth, start, at)
    assert np.array_equal(found[:2], [start, start])
    assert np.array_equal(found[2], found[3])
    assert found[4] == pytest.approx([1, 1], abs=1e-12)
    assert np.array_equal(follow(growth, start, np.zeros(1)), start[None])


def test_large_and_oscillating_steps_are_taken() -> None:
    sigma = torch.diag(torch.tensor([1.0, 0.01], dtype=torch.float64))
    data = Moments(sigma, torch.tensor([[1.0, 0.02]], dtype=torch.float64), 1.0)
    lr, steps = 1.9, 4000  # (1 - lr) to the power k changes its sign in every step
    maps = linear_network_descent([0, 1, steps], [torch.zeros(1, 2)], data, lr)
    exact = torch.tensor(
        [1 - (1 - lr) ** steps, 2 * (1 - (1 - 0.01 * lr) ** steps)], dtype=torch.float64
    )
    assert maps[1].flatten().tolist() == pytest.approx([lr, 0.02 * lr])
    assert (maps[2, 0] - exact).abs().max() < 1e-12


def test_states_too_large_for_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    start, at = np.array([1e-3, 0.3]), np.array([0.0, 3.0, 3.0, 900.0])
    fast = follow(growth, start, at, 0.01)
    calls = []
    monkeypatch.setattr("rectilinear.learning.linear_network.MAX_STATE_NUMBERS", 1)
    slow = follow(
        lambda y: (calls.append(y.ndim), growth(y))[1], start, at, 0.01, lambda y: y[:, :1]
    )
    assert set(calls) == {1}, "one state at a time"
    assert np.abs(slow - fast[:, :1]).max() < 1e-13


def test_what_diverges_is_said() -> None:
    with pytest.raises(DivergedError, match="at step"):
        follow(lambda y: y**3, np.ones(1), np.array([500.0]), 0.5)
    with pytest.raises(DivergedError, match="at time 1;"):
        follow(lambda y: y**2, np.ones(1), np.array([2.0]))


def test_the_best_map_is_that_of_the_points_whatever_their_units() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64) * torch.tensor([1, 1e8, 1e-6])
    y = x @ torch.tensor([[1.0], [2e-8], [3e6]], dtype=torch.float64)
    found = Moments.of(x, y).optimum()
    assert torch.allclose(found @ x.mT, y.mT, rtol=1e-12, atol=1e-12)
    sigma, beta = x.mT @ x / 50, y.mT @ x / 50
    rough = Moments(sigma, beta, float(y.square().mean())).optimum()
    assert (rough @ x.mT - y.mT).abs().max() > 0.1, "the Gram matrix alone loses the third column"
