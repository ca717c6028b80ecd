"""The Hessian against autograd on the rows, and states against networks of known state."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, hessian

from rectilinear.checks import tolerance
from rectilinear.deeplinear import diagnosis
from rectilinear.deeplinear.ensemble import train_ensemble
from rectilinear.deeplinear.initialisation import initial_weights
from rectilinear.deeplinear.statistics import SufficientStatistics
from rectilinear.errors import ShapeError


def data(
    rng: np.random.Generator, runs: int, d: int, m: int, rows: int = 30
) -> tuple[np.ndarray, np.ndarray]:
    X = rng.normal(size=(runs, rows, d)) + 0.5
    return X, X @ rng.normal(size=(runs, d, m)) + rng.normal(size=(runs, rows, m))


def extremes(
    X: np.ndarray, y: np.ndarray, weights: list[np.ndarray], biases: list[np.ndarray]
) -> tuple[float, float]:
    """By autograd through torch's own layers on all rows."""
    layers = [
        torch.nn.Linear(w.shape[1], w.shape[0], bias=bool(biases), dtype=torch.float64)
        for w in weights
    ]
    net = torch.nn.Sequential(*layers)
    names = [f"{i}.weight" for i in range(len(weights))] + [f"{i}.bias" for i in range(len(biases))]
    parts = [torch.from_numpy(a) for a in (*weights, *biases)]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        views = [
            v.reshape(p.shape)
            for v, p in zip(flat.split([p.numel() for p in parts]), parts, strict=True)
        ]
        found = functional_call(net, dict(zip(names, views, strict=True)), torch.from_numpy(X))
        return torch.nn.functional.mse_loss(found, torch.from_numpy(y))

    values = torch.linalg.eigvalsh(hessian(loss)(torch.cat([part.reshape(-1) for part in parts])))
    return float(values[0]), float(values[-1])


@given(
    st.lists(st.integers(1, 3), max_size=4),
    st.integers(1, 3),
    st.integers(1, 2),
    st.booleans(),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=12)
def test_hessian_is_that_of_autograd_on_the_rows(
    widths: list[int], d: int, m: int, bias: bool, seed: int
) -> None:
    X, y = data(np.random.default_rng(seed), 3, d, m)
    weights, biases = initial_weights("uniform", (d, *widths, m), (3,), bias=bias, seed=seed)
    found = diagnosis.diagnose(SufficientStatistics.from_data(X, y), weights, biases, tol=1e-6)
    for run in range(3):
        low, high = extremes(X[run], y[run], [w[run] for w in weights], [b[run] for b in biases])
        allowed = tolerance(torch.float64, scale=high, n=100)
        assert found.smallest[run] == pytest.approx(low, abs=allowed)
        assert found.largest[run] == pytest.approx(high, abs=allowed)


