"""The simulators of linear networks against each other: one convention for the learning rate."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectilinear.deeplinear import (
    Model,
    SufficientStatistics,
    Synthetic,
    descend,
    factorised,
    initial_weights,
    mode_flow,
    regression,
    train_ensemble,
    two_layer_flow,
)
from rectilinear.deeplinear.study.measure import measure
from rectilinear.learning import (
    Moments,
    deep_mode_solution,
    linear_network_descent,
    linear_network_flow,
    riccati_solution,
)


def both(
    X: np.ndarray,
    Y: np.ndarray,
    weights: list[np.ndarray],
    lr: float,
    steps: list[int],
    **options: object,
) -> tuple[np.ndarray, np.ndarray]:
    """The maps ``(T, m, d)`` after these steps, by each."""
    sizes = [w.shape[0] for w in weights[:-1]]
    run = train_ensemble(
        SufficientStatistics.from_data(X, Y), sizes, init=(tuple(weights), ()), lr=lr, steps=steps[-1],
        checkpoints=steps, bias=False, **options,
    )  # fmt: skip
    data = Moments.of(torch.from_numpy(X), torch.from_numpy(Y))
    at = run.steps.tolist()
    return run.coef, linear_network_descent(
        at, [torch.from_numpy(w) for w in weights], data, lr
    ).numpy()


@pytest.mark.parametrize("outputs", [1, 3])
def test_one_step_of_a_quarter_from_zero(outputs: int) -> None:
    X, Y = np.array([[1.0], [-1.0]]), np.array([[1.0], [-1.0]]) * np.ones(outputs)
    for maps in both(X, Y, [np.zeros((outputs, 1))], 0.25, [1]):
        np.testing.assert_array_equal(maps[-1], np.full((outputs, 1), 0.25))


@pytest.mark.parametrize("compiled", [False, None])
@given(
    st.lists(st.integers(1, 5), max_size=3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 400),
    st.floats(1e-4, 0.02), st.integers(0, 99),
)  # fmt: skip
@settings(deadline=None, max_examples=10)
def test_all_simulators_agree(
    compiled: bool | None, widths: list[int], d: int, m: int, steps: int, lr: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, d))
    Y = X @ rng.normal(size=(d, m)) + rng.normal(size=(30, m))
    weights = list(initial_weights("torch", (d, *widths, m), bias=False, seed=seed)[0])
    ours, theirs = both(X, Y, weights, lr, [1, steps], compiled=compiled)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    # and a step of autograd on half the square error
    layers = [torch.from_numpy(w.copy()).requires_grad_() for w in weights]
    out = torch.from_numpy(X)
    for layer in layers:
        out = out @ layer.mT
    ((out - torch.from_numpy(Y)).square().sum() / (2 * len(X))).backward()
    product = torch.eye(d, dtype=torch.float64)
    for layer in layers:
        product = (layer - lr * layer.grad) @ product
    np.testing.assert_allclose(ours[1], product.detach(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam"])
def test_models_of_a_study_step_on_the_mean_square_error(optimizer: str) -> None:
    """As ``torch.nn.MSELoss`` does, whatever the engine counts on."""
    batch = Synthetic(noise=(0.1,), rows=20, test_rows=5).draw(
        np.random.SeedSequence(0), range(1), rows=True
    )
    model = Model(depth=1, init="identity", optimizer=optimizer, lr=0.01)
    found = measure(model, batch, steps=2, tol=1e-9, checkpoints=2, seed=np.random.SeedSequence(0))
    X, y, inside, _ = (torch.from_numpy(np.array(a)) for a in batch.rows)
    X, y = X[0][inside[0] > 0], y[0][inside[0] > 0]
    net = torch.nn.Linear(1, 1, dtype=torch.float64)
    torch.nn.init.ones_(net.weight), torch.nn.init.zeros_(net.bias)
    rule = {
        "gd": lambda p: torch.optim.SGD(p, lr=0.01),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    }[optimizer](net.parameters())
    for _ in range(2):
        rule.zero_grad()
        torch.nn.functional.mse_loss(net(X)[:, 0], y).backward()
        rule.step()
    loss = torch.nn.functional.mse_loss(net(X)[:, 0], y).item()
    assert found["train_error"][0] == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("lam", [0.0, 0.7])
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_closed_forms_of_both_packages_agree(scale: float, lam: float) -> None:
    rng = np.random.default_rng(0)
    S, times = rng.normal(size=(3, 4)), np.array([0.0, 0.1, 1.0, 5.0, 300.0])
    weights = [w[0] for w in factorised(scale * rng.normal(size=(1, 3, 4)), [3], lam=lam)]
    tensors = [torch.from_numpy(a) for a in (times, *weights, S)]
    ours = two_layer_flow(weights, S, times)[0]
    np.testing.assert_allclose(ours, riccati_solution(*tensors, 1.0, lam), atol=1e-13)
    scalar = deep_mode_solution(tensors[0], 2.0, scale**0.5, 2)
    np.testing.assert_allclose(mode_flow(2.0, scale, times), scalar**2, rtol=1e-12)


def test_flows_of_both_packages_agree() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))
    weights = list(initial_weights("normal", (4, 5, 3, 2), bias=False, seed=0)[0])
    run = descend(regression(X, Y), weights, optimizer="flow", lr=0.1, steps=60, checkpoints=4)
    data = Moments.of(torch.from_numpy(X), torch.from_numpy(Y))
    layers = [torch.from_numpy(w) for w in weights]
    flow = linear_network_flow(torch.from_numpy(0.1 * run.steps), layers, data)
    theirs = flow[2] @ flow[1] @ flow[0]
    np.testing.assert_allclose(run.maps[0], theirs, rtol=1e-6, atol=1e-8)
