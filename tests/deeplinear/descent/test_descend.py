"""The engine of linear networks along the way, against closed forms, autograd and other code."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from rectilinear.deeplinear import (
    SufficientStatistics,
    aligned_map,
    chain,
    chain_sharpness,
    classification,
    completion,
    descend,
    diagonal,
    diagonal_init,
    diagonal_limit,
    factorised,
    initial_weights,
    mode_flow,
    regression,
    sensing,
    train_ensemble,
    two_layer_flow,
)
from rectilinear.deeplinear.descent.measures import MEASURES
from rectilinear.errors import ConfigError, InputError, ShapeError

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("rewound")


def white(n: int, d: int) -> np.ndarray:
    """Inputs whose second moments are the identity."""
    return np.linalg.qr(RNG.normal(size=(n, d)))[0] * n**0.5


def test_it_is_the_ensemble_without_biases() -> None:
    X, y = RNG.normal(size=(3, 30, 4)), RNG.normal(size=(3, 30, 2))
    layers = initial_weights("normal", (4, 5, 2), (3,), bias=False, seed=1)
    options = {"lr": 0.05, "steps": 60, "checkpoints": [10, 60]}
    theirs = train_ensemble(
        SufficientStatistics.from_data(X, y), (5,), init=layers, bias=False, **options
    )
    ours = descend(regression(X, y), layers[0], **options)
    np.testing.assert_allclose(ours.maps, theirs.coef, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-10)


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam"])
@pytest.mark.parametrize("kind", ["logistic", "cross_entropy"])
def test_steps_are_those_of_torch(optimizer: str, kind: str) -> None:
    X, labels = RNG.normal(size=(20, 3)), np.arange(20) % (2 if kind == "logistic" else 3)
    layers = initial_weights("normal", (3, 4, 1 if kind == "logistic" else 3), bias=False)[0]
    nets = [nn.Parameter(torch.from_numpy(w.copy())) for w in layers]
    rule = {
        "gd": torch.optim.SGD(nets, lr=0.1, weight_decay=0.01),
        "momentum": torch.optim.SGD(nets, lr=0.1, momentum=0.9, weight_decay=0.01),
        "adam": torch.optim.Adam(nets, lr=0.1, weight_decay=0.01),
    }[optimizer]
    x, t = torch.from_numpy(X), torch.from_numpy(labels)
    for _ in range(12):
        rule.zero_grad()
        out = x @ nets[0].T @ nets[1].T
        if kind == "logistic":
            nn.functional.binary_cross_entropy_with_logits(out[:, 0], t.double()).backward()
        else:
            nn.functional.cross_entropy(out, t).backward()
        rule.step()
    run = descend(
        classification(X, labels), layers, optimizer=optimizer, lr=0.1, steps=12, weight_decay=0.01
    )
    for ours, theirs in zip(run.layers, nets, strict=True):
        np.testing.assert_allclose(ours[0], theirs.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.whole
def test_aligned_modes_follow_saxe() -> None:
    X, S = white(40, 3), np.diag([3.0, 2.0, 1.0])
    layers = factorised(aligned_map(S, 1e-3), [3], seed=1)
    run = descend(
        regression(X, X @ S.T), layers, optimizer="flow", lr=0.01, steps=600, checkpoints=30
    )
    expected = mode_flow([3.0, 2.0, 1.0], 1e-3, 0.01 * run.steps)
    np.testing.assert_allclose(run.measure("singular_values")[0].T, expected, rtol=1e-6)
    np.testing.assert_allclose(run.measure("balancedness"), 0, atol=1e-9)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("lam", "shape"), [(0.0, (3, 4)), (0.5, (3, 4)), (-0.5, (3, 4)), (2.0, (4, 3))]
)
def test_two_layers_of_any_alignment_follow_their_closed_form(lam: float, shape: tuple) -> None:
    m, d = shape
    X, S = white(50, d), RNG.normal(size=shape)
    layers = factorised(0.1 * RNG.normal(size=(2, m, d)), [3], lam=lam, seed=2)
    gap = layers[1].mT @ layers[1] - layers[0] @ layers[0].mT
    np.testing.assert_allclose(gap, np.broadcast_to(lam * np.eye(3), gap.shape), atol=1e-12)
    run = descend(
        regression(X, X @ S.T), layers, optimizer="flow", lr=0.02, steps=300, checkpoints=20
    )
    expected = two_layer_flow(layers, S, 0.02 * run.steps)
    np.testing.assert_allclose(run.maps, expected, atol=1e-7)
    late = two_layer_flow(layers, S, [5.0, 300.0])[:, 1]
    np.testing.assert_allclose(late, np.broadcast_to(S, late.shape), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_diagonal_networks_find_the_solution_of_their_scale(depth: int) -> None:
    X, w = RNG.normal(size=(4, 8)), np.zeros(8)
    w[:2] = 1.0, -1.0
    scales = np.array([0.05, 0.5, 2.0] if depth == 2 else [0.05, 0.2, 0.5])
    run = descend(
        regression(X, X @ w), diagonal_init(8, scales), diagonal(depth), optimizer="flow",
        lr=0.2, steps=3000, checkpoints=2, measures=["loss"],
    )  # fmt: skip
    assert run.loss[:, -1].max() < 1e-10
    for scale, found in zip(scales, run.maps[:, -1, 0], strict=True):
        np.testing.assert_allclose(found, diagonal_limit(X, X @ w, scale, depth), atol=1e-4)


def test_sharpness_is_the_largest_eigenvalue_of_the_hessian() -> None:
    X, y = RNG.normal(size=(12, 3)), RNG.normal(size=(12, 2))
    layers = initial_weights("normal", (3, 3, 2), (2,), bias=False)[0]
    run = descend(regression(X, y), layers, steps=0, weight_decay=0.1)
    for r in range(2):
        flat = torch.from_numpy(np.concatenate([w[r].ravel() for w in layers]))
        hessian = torch.autograd.functional.hessian(lambda theta: by_hand(theta, X, y), flat)
        top = torch.linalg.eigvalsh(hessian)[-1]
        assert run.measure("sharpness")[r, 0] == pytest.approx(float(top), rel=1e-8)


def by_hand(theta: torch.Tensor, X: np.ndarray, y: np.ndarray) -> torch.Tensor:
    """The loss of layers ``(3, 3)`` and ``(2, 3)`` with weight decay, of all parameters in a row."""
    a, b = theta.split([9, 6])
    out = torch.from_numpy(X) @ (b.reshape(2, 3) @ a.reshape(3, 3)).T
    return (out - torch.from_numpy(y)).square().sum(1).mean() / 2 + 0.05 * theta @ theta


@pytest.mark.parametrize("depth", [2, 4])
def test_chains_end_at_the_sharpness_of_their_closed_form(depth: int) -> None:
    weights = np.exp(RNG.normal(size=(5, depth)) * 0.3)
    layers = [w.reshape(5, 1, 1) for w in weights.T]
    run = descend(
        regression([[1.0]], [1.5]), layers, optimizer="flow", lr=0.1, steps=200, checkpoints=2
    )
    expected = chain_sharpness(weights, 1.5)
    np.testing.assert_allclose(run.measure("sharpness")[:, -1], expected, rtol=1e-5)


def test_measures_by_hand() -> None:
    W1, W2 = np.diag([2.0, 1.0]), np.diag([3.0, 0.0])
    run = descend(completion(np.eye(2), np.ones((2, 2))), (W1, W2), steps=0)
    assert set(run.measures) == set(MEASURES)
    np.testing.assert_allclose(run.measure("singular_values")[0, 0], [6, 0], atol=1e-12)
    np.testing.assert_allclose(run.measure("balancedness")[0, 0], [np.hypot(5, 1)])
    np.testing.assert_allclose(run.measure("alignment")[0, 0], [1])
    np.testing.assert_allclose(run.measure("effective_rank")[0, 0], 1, atol=1e-9)
    assert run.loss[0, 0] == pytest.approx((25 + 1) / 8)


def test_sensing_and_completion_are_rows_in_other_words() -> None:
    M, layers = RNG.normal(size=(3, 2)), factorised(RNG.normal(size=(3, 2)), [2])
    basis = np.eye(6).reshape(6, 3, 2)
    a = descend(sensing(basis, M.ravel()), layers, steps=5, lr=0.3)
    b = descend(completion(M, np.ones((3, 2))), layers, steps=5, lr=0.3)
    c = descend(regression(np.eye(2), M.T), layers, steps=5, lr=0.1)  # sums over three outputs
    np.testing.assert_allclose(a.maps, b.maps, rtol=1e-12)
    np.testing.assert_allclose(a.maps, c.maps, rtol=1e-12)


def test_lbfgs_ends_where_a_convex_problem_ends() -> None:
    """Logistic loss with weight decay, one layer: the optimum of scipy, in each of three runs."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(3, 40, 5)) * np.geomspace(1, 30, 5)
    labels = np.arange(40) % 2
    start = [rng.normal(size=(3, 1, 5))]
    task = classification(X, np.tile(labels, (3, 1)))
    options = {"optimizer": "lbfgs", "steps": 80, "lr": 1e-3, "weight_decay": 0.1}
    run = descend(task, start, checkpoints=list(range(81)), measures=["loss"], **options)
    signs = 2.0 * labels - 1
    for i in range(3):

        def value(w: np.ndarray, i: int = i) -> float:
            return np.logaddexp(0, -signs * (X[i] @ w)).mean() + 0.05 * w @ w

        best = minimize(value, np.zeros(5), method="BFGS", options={"gtol": 1e-10})
        np.testing.assert_allclose(run.maps[i, -1, 0], best.x, atol=1e-6)
        falls = [value(w) for w in run.maps[i, :, 0]]
        assert np.diff(falls).max() <= 1e-15
        alone = descend(classification(X[i], labels), [start[0][i]], measures=["loss"], **options)
        np.testing.assert_allclose(alone.maps[0, -1], run.maps[i, -1], atol=1e-7)


