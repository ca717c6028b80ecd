"""Every measure against the rows themselves."""

import numpy as np
import pytest
import torch

from rectilinear.deeplinear import Model, Synthetic
from rectilinear.deeplinear.initialisation import initial_weights
from rectilinear.deeplinear.study.measure import closed_form, initial_seed, measure

STEPS, TOL = 60, 0.02
SEED = np.random.SeedSequence(7)
OPTIONS = {"steps": 300, "tol": 1e-3, "checkpoints": 10, "seed": SEED}
PROTOCOL = Synthetic(noise=(0.2,), noise_kind="constant", inputs=2, rows=40, test_rows=15)


def rows_of(batch) -> tuple[list, list]:
    X, y, inside, outside = batch.rows
    train, test = (
        [(x[m > 0], t[m > 0]) for x, t, m in zip(X, y, mask, strict=True)]
        for mask in (inside, outside)
    )
    return train, test


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam"])
def test_a_deep_linear_net_against_a_loop_over_modules(bias: bool, optimizer: str) -> None:
    model = Model(depth=3, width=2, init="torch", optimizer=optimizer, lr=0.05, bias=bias)
    batch = PROTOCOL.draw(np.random.SeedSequence(0), range(2), rows=True)
    columns = measure(model, batch, **{**OPTIONS, "steps": STEPS, "tol": TOL})
    weights, biases = initial_weights(
        "torch", (2, 2, 2, 1), (2,), bias=bias, seed=initial_seed(model, SEED)
    )
    for run, ((X, y), (X_test, y_test)) in enumerate(zip(*rows_of(batch), strict=True)):
        layers = [
            torch.nn.Linear(w.shape[2], w.shape[1], bias=bias, dtype=torch.float64) for w in weights
        ]
        net = torch.nn.Sequential(*layers)
        with torch.no_grad():
            for i, layer in enumerate(layers):
                layer.weight.copy_(torch.from_numpy(weights[i][run]))
                if bias:
                    layer.bias.copy_(torch.from_numpy(biases[i][run]))
        opt = {
            "gd": lambda p: torch.optim.SGD(p, lr=0.05),
            "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
            "adam": lambda p: torch.optim.Adam(p, lr=0.05),
        }[optimizer](net.parameters())
        inputs, targets, hit = torch.from_numpy(X), torch.from_numpy(y)[:, None], None
        design = np.column_stack([X, np.ones(len(X))]) if bias else X
        solution = np.linalg.lstsq(design, y, rcond=None)[0]
        best = np.square(design @ solution - y).mean()
        for step in range(STEPS + 1):
            loss = torch.nn.functional.mse_loss(net(inputs), targets)
            if hit is None and loss.item() - best <= TOL:
                hit = step
            if step < STEPS:
                opt.zero_grad()
                loss.backward()
                opt.step()
        with torch.no_grad():
            test = torch.nn.functional.mse_loss(
                net(torch.from_numpy(X_test)), torch.from_numpy(y_test)[:, None]
            )
            slope = (
                net(torch.eye(2, dtype=torch.float64))[:, 0]
                - net(torch.zeros(1, 2, dtype=torch.float64))[0]
            )
            offset = net(torch.zeros(1, 2, dtype=torch.float64))[0, 0].item()
        wrong = np.abs(slope.numpy() - solution[:2]).sum() + abs(
            offset - (solution[2] if bias else 0.0)
        )
        assert columns["train_error"][run] == pytest.approx(loss.item(), rel=1e-9)
        assert columns["test_error"][run] == pytest.approx(test.item(), rel=1e-9)
        assert columns["gap"][run] == pytest.approx(loss.item() - best, rel=1e-6, abs=1e-12)
        assert columns["distance"][run] == pytest.approx(wrong, rel=1e-7)
        assert columns["curve"][run, -1] == pytest.approx(wrong, rel=1e-7)
        assert columns["reached"][run] == (hit is not None)
        assert columns["steps"][run] == (STEPS if hit is None else hit)


