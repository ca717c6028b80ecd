"""The GPU against the CPU: every operator, network and verb gives the same numbers, on the device
that it was given.

Skipped without CUDA. ``RECTILINEAR_TEST_DEVICE=cpu`` runs the same comparisons of the CPU with
itself.
"""

from __future__ import annotations

import os
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

import rectilinear as rl
import rectilinear.operators as op
from makers_data import every, rand
from makers_invertible import BLOCKS, IMAGE_NETWORKS, VECTOR_NETWORKS
from makers_operators import BATCHED, OPERATORS, RECTANGULAR, REGULAR, TIME_VARYING
from makers_zoo import ZOO
from rectilinear import metrics
from rectilinear.errors import RectilinearError
from rectilinear.flow import LinearFlow, collapse, inversion, sample
from rectilinear.flow.collapse import propagate
from rectilinear.operators import (
    eig,
    expm,
    logdet,
    logm,
    pinv,
    project_null,
    project_range,
    solve,
    svd,
    to_dense,
)
from rectilinear.projector import CORRUPTIONS, Projector, Selection, corrupt
from rectilinear.style import new_model
from rectilinear.tensor_files import load_tensors
from rectilinear.training import TrainConfig, train

DEVICE = torch.device(os.environ.get("RECTILINEAR_TEST_DEVICE", "cuda"))
pytestmark = [
    pytest.mark.skipif(
        DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="no CUDA device"
    ),
    pytest.mark.filterwarnings("ignore::rectilinear.errors.StructureWarning"),
]
CLOSE = 1e-9  # float64, condition numbers of a thousand at most
ALL = (OPERATORS, RECTANGULAR, BATCHED)


def same(there: torch.Tensor, here: torch.Tensor, close: float = CLOSE) -> None:
    """The same numbers, and those of the GPU are still there."""
    assert there.device.type == DEVICE.type
    assert there.shape == here.shape
    got, expected = there.detach().cpu(), here.detach()
    finite = expected.isfinite()
    assert torch.equal(got[~finite], expected[~finite])
    size = 1 + float(expected[finite].abs().max()) if bool(finite.any()) else 1.0
    assert bool(((got - expected)[finite].abs() <= close * size).all())


VERBS = {
    "dense": to_dense,
    "adjoint": lambda a: to_dense(a.T),
    "svdvals": op.svdvals,
    "svd": lambda a: to_dense(svd(a).u) * svd(a).s[..., None, :] @ to_dense(svd(a).v).mT,
    "pinv": lambda a: to_dense(pinv(a)),
    "range": lambda a: to_dense(project_range(a)),
    "null": lambda a: to_dense(project_null(a)),
    "norm": op.norm,
    "gram": lambda a: to_dense(a.T @ a),
    "double": lambda a: to_dense(a + 2 * a),
    "truncate": lambda a: op.svdvals(
        op.truncate(a, 1)
    ),  # the operator itself is one of many at ties
}
SQUARE = {
    "power": lambda a: to_dense(a**3),
    "expm": lambda a: to_dense(expm(a, 0.5)),
    "logdet": logdet,
}
REGULAR_VERBS = {
    "root": lambda a: to_dense(a**0.5),
    "logm": lambda a: to_dense(logm(a)),
    "inverse": lambda a: to_dense(a**-1),
    "solve": lambda a: solve(a, rand(3, a.in_dim).to(a.like)),
    "eig": lambda a: (
        torch.linalg.eigvals(to_dense(a)).abs().sort().values - eig(a).values.abs().sort().values
    ),
}


def compare(make, verbs: dict) -> None:
    here = make()
    there = deepcopy(here).to(DEVICE)
    for name, verb in verbs.items():
        try:
            expected = verb(here)
        except RectilinearError as refused:
            with pytest.raises(type(refused)):
                verb(there)
            continue
        try:
            same(verb(there), expected)
            same(to_dense(there), to_dense(here))  # no verb writes over its operator
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


@every(*ALL)
def test_operators(make) -> None:
    compare(make, VERBS)