def test_lbfgs_of_deep_chains_needs_few_steps() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60, 4)) * [1, 1, 0.1, 0.03]  # of condition 1,000
    y = X @ rng.normal(size=(4, 2))
    layers = initial_weights("normal", (4, 4, 4, 2), (6,), bias=False, seed=3)[0]
    task = regression(X, y)
    ends = {
        rule: descend(task, layers, optimizer=rule, lr=0.1, steps=200, measures=["loss"])
        for rule in ("gd", "lbfgs")
    }
    assert ends["lbfgs"].loss[:, -1].max() < 1e-8
    assert ends["gd"].loss[:, -1].min() > 1e-5


def test_minibatches_and_label_noise_are_unbiased_and_seeded() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 2)), rng.normal(size=10)
    layers = (np.zeros((4000, 1, 2)),)
    full = descend(regression(X, y), layers[0][:1][None], steps=1, lr=0.1, measures=["loss"])
    for options in ({"batch": 3}, {"label_noise": 0.5}):
        run = descend(regression(X, y), layers, steps=1, lr=0.1, measures=["loss"], **options)
        steps = run.maps[:, -1, 0]
        assert steps.std(0).min() > 0.01
        np.testing.assert_allclose(steps.mean(0), full.maps[0, -1, 0], atol=0.01)
        again = descend(regression(X, y), layers, steps=1, lr=0.1, measures=["loss"], **options)
        np.testing.assert_array_equal(again.maps, run.maps)
    whole = descend(regression(X, y), layers[0][:1][None], steps=1, lr=0.1, batch=10)
    np.testing.assert_allclose(whole.maps, full.maps, rtol=1e-12)


