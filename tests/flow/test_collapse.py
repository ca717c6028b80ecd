import copy

import pytest
import torch

from rectilinear.errors import ConfigError, StructureError
from rectilinear.flow.collapse import propagate
from rectilinear.flow.integrate import integrate
from rectilinear.operators import Dense, Diagonal, ScalarPlusLowRank, Spectral, to_dense

KINDS = ("scalar", "low_rank", "diagonal", "spectral", "dense")


def distance(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("by_endpoint", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.each_value
def test_the_collapsed_operator_is_the_dense_product(wave, reference, method, kind, by_endpoint):
    family = wave(40, rank=1, kind=kind, by_endpoint=by_endpoint)
    operator = propagate(family, 12, method).operator
    assert distance(to_dense(operator), reference(family, 12, method)) < 1e-12


@pytest.mark.parametrize(
    ("kind", "n", "expected"),
    [
        ("scalar", 64, ScalarPlusLowRank),
        ("low_rank", 64, ScalarPlusLowRank),
        ("scalar", 16, Dense),  # more columns than dimensions
        ("diagonal", 16, Diagonal),
        ("spectral", 16, Spectral),
        ("dense", 16, Dense),
    ],
)
def test_the_structure_is_kept(wave, method, kind, n, expected):
    assert isinstance(propagate(wave(n, rank=2, kind=kind), 10, method).operator, expected)


@pytest.mark.parametrize("kind", ["by_velocity", "by_endpoint", "trained"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize(
    "n", [64, pytest.param(784, marks=pytest.mark.slow), pytest.param(3072, marks=pytest.mark.slow)]
)
@pytest.mark.each_value
def test_one_application_equals_a_hundred_steps(wave, trained, method, n, dtype, bound, kind):
    random = wave(n, rank=8, by_endpoint=kind == "by_endpoint", dtype=dtype)
    family = copy.deepcopy(trained(n)).to(dtype) if kind == "trained" else random
    z = torch.randn(5, n, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, many = propagate(family, 100, method).operator(z), integrate(family, z, 100, method)
    assert distance(one, many) < bound


def test_times_compose(wave, method):
    family = wave(32)
    whole, early, late = (
        to_dense(propagate(family, steps, method, t0=t0, t1=t1).operator)
        for steps, t0, t1 in ((20, 0.0, 1.0), (8, 0.0, 0.4), (12, 0.4, 1.0))
    )
    assert distance(late @ early, whole) < 1e-13


def test_times_compose_for_a_family_singular_at_one(wave):
    family = wave(32, by_endpoint=True)
    whole, early, late = (
        to_dense(propagate(family, 100, "magnus4", t0=t0, t1=t1, end=0.01).operator)
        for t0, t1 in ((0.0, 1.0), (0.0, 0.4), (0.4, 1.0))
    )
    assert (
        distance(late @ early, whole) < 1e-6
    )  # to the accuracy of the method: the times of the steps differ


def test_errors_fall_with_the_order_of_the_method(wave, method):
    family = wave(12)
    exact = to_dense(propagate(family, 100, "magnus4").operator)
    errors = [
        distance(to_dense(propagate(family, steps, method).operator), exact) for steps in (10, 20)
    ]
    order = {"euler": 1, "midpoint": 2, "rk4": 4, "magnus2": 2, "magnus4": 4}[method]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.25)


@pytest.mark.parametrize(
    "kind",
    ["trained", *(pytest.param(k, marks=pytest.mark.slow) for k in ("by_velocity", "by_endpoint"))],
)
def test_magnus_is_accurate_where_euler_is_not(wave, trained, kind):
    random = (
        wave(64, 8, by_endpoint=True) if kind == "by_endpoint" else wave(64, 8, fast=2.0, size=3.0)
    )
    family = copy.deepcopy(trained(64)).double() if kind == "trained" else random
    z = torch.randn(5, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    fine = integrate(family, z, 250, "magnus4", end=0.01)
    error = {
        m: distance(integrate(family, z, 100, m, end=0.01), fine) for m in ("euler", "magnus4")
    }
    assert error["magnus4"] < 1e-6
    assert error["euler"] > 1e-2


def test_the_last_step_leaves_the_rank_of_the_endpoint(wave, method):
    family = wave(48, rank=3, kind="low_rank", by_endpoint=True)
    s = torch.linalg.svdvals(to_dense(propagate(family, 10, method).operator))
    assert bool((s[3:] < 1e-12 * s[0]).all())
    published = propagate(
        family, 9, "euler", t1=0.9
    ).operator  # the last of ten steps left out: I / 10 + low rank
    assert float(published.scale) == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("steps", [6, 30])  # one run, and many
def test_compression_keeps_within_its_bound(wave, method, steps):
    family = wave(256, rank=4)
    exact = to_dense(propagate(family, steps, method).operator)
    operator, bound = propagate(family, steps, method, max_rank=8)
    error = float(torch.linalg.matrix_norm(to_dense(operator) - exact, 2))
    assert operator.u.shape[-1] == 8
    assert 0 < error <= bound * (1 + 1e-9)
    if steps == 6:
        assert error == pytest.approx(bound, rel=1e-6)
        best = torch.linalg.svdvals(exact - operator.scale * torch.eye(256, dtype=torch.float64))[8]
        assert error == pytest.approx(float(best), rel=1e-6)


def test_a_prediction_of_low_rank_is_compressed_too(wave, method):
    family = wave(48, rank=3, kind="low_rank", by_endpoint=True)
    exact = to_dense(propagate(family, 10, method).operator)
    operator, error = propagate(family, 10, method, max_rank=1)
    assert float(operator.scale) == 0
    assert error == pytest.approx(float(torch.linalg.svdvals(exact)[1]))
    assert float(torch.linalg.matrix_norm(to_dense(operator) - exact, 2)) == pytest.approx(error)


def test_a_tolerance_chooses_the_rank(wave, method):
    family = wave(256, rank=4)
    exact = to_dense(propagate(family, 6, method).operator)
    tight, loose = (propagate(family, 6, method, tol=tol) for tol in (1e-10, 1e-2))
    assert tight.operator.u.shape[-1] > loose.operator.u.shape[-1] > 0
    assert float(torch.linalg.matrix_norm(to_dense(tight.operator) - exact, 2)) <= 1.1e-10
    assert loose.error <= 1e-2


def test_the_product_is_differentiable(wave):
    family = wave(24, rank=1)
    family.u.requires_grad_()

    def loss(product):
        return (product @ torch.arange(24, dtype=torch.float64)).square().sum()

    (structured,) = torch.autograd.grad(loss(to_dense(propagate(family, 5).operator)), family.u)
    eye = torch.eye(24, dtype=torch.float64)
    (stepwise,) = torch.autograd.grad(loss(integrate(family, eye, 5).T), family.u)
    assert distance(structured, stepwise) < 1e-11


def test_what_cannot_be_compressed_or_held_says_so(wave):
    with pytest.raises(StructureError, match="family of Diagonal operators"):
        propagate(wave(8, kind="diagonal"), 4, max_rank=2)
    with pytest.raises(ConfigError, match="tol = -1"):
        propagate(wave(8), 4, tol=-1.0)
    with pytest.raises(ConfigError, match="max_rank = -1"):
        propagate(wave(8), 4, max_rank=-1)
    with pytest.raises(StructureError, match="dense 5000 x 5000 matrix"):
        propagate(wave(5000, rank=60), 100, "euler")
