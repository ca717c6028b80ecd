"""Every closed form against the slow reference: gradient flow of a module on the data."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from makers_data import rand
from rectilinear import learning
from rectilinear.errors import AssumptionError, InputError, ShapeError
from rectilinear.learning import Moments
from rectilinear.learning.deep_linear import deep_mode_time
from rectilinear.learning.gradient_flow import GradientFlow
from rectilinear.learning.two_layer import layer_imbalance, orthogonal_points_init

Make = Callable[..., Any]
TIMES = torch.linspace(0, 6, 13, dtype=torch.float64)


def maps(flow: GradientFlow) -> torch.Tensor:
    """The product of all layers at each time."""
    total, *rest = flow.parameters.values()
    for weight in rest:
        total = weight @ total
    return total


def rank_one(d: int, h: int, size: float, seed: int) -> list[torch.Tensor]:
    """Balanced weights with equal norms of positive and negative entries of ``a``."""
    a = rand(h, seed=seed)
    a[0], a[1] = a[0].abs(), -a[1].abs()
    a = (
        size
        * (a.clamp(min=0) / a.clamp(min=0).norm() + a.clamp(max=0) / a.clamp(max=0).norm())
        / 2**0.5
    )
    r = torch.nn.functional.normalize(rand(d, seed=seed + 1), dim=0)
    return [a.outer(r), a[None]]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_white_inputs_any_direction(symmetric: Make, chain: Make, alpha: float) -> None:
    x, y = symmetric(white=True)
    data, kappa = Moments.of(x, y), (1 + alpha) / 2
    w1, w2 = rank_one(4, 6, 0.1, seed=3)
    flow = learning.gradient_flow(chain([w1, w2], lambda: nn.LeakyReLU(alpha)), x, y, TIMES)
    w = learning.white_input_solution(
        TIMES, data.beta[0], kappa * (w2 @ w1)[0], data.variance, kappa
    )
    assert (
        kappa * maps(flow)[:, 0] - w
    ).abs().max() < 1e-8  # the tolerance asked for; about 1e-11 is reached
    assert (data.loss(w[:, None]) - flow.loss).abs().max() < 1e-8


def test_white_from_its_limit_and_without_correlation() -> None:
    beta = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert torch.allclose(learning.white_input_solution(TIMES, beta, beta / 3, lam=3.0), beta / 3)
    still = learning.white_input_solution(torch.tensor([0.0, 1e6]), 0 * beta, beta)
    assert torch.allclose(still[0], beta)
    assert still[1].norm() < 1e-5, "nothing to learn: it decays like 1/t"


def test_aligned_is_the_white_form_along_beta(symmetric: Make) -> None:
    beta = Moments.of(*symmetric(white=True)).beta[0]
    s = float(beta.norm())
    u = learning.rank_one_solution(TIMES, s, 1e-4, lam=1.0, kappa=0.6)
    w = learning.white_input_solution(TIMES, beta, 1e-4 * beta / s, kappa=0.6)
    assert torch.allclose(w, u[:, None] * beta / s, atol=1e-13)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_any_covariance(symmetric: Make, chain: Make, alpha: float) -> None:
    x, y = symmetric()
    data, kappa = Moments.of(x, y), (1 + alpha) / 2
    w1, w2 = rank_one(4, 6, 0.2, seed=5)
    flow = learning.gradient_flow(chain([w1, w2], lambda: nn.LeakyReLU(alpha)), x, y, TIMES)
    w = learning.general_covariance_solution(
        TIMES, data.sigma, data.beta[0], kappa * (w2 @ w1)[0], kappa
    )
    assert (kappa * maps(flow)[:, 0] - w).abs().max() < 1e-7  # the tolerance asked for
    length = w[-1].norm()
    last = [flow.parameters["0.weight"][-1], flow.parameters["2.weight"][-1]]
    assert torch.allclose(last[1], w2 / w2.norm() * (length / kappa).sqrt(), atol=1e-7), (
        "the map tells the weights"
    )
    assert torch.allclose(last[0], last[1].mT * w[-1] / length, atol=1e-7)


@pytest.mark.parametrize(
    ("h", "o", "balance"), [(3, 3, 0.3), (2, 3, 0.5), (3, 2, -0.2), (9, 2, 0.0)]
)
def test_riccati(symmetric: Make, chain: Make, h: int, o: int, balance: float) -> None:
    x, y = symmetric(outputs=o, white=True)
    r = min(h, o)
    size = torch.tensor([0.5, 0.2, 0.1], dtype=torch.float64)[:r] + max(-balance, 0) ** 0.5
    turn = torch.linalg.qr(rand(h, h, seed=1)).Q
    w1, w2 = torch.zeros(h, 4, dtype=torch.float64), torch.zeros(o, h, dtype=torch.float64)
    w1[:r, :r], w2[:r, :r] = torch.diag(size), torch.diag((size.square() + balance).sqrt())
    for i in range(r, min(h, 4) if balance < 0 else 0):
        w1[i, i] = (-balance) ** 0.5
    w1 = turn @ w1 @ torch.linalg.qr(rand(4, 4, seed=2)).Q
    w2 = torch.linalg.qr(rand(o, o, seed=3)).Q @ w2 @ turn.mT
    found, error = layer_imbalance(w1, w2)
    assert (found, error) == pytest.approx((balance, 0), abs=1e-13)
    flow = learning.gradient_flow(chain([w1, w2]), x, y, TIMES)
    data = Moments.of(x, y)
    assert (
        maps(flow) - learning.riccati_solution(TIMES, w1, w2, data.beta, data.variance, balance)
    ).abs().max() < 1e-9


def test_riccati_for_paired_leaky_networks_and_long_times(symmetric: Make, chain: Make) -> None:
    x, y = symmetric(outputs=2, white=True)
    data, kappa = Moments.of(x, y), 0.6
    w1 = 0.2 * torch.linalg.qr(rand(4, 2, seed=4)).Q.mT
    w1, w2 = learning.antisymmetric_pairs(w1, 0.2 * torch.linalg.qr(rand(2, 2, seed=5)).Q)
    flow = learning.gradient_flow(chain([w1, w2], lambda: nn.LeakyReLU(0.2)), x, y, TIMES)
    root = kappa**0.5
    found = learning.riccati_solution(kappa * TIMES, root * w1, root * w2, data.beta)
    assert (kappa * maps(flow) - found).abs().max() < 1e-9
    late = learning.riccati_solution(torch.tensor([99.0]), 1e-9 * w1, 1e-9 * w2, data.beta)
    assert torch.allclose(late[0], data.beta, atol=1e-9), "20 decades of growth later"


def test_riccati_refuses() -> None:
    beta = torch.ones(1, 2)
    with pytest.raises(ShapeError, match="layers of shape"):
        learning.riccati_solution(TIMES, torch.ones(3, 2), torch.ones(2, 3), beta)
    with pytest.raises(AssumptionError, match="cannot be a multiple"):
        learning.riccati_solution(TIMES, torch.ones(3, 2), torch.ones(1, 3), beta, balance=0.1)
    with pytest.raises(InputError, match="ascend"):
        learning.riccati_solution(
            torch.tensor([1.0, 0.0]), torch.ones(1, 2), torch.ones(1, 1), beta
        )


@pytest.mark.whole
@pytest.mark.parametrize("depth", [2, 3, 4, 5])
@pytest.mark.parametrize("u0", [0.3, 1.9])
@pytest.mark.each_value
def test_deep_mode(chain: Make, depth: int, u0: float) -> None:
    s, lam = 2.0, 1.3
    x = torch.tensor([[lam**0.5]], dtype=torch.float64)
    weights = [torch.full((1, 1), u0, dtype=torch.float64)] * depth
    flow = learning.gradient_flow(chain(weights), x, s / lam * x, TIMES, rtol=1e-13, atol=1e-15)
    u = learning.deep_mode_solution(TIMES, s, u0, depth, lam)
    assert (
        flow.parameters["0.weight"].flatten() - u
    ).abs().max() < 1e-10  # the tolerance asked for
    for t, value in zip(TIMES[1:4].tolist(), u[1:4].tolist(), strict=True):
        assert deep_mode_time(value, s, u0, depth, lam) == pytest.approx(
            t, rel=1e-7
        )  # ill-conditioned near the limit


def test_deep_mode_over_twelve_decades() -> None:
    u0, s, depth = 1e-4, 1.0, 4
    end = deep_mode_time(1 - 1e-12, s, u0, depth)
    u = learning.deep_mode_solution(torch.tensor([0.0, end, 10 * end]), s, u0, depth)
    assert torch.allclose(u, torch.tensor([u0, 1 - 1e-12, 1.0], dtype=torch.float64), rtol=1e-12)
    assert torch.equal(learning.deep_mode_solution(TIMES, 1.0, 1.0, 3), torch.ones_like(TIMES)), (
        "the limit stays"
    )
    with pytest.raises(InputError, match="starts at zero"):
        learning.deep_mode_solution(TIMES, s, 0.0, depth)
    with pytest.raises(InputError, match="never reached"):
        deep_mode_time(1.0, s, u0, depth)


@pytest.mark.whole
@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_deep_relu_manifold(symmetric: Make, chain: Make, depth: int) -> None:
    x, y = symmetric(white=True)
    data = Moments.of(x, y)
    s = float(data.beta.norm())
    hidden = []
    for i, h in enumerate((6, 5, 4, 7)[: depth - 1]):
        v = rand(h, seed=i)
        v[0], v[1] = v[0].abs(), -v[1].abs()
        hidden.append(
            (v.clamp(min=0) / v.clamp(min=0).norm() + v.clamp(max=0) / v.clamp(max=0).norm())
            / 2**0.5
        )
    weights = learning.two_block_init([data.beta[0] / s, *hidden], 0.5)
    flow = learning.gradient_flow(chain(weights, nn.ReLU), x, y, TIMES)
    strength = learning.deep_relu_solution(TIMES, s, 0.5, depth)
    loss = data.loss(strength[:, None, None] * data.beta / s)
    assert (flow.loss - loss).abs().max() < 1e-10  # the tolerance asked for
    linear = [
        0.5 / 2**0.5 * a.outer(b) for b, a in zip([data.beta[0] / s, *hidden], hidden, strict=False)
    ]
    linear.append(0.5 / 2**0.5 * hidden[-1][None])
    slow = learning.gradient_flow(chain(linear), x, y, TIMES / 2)
    assert (flow.loss - slow.loss).abs().max() < 1e-10, "the linear network at half the time"
    last = torch.stack(
        [flow.parameters["0.weight"][-1].norm(), slow.parameters["0.weight"][-1].norm()]
    )
    assert last[0] / last[1] == pytest.approx(2**0.5, rel=1e-9)


def test_two_blocks_refuses_uneven_parts() -> None:
    with pytest.raises(AssumptionError, match="equal norm"):
        learning.two_block_init([torch.tensor([1.0, 0.0]), torch.tensor([0.8, -0.6])], 1.0)
    with pytest.raises(AssumptionError, match="unit vectors"):
        learning.two_block_init([torch.tensor([2.0, 0.0]), torch.tensor([0.8, -0.6])], 1.0)


@pytest.mark.parametrize(
    "points", [[[1.0, 0.5], [-0.6, 1.2]], [[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]]
)
def test_independent_points(chain: Make, points: list[list[float]]) -> None:
    x = torch.tensor(points, dtype=torch.float64)
    y = torch.tensor([1.0, -1.0, 0.7, -0.5], dtype=torch.float64)[: len(x)]
    initial = orthogonal_points_init(x, y, 0.01)

    def half_sum(f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (f[:, 0] - y).square().sum() / 2

    flow = learning.gradient_flow(chain(initial, nn.ReLU), x, y, TIMES, loss=half_sum)
    u, loss = learning.orthogonal_points_solution(TIMES, x, y, 0.01)
    assert (flow.loss - loss).abs().max() < 1e-10
    assert (flow.parameters["2.weight"][:, 0].abs() - u.sqrt()).abs().max() < 1e-10


def test_independent_refuses() -> None:
    with pytest.raises(AssumptionError, match="see the other") as error:
        learning.orthogonal_points_solution(
            TIMES, torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.ones(2), 0.1
        )
    assert error.value.assumption == "orthogonal points"
    with pytest.raises(InputError, match="zero"):
        learning.orthogonal_points_solution(TIMES, torch.eye(2), torch.tensor([1.0, 0.0]), 0.1)


@pytest.mark.parametrize("depth", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_linear_flow_and_descent_are_those_of_the_points(
    symmetric: Make, chain: Make, depth: int
) -> None:
    x, y = symmetric(outputs=2)
    data = Moments.of(x, y)
    shapes = (
        [(5, 4), (3, 5), (2, 3)] if depth == 3 else [(5, 4), (2, 5)] if depth == 2 else [(2, 4)]
    )
    weights = [0.3 * rand(*shape, seed=i) for i, shape in enumerate(shapes)]
    model = chain(weights)
    flow = learning.gradient_flow(model, x, y, TIMES)
    fast = learning.linear_network_flow(TIMES, weights, data)
    for slow, quick in zip(flow.parameters.values(), fast, strict=True):
        assert (slow - quick).abs().max() < 1e-8
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        learning.half_squared_error(model(x), y).backward()
        optimizer.step()
    steps = learning.linear_network_descent([0, 20], weights, data, 0.05)
    with torch.no_grad():
        assert torch.allclose(model(x), x @ steps[1].mT, atol=1e-12)


def test_half_time_and_plateau() -> None:
    s, u0, lam = 2.0, 1e-8, 0.7
    for kappa in (0.5, 1.0):
        half = learning.half_time(s, u0, lam, kappa)
        assert float(
            learning.rank_one_solution(torch.tensor([half], dtype=torch.float64), s, u0, lam, kappa)
        ) == pytest.approx(s / lam / 2)
        end = learning.plateau_time(s, u0, lam, kappa)
        u = float(
            learning.rank_one_solution(torch.tensor([end], dtype=torch.float64), s, u0, lam, kappa)
        )
        assert s * u - lam * u**2 / 2 == pytest.approx(0.01 * s**2 / (2 * lam))
    u = learning.deep_mode_solution(
        torch.tensor([learning.half_time(s, 1e-3, lam, depth=3)], dtype=torch.float64),
        s,
        1e-1,
        3,
        lam,
    )
    assert float(u) ** 3 == pytest.approx(s / lam / 2, rel=1e-9)