@pytest.mark.parametrize("bias", [True, False])
def test_relu_nets_against_a_loop_over_modules(bias: bool) -> None:
    model = Model("relu", depth=3, width=4, init="torch", optimizer="adam", lr=0.02, bias=bias)
    batch = PROTOCOL.draw(np.random.SeedSequence(0), range(2), rows=True)
    columns = measure(model, batch, **{**OPTIONS, "steps": 40})
    weights, biases = initial_weights(
        "torch", (2, 4, 4, 1), (2,), bias=bias, seed=initial_seed(model, SEED)
    )
    for run, ((X, y), (X_test, y_test)) in enumerate(zip(*rows_of(batch), strict=True)):
        layers = [
            torch.nn.Linear(w.shape[2], w.shape[1], bias=bias, dtype=torch.float64) for w in weights
        ]
        with torch.no_grad():
            for i, layer in enumerate(layers):
                layer.weight.copy_(torch.from_numpy(weights[i][run]))
                if bias:
                    layer.bias.copy_(torch.from_numpy(biases[i][run]))
        net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
        opt = torch.optim.Adam(net.parameters(), lr=0.02)
        for step in range(41):
            loss = torch.nn.functional.mse_loss(
                net(torch.from_numpy(X)), torch.from_numpy(y)[:, None]
            )
            if step < 40:
                opt.zero_grad()
                loss.backward()
                opt.step()
        test = torch.nn.functional.mse_loss(
            net(torch.from_numpy(X_test)), torch.from_numpy(y_test)[:, None]
        )
        assert columns["train_error"][run] == pytest.approx(loss.item(), rel=1e-9)
        assert columns["test_error"][run] == pytest.approx(test.item(), rel=1e-9)
        assert np.isnan(columns["distance"][run])


def test_closed_forms() -> None:
    batch = PROTOCOL.draw(np.random.SeedSequence(0), range(3), rows=True)
    coef, intercept = closed_form(Model("ridge", penalty=2.0), batch.train)
    for run, (X, y) in enumerate(rows_of(batch)[0]):
        centred = X - X.mean(0)
        by_hand = np.linalg.solve(centred.T @ centred + 2 * np.eye(2), centred.T @ (y - y.mean()))
        np.testing.assert_allclose(coef[run, 0], by_hand, rtol=1e-10)
        assert intercept[run, 0] == pytest.approx(y.mean() - X.mean(0) @ by_hand)
    best = measure(Model("least_squares"), batch, **OPTIONS)
    assert best["success"].all()
    assert best["gap"].max() < 1e-28
    np.testing.assert_allclose(best["ratio"], 1)
    bare = closed_form(Model("ridge", penalty=0.0, bias=False), batch.train)
    np.testing.assert_allclose(bare[0], batch.train.least_squares(bias=False).coef, rtol=1e-9)
    assert not bare[1].any()


def test_more_columns_than_rows() -> None:
    """Least squares of smallest norm; a network from small weights reaches zero training error too."""
    batch = Synthetic(noise=(0.1,), noise_kind="constant", inputs=12, rows=6).draw(
        np.random.SeedSequence(0), range(4)
    )
    best = measure(Model("least_squares"), batch, **OPTIONS)
    net = measure(
        Model(depth=2, width=4, init="zero_last", lr=0.02), batch, **{**OPTIONS, "steps": 3000}
    )
    assert best["train_error"].max() < 1e-20
    assert net["success"].all()
    assert np.isfinite(net["test_error"]).all()


def test_predictions_are_for_chains_that_descend() -> None:
    line = Synthetic(noise=(0.1,), rows=50).draw(np.random.SeedSequence(0), range(3))
    known = {"gd": True, "momentum": True, "adam": False}
    for optimizer, is_known in known.items():
        columns = measure(Model(depth=4, optimizer=optimizer), line, **OPTIONS)
        assert np.isfinite(columns["predicted"]).all() == is_known
    slow, fast = (
        measure(Model(depth=4, optimizer=o), line, **OPTIONS)["predicted"]
        for o in ("gd", "momentum")
    )
    np.testing.assert_allclose(slow, 10 * fast)
    for model in (Model(depth=2), Model(depth=4, width=2), Model(depth=4, init="zero_last")):
        assert np.isnan(measure(model, line, **OPTIONS)["predicted"]).all()


def test_a_step_too_large_is_called_diverged() -> None:
    line = Synthetic(noise=(0.1,), rows=50).draw(np.random.SeedSequence(0), range(5))
    columns = measure(Model(depth=4, lr=50.0), line, **OPTIONS)
    gone = columns["state"] == "diverged"
    assert gone.any()
    assert np.isinf(columns["test_error"][gone]).all()
    assert not columns["success"][gone].any()