def test_runs_do_not_mix_and_one_may_diverge() -> None:
    X, y = RNG.normal(size=(10, 2)), RNG.normal(size=10)
    layers = initial_weights("normal", (2, 3, 1), (3,), bias=False)[0]
    run = descend(regression(X, y), layers, lr=np.array([0.01, 50.0, 0.02]), steps=60)
    assert run.diverged.tolist() == [False, True, False]
    alone = descend(regression(X, y), [w[2:] for w in layers], lr=0.02, steps=60)
    np.testing.assert_allclose(run.loss[2], alone.loss[0], rtol=1e-12)
    assert np.isnan(run.measure("sharpness")[1, -1])


def test_single_precision_and_a_schedule() -> None:
    X, y = RNG.normal(size=(10, 2)), RNG.normal(size=10)
    layers = initial_weights("normal", (2, 3, 1), bias=False)[0]
    runs = [
        descend(regression(X, y), layers, lr=0.05, steps=50, dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    ]
    np.testing.assert_allclose(runs[0].maps, runs[1].maps, atol=1e-5)
    stopped = descend(
        regression(X, y), layers, lr=0.05, steps=50, checkpoints=[20],
        schedule=lambda step: float(step < 20),
    )  # fmt: skip
    np.testing.assert_array_equal(stopped.maps[0, 1], stopped.maps[0, 2])


def test_frame_and_figure() -> None:
    task = completion(np.eye(2), np.ones((2, 2)))
    run = descend(task, factorised(np.full((3, 2, 2), 0.1), [2]), steps=10, checkpoints=4)
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = run.to_frame()
    assert len(frame) == 3 * len(run.steps)
    assert {"run", "step", "loss", "singular_values_2", "balancedness_1"} <= set(frame)
    assert frame["singular_values_1"][len(run.steps)] == run.measure("singular_values")[1, 0, 0]
    assert len(run.figure(run=1).axes) == 4


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"lr": 0.0}, ConfigError, "lr"),
        ({"optimizer": "sgd"}, ConfigError, "optimizer"),
        ({"batch": 11}, ConfigError, "1 to 10 measurements"),
        ({"batch": 2, "optimizer": "flow"}, ConfigError, "optimizer='flow'"),
        ({"schedule": lambda step: 0.5, "optimizer": "lbfgs"}, ConfigError, "schedule"),
        ({"measures": ["rank"]}, ConfigError, "measures"),
        ({"checkpoints": [7], "steps": 5}, ConfigError, "steps from 0 to 5"),
        ({"lr": np.ones(3)}, ShapeError, r"one number of runs.*np\.tile\(lr, len\(layer\)\)"),
    ],
)
def test_settings_that_are_none(options: dict, error: type, said: str) -> None:
    task = regression(RNG.normal(size=(10, 2)), RNG.normal(size=10))
    layers = initial_weights("normal", (2, 3, 1), (2,), bias=False)[0]
    with pytest.raises(error, match=said):
        descend(task, layers, **options)