@pytest.mark.parametrize("krylov", [100, 20], ids=["all of the space", "a part"])
def test_lanczos_finds_the_ends_of_a_large_hessian(
    krylov: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = data(np.random.default_rng(0), 2, 5, 1)
    layers = initial_weights("torch", (5, 6, 6, 1), (2,))
    statistics = SufficientStatistics.from_data(X, y)
    whole = diagnosis.diagnose(statistics, *layers, tol=1e-6)
    monkeypatch.setattr(diagnosis, "MAX_DENSE_PARAMETERS", 10)
    monkeypatch.setattr(diagnosis, "LANCZOS_PRODUCTS", krylov)
    ends = diagnosis.diagnose(statistics, *layers, tol=1e-6)
    np.testing.assert_allclose(
        ends.smallest, whole.smallest, rtol=1e-6
    )  # what so few products come to
    np.testing.assert_allclose(ends.largest, whole.largest, rtol=1e-6)


def test_a_hessian_that_is_flat_in_most_directions() -> None:
    """More columns than rows: at a solution all eigenvalues but a few are zero, which is no reason
    not to answer.
    """
    X, y = data(np.random.default_rng(0), 2, 60, 1, rows=40)
    statistics = SufficientStatistics.from_data(X, y)
    run = train_ensemble(
        statistics, (10,), init="zero_last", optimizer="adam", lr=1e-2, steps=3000, tol=1e-12
    )
    found = diagnosis.diagnose(statistics, run.weights, run.biases, tol=1e-10)
    assert found.state.tolist() == ["converged", "converged"]
    assert (
        np.abs(found.smallest) < 1e-4 * found.largest
    ).all()  # zero but for what the gap of 1e-12 leaves


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data(np.random.default_rng(0), 7, 1, 1)
    layers = initial_weights("uniform", (1, 1, 1), (7,))
    statistics = SufficientStatistics.from_data(X, y)
    at_once = diagnosis.diagnose(statistics, *layers, tol=1e-6)
    monkeypatch.setattr(diagnosis, "BLOCK_ENTRIES", 1)
    one_by_one = diagnosis.diagnose(statistics, *layers, tol=1e-6)
    np.testing.assert_array_equal(at_once.smallest, one_by_one.smallest)


def test_states_of_nets_while_they_train() -> None:
    """A chain that starts near zero passes the saddle, comes down the valley and converges."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1, 500, 1))
    statistics = SufficientStatistics.from_data(X, 2 * X[..., 0] + 0.1 * rng.normal(size=(1, 500)))
    initial = (
        tuple(np.full((1, 1, 1), 0.1) for _ in range(4)),
        tuple(np.zeros((1, 1)) for _ in range(4)),
    )
    states = []
    for steps in (0, 400, 20_000):
        run = train_ensemble(statistics, (1, 1, 1), init=initial, lr=5e-3, steps=steps)
        states += diagnosis.diagnose(statistics, run.weights, run.biases, tol=1e-9).state.tolist()
    gaps = train_ensemble(
        statistics, (1, 1, 1), init=initial, lr=5e-3, steps=20_000, checkpoints=1000
    )
    between = int(gaps.steps[np.flatnonzero(gaps.gap[0] < 0.1)[0]])
    run = train_ensemble(statistics, (1, 1, 1), init=initial, lr=5e-3, steps=between)
    states += diagnosis.diagnose(statistics, run.weights, run.biases, tol=1e-9).state.tolist()
    assert states == ["saddle", "saddle", "converged", "undertrained"]


def test_overshooting_is_no_saddle() -> None:
    """Above the solution the flat directions curve down a little; the way to the solution is
    steeper.
    """
    line = SufficientStatistics.from_data([[[-1.0], [1.0]]], [[-1.0, 1.0]])
    layer = np.full((1, 1, 1), 1.2)
    found = diagnosis.diagnose(line, [layer, layer], tol=1e-9)
    assert found.smallest[0] < 0
    assert found.state.tolist() == ["undertrained"]


def test_a_step_too_large_diverges() -> None:
    X, y = data(np.random.default_rng(0), 4, 2, 1)
    statistics = SufficientStatistics.from_data(X, y)
    run = train_ensemble(statistics, (3, 3), lr=10.0, steps=200)
    found = diagnosis.diagnose(statistics, run.weights, run.biases, tol=1e-9)
    assert run.diverged.all()
    assert (found.state == "diverged").all()
    assert np.isnan(found.smallest).all()
    nothing = [np.full((4, 1, 2), np.nan)]
    assert (diagnosis.diagnose(statistics, nothing, tol=1e-9).state == "diverged").all()


def test_weights_of_another_net() -> None:
    X, y = data(np.random.default_rng(0), 4, 2, 1)
    with pytest.raises(ShapeError, match="4 runs, from 2 inputs to 1 outputs"):
        diagnosis.diagnose(SufficientStatistics.from_data(X, y), [np.ones((4, 1, 3))], tol=1e-9)