@every(OPERATORS)
def test_square_operators(make) -> None:
    compare(make, SQUARE)


@every(REGULAR)
def test_regular_operators(make) -> None:
    compare(make, REGULAR_VERBS)


@every(TIME_VARYING)
def test_families_collapse(make) -> None:
    here = make()
    there = deepcopy(here).to(DEVICE)
    for method in ("euler", "rk4", "magnus4"):
        one, two = (op.to_dense(propagate(w, 8, method).operator) for w in (there, here))
        same(one, two)


@every(VECTOR_NETWORKS, IMAGE_NETWORKS, BLOCKS)
def test_networks(make) -> None:
    here = make()
    there, x = deepcopy(here).to(DEVICE), rand(7, *here.shape)
    z, logdet_here = here.forward_and_logdet(x)
    z_there, logdet_there = there.forward_and_logdet(x.to(DEVICE))
    same(z_there, z)
    same(logdet_there, logdet_here)
    same(there.inverse(z_there), x, 1e-7)


@every(VECTOR_NETWORKS)
def test_linearizers(make) -> None:
    g = make()
    weight = torch.eye(g.dim, dtype=torch.float64) + 0.2 * rand(g.dim, g.dim, seed=1) / g.dim**0.5
    here = rl.Linearizer(g, op.Dense(weight=weight))
    there, x = deepcopy(here).to(DEVICE), rand(5, g.dim, seed=2)
    for verb in (
        lambda f: f,
        pinv,
        lambda f: f**3,
        lambda f: f @ f,
        lambda f: op.truncate(f, 2),
        lambda f: 2 * f,
    ):
        same(verb(there)(x.to(DEVICE)), verb(here)(x), 1e-6)
    same(rl.svd(there).right_points(2), rl.svd(there).right_points(2).cpu(), 1e-6)


@pytest.mark.parametrize("make", [make for *_, make in ZOO], ids=[name for name, *_ in ZOO])
def test_audits(make) -> None:
    model, x = make()
    here = rl.audit(model, x, progress=False).to_json()
    for data in (x.to(DEVICE), x):  # rows on the CPU are moved
        there = rl.audit(deepcopy(model).to(DEVICE), data, progress=False).to_json()
        assert there["verdict"]["label"] == here["verdict"]["label"]
        for key, measure in here["measures"].items():
            other = there["measures"][key]
            assert other["kind"] == measure["kind"], key
            if measure["value"] is not None and measure["value"] == measure["value"]:
                assert other["value"] == pytest.approx(measure["value"], rel=1e-3, abs=1e-6), key


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Linear(6, 12, bias=False), nn.ReLU(), nn.Linear(12, 2, bias=False))
        .double()
        .eval()
    )


def test_verbs_of_models() -> None:
    model, x = small_net(), rand(300, 6)
    there, rows = deepcopy(model).to(DEVICE), x.to(DEVICE)
    same(rl.split(there).linear(rows), rl.split(model).linear(x))
    same(rl.split(there).even(rows), rl.split(model).even(x))
    same(to_dense(rl.local_map(there, rows[0])), to_dense(rl.local_map(model, x[0])))
    same(
        rl.linearize(there, rows, blocks=["1"]).model(rows),
        rl.linearize(model, x, blocks=["1"]).model(x),
        1e-6,
    )
    deeper = (
        nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        .double()
        .eval()
    )
    same(rl.fuse(deepcopy(deeper).to(DEVICE))(rows), deeper(x))


def test_learning_is_predicted() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 40, bias=False), nn.ReLU(), nn.Linear(40, 1, bias=False)
    ).double()
    for p in model.parameters():
        p.data *= 0.01
    x = rand(100, 6)
    x = torch.cat([x, -x])
    y = x @ rand(6, 1, seed=3)
    here = rl.predict(model, x, y, lr=0.05, steps=400)
    there = rl.predict(deepcopy(model).to(DEVICE), x.to(DEVICE), y.to(DEVICE), lr=0.05, steps=400)
    assert torch.allclose(there.loss.cpu(), here.loss, rtol=1e-9)