def test_layers_that_do_not_fit() -> None:
    task = regression(RNG.normal(size=(10, 2)), RNG.normal(size=10))
    with pytest.raises(ShapeError, match="fit the task"):
        descend(task, [np.ones((1, 3, 2)), np.ones((1, 2, 3))], chain)
    with pytest.raises(ShapeError, match="bias=False"):
        descend(task, initial_weights("normal", (2, 3, 1)))
    with pytest.raises(InputError, match="one hidden layer"):
        factorised(np.eye(2), [2, 2], lam=1.0)
    with pytest.raises(InputError, match="multiple of the identity"):
        two_layer_flow((np.eye(2), np.diag([1.0, 3.0])), np.eye(2), [1.0])
    with pytest.raises(ShapeError, match="a mask of shape"):
        completion(np.eye(2), np.ones(2))
    with pytest.raises(InputError, match=r"without entries.*each run\.$"):
        completion(np.eye(2), np.zeros((2, 2)))


def test_layers_and_rates_are_crossed_as_the_error_says() -> None:
    task, lr = regression(RNG.normal(size=(10, 2)), RNG.normal(size=10)), np.array([0.1, 0.2, 0.3])
    layers = initial_weights("normal", (2, 3, 1), (2,), bias=False)[0]
    crossed = [np.repeat(layer, len(lr), 0) for layer in layers]
    run = descend(task, crossed, lr=np.tile(lr, len(layers[0])), steps=5)
    one = descend(task, [layer[1:] for layer in layers], lr=0.3, steps=5)
    np.testing.assert_allclose(run.maps[5], one.maps[0])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: regression(np.ones(4), np.ones(4)), r"X\[:, None\]"),
        (lambda: regression(np.ones((2, 4)), np.ones(4)), r"Write X\.T"),
        (lambda: regression(np.ones((4, 2)), np.ones(5)), r"or not\.$"),
        (lambda: regression([["a"], ["b"]], [1.0, 2.0]), "Encode text as numbers"),
        (lambda: sensing(np.ones((2, 3)), np.ones(1)), r"matrices\[None\]"),
        (lambda: factorised(np.ones(3), [2]), r"maps\[None\]"),
        (lambda: two_layer_flow([np.eye(2)] * 3, np.eye(2), [1.0]), "optimizer='flow'"),
        (lambda: chain_sharpness([1.0, 2.0], 1.0), r"weights\[None\]"),
        (lambda: chain_sharpness([[-1.0, -2.0]], 1.0), "absolute values"),
        (lambda: diagonal_limit(np.ones((1, 2)), np.ones(1), 1.0, depth=1), "'minimum_norm'"),
    ],
)
def test_errors_of_data_and_layers_say_what_to_write(make: Callable, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


def test_errors_of_runs_and_labels_say_what_to_do() -> None:
    mask = np.array([np.ones((2, 2)), np.zeros((2, 2))], dtype=bool)
    matrix = np.ones((2, 2, 2))
    with pytest.raises(InputError, match=r"kept = mask\.any"):
        completion(matrix, mask)
    kept = mask.any((-2, -1))
    assert completion(matrix[kept], mask[kept]).runs == (1,)
    task = classification(RNG.normal(size=(10, 2)), [0, 1] * 5)
    with pytest.raises(ConfigError, match=r"make the task with regression"):
        descend(task, factorised(np.ones((1, 2)), [2]), label_noise=0.1)
