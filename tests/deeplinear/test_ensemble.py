from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

import rectilinear.deeplinear
import references_deeplinear as reference
from rectilinear.deeplinear import SufficientStatistics, ensemble, initial_weights, train_ensemble
from rectilinear.deeplinear.ensemble import OPTIMIZERS, log_grid
from rectilinear.errors import ConfigError, MissingDependencyError, ShapeError

ARCHITECTURES = ((), (1,), (1, 1, 1), (6, 3), (10, 10, 10, 10))
ENGINES = (
    False,
    pytest.param(True, marks=pytest.mark.skipif(find_spec("numba") is None, reason="needs numba")),
)
STEPS, LR, RUNS = 300, 0.01, 40


@cache
def problem(m: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(m)
    X = 1 + rng.normal(size=(50, 3)) * [1, 2, 0.5]
    return X, X @ rng.normal(size=(3, m)) + rng.normal(size=m) + 0.3 * rng.normal(size=(50, m))


@cache
def by_autograd(
    widths: tuple[int, ...], m: int, bias: bool, optimizer: str, weighted: bool = False
) -> tuple[nn.Sequential, list[float]]:
    """The first run of :func:`initial`, trained on the rows."""
    X, Y = map(torch.from_numpy, problem(m))
    net = reference.module(*([a[0] for a in layers] for layers in initial(widths, m, bias)))
    weight = torch.arange(50, dtype=torch.float64) % 3 if weighted else None
    return net, reference.train(net, X, Y, optimizer, LR, STEPS, weight)


def initial(
    widths: tuple[int, ...], m: int, bias: bool
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    return initial_weights("torch", (3, *widths, m), (RUNS,), bias=bias, seed=1)


@pytest.mark.parametrize("compiled", ENGINES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("m", "bias"),
    [
        (1, True),
        (3, False),
        pytest.param(1, False, marks=pytest.mark.slow),
        pytest.param(3, True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("widths", ARCHITECTURES)
@pytest.mark.each_value
def test_autograd_on_the_rows(
    widths: tuple[int, ...], m: int, bias: bool, optimizer: str, compiled: bool
) -> None:
    """Relative 1e-12 after 300 steps, alone and in a batch (which lies differently in memory)."""
    statistics = SufficientStatistics.from_data(*problem(m))
    net, losses = by_autograd(widths, m, bias, optimizer)
    weights, biases = initial(widths, m, bias)
    many = train_ensemble(
        statistics,
        widths,
        init=(weights, biases),
        optimizer=optimizer,
        lr=LR,
        steps=STEPS,
        bias=bias,
        checkpoints=20,
        compiled=compiled,
    )
    one = train_ensemble(
        statistics,
        widths,
        init=([w[:1] for w in weights], [b[:1] for b in biases]),
        optimizer=optimizer,
        lr=LR,
        steps=STEPS,
        bias=bias,
        checkpoints=20,
        compiled=compiled,
    )
    coef, intercept = reference.end_to_end(net, 3)
    layers = list(net)
    for run in (many, one):
        np.testing.assert_allclose(run.loss[0], np.array(losses)[run.steps], rtol=1e-12)
        assert np.abs(run.coef[0, -1] - coef.numpy()).max() < 1e-12 * coef.abs().max()
        assert np.abs(run.intercept[0, -1] - intercept.numpy()).max() <= 1e-12 * max(
            1, intercept.abs().max()
        )
        for j, layer in enumerate(layers):
            wanted = layer.weight.detach().numpy()
            assert np.abs(run.weights[j][0] - wanted).max() < 1e-12 * np.abs(wanted).max()
            if bias:
                wanted = layer.bias.detach().numpy()
                assert np.abs(run.biases[j][0] - wanted).max() < 1e-12 * np.abs(wanted).max()


@pytest.mark.parametrize("compiled", ENGINES)
def test_autograd_on_weighted_rows(compiled: bool) -> None:
    X, Y = problem(1)
    net, losses = by_autograd((6, 3), 1, True, "adam", weighted=True)
    weights, biases = initial((6, 3), 1, True)
    run = train_ensemble(
        SufficientStatistics.from_data(X, Y, np.arange(50) % 3),
        (6, 3),
        optimizer="adam",
        lr=LR,
        steps=STEPS,
        init=([w[0] for w in weights], [b[0] for b in biases]),
        compiled=compiled,
    )
    np.testing.assert_allclose(run.loss, np.array(losses)[run.steps], rtol=1e-12)
    np.testing.assert_allclose(run.weights[0], net[0].weight.detach().numpy(), rtol=1e-11)


@pytest.mark.skipif(find_spec("numba") is None, reason="needs numba")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_kernel_and_array_code_to_the_last_bit(optimizer: str) -> None:
    """One input and one unit a layer, where both take sums in the same order; runs end at different
    steps.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 20, 1))
    statistics = SufficientStatistics.from_data(X, 2 * X[..., 0] + rng.normal(size=(150, 20)))
    kernel, array = (
        train_ensemble(
            statistics,
            (1, 1, 1),
            init="uniform",
            optimizer=optimizer,
            lr=0.02,
            steps=400,
            tol=1e-3,
            compiled=c,
        )
        for c in (True, False)
    )
    for name in ("coef", "intercept", "gap", "n_iter", "hit", "diverged"):
        np.testing.assert_array_equal(getattr(kernel, name), getattr(array, name), err_msg=name)
    assert len(np.unique(kernel.n_iter)) > 20


@pytest.mark.parametrize("compiled", ENGINES)
@pytest.mark.parametrize("widths", [(), (1, 1), (6, 3)])
def test_first_step_at_the_tolerance(widths: tuple[int, ...], compiled: bool) -> None:
    statistics = SufficientStatistics.from_data(*problem(1))
    weights, biases = initial(widths, 1, True)
    settings = {
        "init": (weights, biases),
        "lr": 0.02,
        "steps": 200,
        "checkpoints": range(200),
        "compiled": compiled,
    }
    free = train_ensemble(statistics, widths, **settings)
    tol = np.sort(free.gap[:, 190])[RUNS // 2]  # half of the runs are there at step 190
    stopped = train_ensemble(statistics, widths, tol=tol, **settings)
    marked = train_ensemble(statistics, widths, tol=tol, early_stop=False, **settings)
    there = free.gap <= tol
    first = np.where(there.any(-1), there.argmax(-1), -1)
    assert -1 in first
    assert len(np.unique(first)) > 5
    for run in (stopped, marked):
        np.testing.assert_array_equal(run.hit, first)
        np.testing.assert_array_equal(run.converged, first >= 0)
    np.testing.assert_array_equal(stopped.n_iter, np.where(first >= 0, first, 200))
    np.testing.assert_array_equal(marked.n_iter, 200)
    np.testing.assert_array_equal(marked.gap, free.gap)
    until = np.minimum(
        stopped.steps, stopped.n_iter[:, None]
    )  # later checkpoints repeat the last state
    # the batch shrinks as runs end, and with it the order in which a few sums are taken
    np.testing.assert_allclose(stopped.gap, np.take_along_axis(free.gap, until, axis=1), rtol=1e-11)
    rows = np.arange(RUNS)
    np.testing.assert_allclose(stopped.coef[:, -1], free.coef[rows, stopped.n_iter], rtol=1e-11)
    product = stopped.weights[0]
    for w in stopped.weights[1:]:
        product = w @ product
    np.testing.assert_allclose(
        product, stopped.coef[:, -1], rtol=1e-12
    )  # the weights are those of the last step


@pytest.mark.parametrize("compiled", ENGINES)
@pytest.mark.parametrize("widths", [(1, 1), (12, 12)])
def test_divergence_is_found_and_stays_alone(widths: tuple[int, ...], compiled: bool) -> None:
    statistics = SufficientStatistics.from_data(*problem(1))
    lr = np.where(np.arange(RUNS) % 3 == 0, 5.0, 1e-3)
    run = train_ensemble(statistics, widths, lr=lr, steps=100, runs=RUNS, compiled=compiled)
    np.testing.assert_array_equal(run.diverged, lr == 5)
    assert run.n_iter[0] < 20
    assert (run.n_iter[lr < 5] == 100).all()
    assert np.isfinite(run.gap[lr < 5]).all()
    alone = train_ensemble(statistics, widths, lr=1e-3, steps=100, runs=RUNS, compiled=compiled)
    np.testing.assert_allclose(run.coef[lr < 5], alone.coef[lr < 5], rtol=1e-11)


@pytest.mark.parametrize("compiled", ENGINES)
def test_everything_broadcasts(compiled: bool) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3, 30, 2)), rng.normal(size=(3, 30))
    statistics, lr = SufficientStatistics.from_data(X, y), np.array([[0.01], [0.05]])
    weights, biases = initial_weights("torch", (2, 4, 1), (3,))
    run = train_ensemble(
        statistics, (4,), init=(weights, biases), lr=lr, steps=50, checkpoints=5, compiled=compiled
    )
    assert run.coef.shape == (2, 3, len(run.steps), 1, 2)
    assert run.weights[0].shape == (2, 3, 4, 2)
    assert run.distance.shape == run.loss.shape == (2, 3, len(run.steps))
    for i in range(2):
        for j in range(3):
            one = train_ensemble(
                statistics[j],
                (4,),
                init=([w[j] for w in weights], [b[j] for b in biases]),
                lr=lr[i, 0],
                steps=50,
                checkpoints=5,
                compiled=compiled,
            )
            np.testing.assert_allclose(run.coef[i, j], one.coef, rtol=1e-11)
            np.testing.assert_allclose(run.gap[i, j], one.gap, rtol=1e-11)
            np.testing.assert_allclose(run.distance[i, j], one.distance, rtol=1e-11)
            rest = X[j] @ one.coef[-1, 0] + one.intercept[-1, 0] - y[j]
            assert one.loss[-1] == pytest.approx((rest**2).mean(), rel=1e-12)


@pytest.mark.parametrize("widths", [(1, 1), (12,)])
def test_blocks_change_nothing(widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = SufficientStatistics.from_data(*problem(1))
    settings = {
        "runs": 150,
        "lr": np.linspace(1e-3, 1e-2, 150),
        "steps": 60,
        "tol": 3.0,
        "compiled": False,
    }
    whole = train_ensemble(statistics, widths, **settings)
    monkeypatch.setattr(ensemble, "BLOCK_RUNS", 47)
    parts = train_ensemble(statistics, widths, **settings)
    np.testing.assert_allclose(parts.coef, whole.coef, rtol=1e-11)
    np.testing.assert_array_equal(parts.hit, whole.hit)


def test_converges_to_least_squares() -> None:
    X, Y = problem(3)
    run = train_ensemble(
        SufficientStatistics.from_data(X, Y),
        (3,),
        init="zero_last",
        optimizer="adam",
        lr=0.01,
        tol=1e-24,
    )
    assert run.converged
    assert run.distance[-1] < 1e-10
    assert np.all(np.diff(run.steps) > 0)


@pytest.mark.parametrize("compiled", ENGINES)
def test_a_target_of_zeros_and_no_steps(compiled: bool) -> None:
    run = train_ensemble(
        SufficientStatistics.from_data(np.eye(3), np.zeros(3)),
        (2,),
        init="zero_last",
        tol=0.0,
        steps=10,
        compiled=compiled,
    )
    assert (run.hit, run.n_iter, run.diverged) == (0, 0, False)
    run = train_ensemble(
        SufficientStatistics.from_data(np.eye(3), np.ones(3)), (2,), steps=0, compiled=compiled
    )
    np.testing.assert_array_equal(run.steps, [0])
    assert run.n_iter == 0


def test_log_grid() -> None:
    grid = log_grid(10_000, 50)
    assert (grid[0], grid[1], grid[-1]) == (0, 1, 10_000)
    assert len(grid) > 40
    np.testing.assert_array_equal(log_grid(3, 50), [0, 1, 2, 3])
    np.testing.assert_array_equal(log_grid(0), [0])


@pytest.mark.parametrize(
    "settings",
    [
        {"widths": (0,)},
        {"optimizer": "sgd"},
        {"lr": 0.0},
        {"lr": [0.1, np.nan]},
        {"steps": -1},
        {"steps": 1.5},
        {"momentum": 1.0},
        {"betas": (0.9, 1.0)},
        {"eps": 0.0},
        {"checkpoints": [5, 20], "steps": 10},
        {"init": "xavier"},
    ],
)
def test_bad_settings(settings: dict) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(settings))}"):
        train_ensemble(SufficientStatistics.from_data(np.eye(3), np.ones(3)), **settings)


def test_runs_that_do_not_broadcast() -> None:
    statistics = SufficientStatistics.from_data(np.ones((2, 3, 1)), np.ones((2, 3)))
    with pytest.raises(ShapeError, match="Give each its own axis"):
        train_ensemble(statistics, lr=[0.1, 0.2, 0.3])


def test_kernel_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rectilinear.deeplinear.engine_numba", None)
    monkeypatch.delattr(rectilinear.deeplinear, "engine_numba", raising=False)
    with pytest.raises(MissingDependencyError, match="pip install numba"):
        train_ensemble(SufficientStatistics.from_data(np.eye(3), np.ones(3)), compiled=True)
    monkeypatch.setattr(ensemble, "find_spec", lambda name: None)
    assert (
        train_ensemble(SufficientStatistics.from_data(np.eye(3), np.ones(3)), steps=1).n_iter == 1
    )


def test_kernel_without_a_folder_to_keep_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba")
    from rectilinear.deeplinear import engine_numba

    def njit(*, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function '_train': no locator available")
        return lambda function: function

    monkeypatch.setattr(numba, "njit", njit)
    assert engine_numba._jit(len) is len