def test_generator_collapses_inverts_and_is_saved(tmp_path) -> None:
    torch.manual_seed(0)
    g = rl.invertible.ImageFlow((1, 8, 8), blocks=4, width=8)
    velocity = rl.flow.SolvedVelocity(torch.ones(64), torch.rand(64) + 0.5)
    flow = LinearFlow(g, rl.invertible.Flatten((1, 8, 8)), velocity).double().eval()
    there, z = deepcopy(flow).to(DEVICE), rand(4, 1, 8, 8)
    with torch.no_grad():
        one, many = (
            collapse(there, steps=20, method="rk4"),
            sample(there, z.to(DEVICE), steps=20, method="rk4"),
        )
        same(one(z.to(DEVICE)), sample(flow, z, steps=20, method="rk4"), 1e-6)
        same(many, sample(flow, z, steps=20, method="rk4"), 1e-6)
        assert inversion(one, z.to(DEVICE)).error < 1e-6
    rl.save_pretrained(there, tmp_path / "model")
    back = rl.from_pretrained(tmp_path / "model")
    assert next(back.parameters()).device.type == "cpu"
    with torch.no_grad():
        assert torch.allclose(sample(back, z, steps=5), sample(flow, z, steps=5), atol=1e-6)


class Fit(nn.Module):
    """Noise, dropout and a small network."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 4))

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        noise = torch.randn_like(batch)
        return {"loss": (self.net(batch + noise) - noise).square().mean()}


def test_training_goes_on_to_the_bit_and_is_read_on_the_cpu(tmp_path) -> None:
    data = rand(200, 4).float()
    config = {
        "batch_size": 32,
        "lr": 1e-2,
        "device": str(DEVICE),
        "log_every": 5,
        "evaluate_every": 10,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(Fit(), data, TrainConfig(steps=40, **config), whole, progress=False)
    for _ in range(3):
        train(Fit(), data, TrainConfig(steps=40, **config), parts, stop_after=1e-9, progress=False)
    train(Fit(), data, TrainConfig(steps=40, **config), parts, progress=False)
    left, right = (load_tensors(folder / "checkpoint.safetensors")[0] for folder in (whole, parts))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert all(tensor.device.type == "cpu" for tensor in left.values())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_precisions(tmp_path, precision: str) -> None:
    torch.manual_seed(0)
    g = rl.invertible.ImageFlow((1, 8, 8), blocks=4, width=8)
    velocity = rl.flow.SolvedVelocity(torch.ones(64), torch.ones(64))
    flow = LinearFlow(g, rl.invertible.Flatten((1, 8, 8)), velocity)
    objective = rl.flow.objectives.likelihood(flow, 0.1)
    images, _ = rl.datasets.load("digits", "train")
    config = TrainConfig(
        steps=60, batch_size=64, lr=2e-3, device=str(DEVICE), precision=precision, evaluate_every=60
    )
    train(objective, images, config, tmp_path, progress=False)
    rows = rl.training.read_log(tmp_path)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
    x = images[:32].to(next(flow.parameters()))
    assert float((g.inverse(g(x)) - x).abs().max()) < 1e-3


def test_metrics() -> None:
    a, b = rand(300, 12), 0.5 + rand(300, 12, seed=1)
    x, y = torch.rand(6, 3, 16, 16), torch.rand(6, 3, 16, 16)
    move = lambda *values: [value.to(DEVICE) for value in values]  # noqa: E731
    assert metrics.frechet_distance(*move(a, b)) == pytest.approx(metrics.frechet_distance(a, b))
    assert metrics.sliced_wasserstein(*move(a, b)) == pytest.approx(
        metrics.sliced_wasserstein(a, b)
    )
    assert metrics.precision_recall(*move(a, b)) == metrics.precision_recall(a, b)
    assert metrics.roc(*move(a[:, 0], b[:, 0])).area == pytest.approx(
        metrics.roc(a[:, 0], b[:, 0]).area
    )
    assert metrics.normality(*move(a)).std == pytest.approx(metrics.normality(a).std)
    same(metrics.psnr(*move(x, y)), metrics.psnr(x, y), 1e-5)
    same(metrics.ssim(*move(x, y)), metrics.ssim(x, y), 1e-4)
    same(metrics.pca(*move(a))[0], metrics.pca(a)[0])


def test_projector_and_corruptions() -> None:
    torch.manual_seed(0)
    g = rl.invertible.Chain(
        rl.invertible.Flatten((1, 4, 4)), rl.invertible.VectorFlow(16, blocks=4, width=16)
    )
    f = Projector(g, Selection.leading(16, 5)).double()
    x, there = torch.rand(9, 1, 4, 4, dtype=torch.float64), deepcopy(f).to(DEVICE)
    same(there(x.to(DEVICE)), f(x))
    for kind in CORRUPTIONS:
        there_x, here_x = (
            corrupt(images, kind, 0.5, torch.Generator().manual_seed(1)).images
            for images in (x.to(DEVICE), x)
        )
        same(there_x, here_x)


def test_styles() -> None:
    model = new_model(["a", "b"], couplings=4, width=8, generator=True).double()
    for p in model.parameters():
        p.data += 0.02 * rand(*p.shape)
    x = torch.rand(3, 3, 9, 14, dtype=torch.float64)
    there = deepcopy(model).to(DEVICE)
    same(there(x.to(DEVICE), "a"), model(x, "a"), 1e-6)
    power = there.path("identity", "a", 0.3, kind="power")
    same(power(x.to(DEVICE)), model.path("identity", "a", 0.3, kind="power")(x), 1e-6)


def test_forecasts() -> None:
    data = rl.datasets.simulate_system("linear", count=10, steps=60).states
    fitted = rl.koopman.KoopmanRegressor(rank=4, horizon=20).fit(data.to(DEVICE))
    expected = rl.koopman.KoopmanRegressor(rank=4, horizon=20).fit(data)
    got, wanted = fitted.simulate(data[:, 20].to(DEVICE), 10), expected.simulate(data[:, 20], 10)
    assert np.abs(np.asarray(got) - np.asarray(wanted)).max() < 1e-6


def test_series_on_the_device_are_forecast_as_on_the_cpu() -> None:
    data = rl.datasets.simulate_system("linear", count=6, steps=40).states
    options = {"kind": "autoregression", "horizon": 5, "lags": 1}
    there, here = (rl.koopman.Forecaster(**options).fit(x) for x in (data.to(DEVICE), data))
    assert np.allclose(there.forecast(5).mean, here.forecast(5).mean)
    got = there.simulate(data[:, :1].to(DEVICE), 5)
    assert np.allclose(got, here.simulate(data[:, :1], 5))


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam", "lbfgs", "flow"])
def test_deep_linear_networks_descend_as_on_the_cpu(optimizer: str) -> None:
    from rectilinear.deeplinear import descend, regression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    task = regression(x, x @ rng.normal(size=(3, 2)))
    layers = [0.5 * rng.normal(size=(4, *shape)) for shape in ((5, 3), (2, 5))]
    options = {"optimizer": optimizer, "lr": 0.05, "steps": 30}
    here, there = (descend(task, layers, device=d, **options) for d in ("cpu", DEVICE))
    np.testing.assert_allclose(there.maps, here.maps, rtol=1e-6, atol=1e-8)
    assert here.measures.keys() == there.measures.keys()
    for name, values in here.measures.items():
        np.testing.assert_allclose(there.measures[name], values, rtol=1e-4, atol=1e-6)


def test_learned_features_come_back_to_the_cpu() -> None:
    data = rl.datasets.simulate_system("linear", count=10, steps=60).states
    fitted = rl.koopman.KoopmanRegressor(rank=4, horizon=20, width=8, epochs=1).fit(data)
    assert {p.device.type for p in fitted.model_.parameters()} == {"cpu"}
    assert np.isfinite(fitted.simulate(data[:, 20], 10)).all()
