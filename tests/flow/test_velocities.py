"""Every family of velocities: shapes, end points, flows, and published properties."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor

import rectilinear as rl
import rectilinear.operators as op
import references_operators as ref
from makers_data import every
from makers_operators import DIM, TIME_VARYING, moment, ready
from rectilinear.checks import tolerance
from rectilinear.errors import ConfigError, ShapeError, SingularOperatorError
from rectilinear.flow.velocities import TimeNetwork, chebyshev, chebyshev_integral

ALLOWED = tolerance(torch.float64, scale=1e3)
families = every(TIME_VARYING)
TIMES = torch.tensor([0.0, 0.3, 0.5, 0.95], dtype=torch.float64)


def close(a: Tensor, b: Tensor, allowed: float = ALLOWED) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() <= allowed * (1 + b.abs().max())


def dense(A: op.Operator) -> Tensor:
    return op.to_dense(A).detach()


def integrated(W: rl.flow.TimeVarying, s: float, t: float, steps: int = 200) -> Tensor:
    """The flow by many Runge-Kutta steps on matrices."""
    B, h = torch.eye(W.dim, dtype=torch.float64), (t - s) / steps
    for i in range(steps):
        a = s + i * h
        first, middle, last = (dense(W.velocity(x)) for x in (a, a + h / 2, a + h))
        k1 = first @ B
        k2 = middle @ (B + h / 2 * k1)
        k3 = middle @ (B + h / 2 * k2)
        B = B + h / 6 * (k1 + 2 * k2 + 2 * k3 + last @ (B + h * k3))
    return B


@families
def test_endpoint_and_velocity_agree(make) -> None:
    W = make()
    for t in TIMES.tolist():
        close(
            dense(W.endpoint(t)),
            torch.eye(DIM, dtype=torch.float64) + (1 - t) * dense(W.velocity(t)),
        )


@families
def test_batched_times(make) -> None:
    W = make()
    z = torch.randn(len(TIMES), DIM, dtype=torch.float64)
    for part in (W.velocity, W.endpoint):
        rows = torch.stack([part(t)(row) for t, row in zip(TIMES, z, strict=True)])
        close(part(TIMES)(z).detach(), rows.detach())
        close(part(TIMES[1])(z).detach(), part(float(TIMES[1]))(z).detach())


@families
def test_at_one(make) -> None:
    W = make()
    if W.singular_at_one:
        with pytest.raises(SingularOperatorError, match="t = 1"):
            W.velocity(1.0)
    else:
        assert dense(W.velocity(1.0)).isfinite().all()
    assert dense(W.endpoint(1.0)).isfinite().all()


@pytest.mark.whole
@families
def test_transport(make) -> None:
    W = make()
    B = W.transport(0.1, 0.9)
    if B is None:
        return
    close(dense(B), integrated(W, 0.1, 0.9), allowed=1e-8)  # the error of Runge-Kutta
    close(dense(W.transport(0.4, 0.9) @ W.transport(0.1, 0.4)), dense(B))
    close(
        dense(W.transport(TIMES, TIMES.flip(0)))[1],
        dense(W.transport(float(TIMES[1]), float(TIMES[2]))),
    )


def test_which_families_have_a_closed_flow() -> None:
    closed = {name for name, make in TIME_VARYING if make().transport(0.0, 1.0) is not None}
    assert closed == {
        "constant",
        "spectral",
        "spectral-real",
        "solved",
        "solved-mixed",
        "solved-diagonal",
    }


@families
def test_gradients_reach_every_parameter(make) -> None:
    W = make()
    if not list(W.parameters()):  # solved: the gradient reaches the moments it was given
        s0, s1 = (s.clone().requires_grad_() for s in (W.s0, W.s1))
        rl.flow.SolvedVelocity(1 * s0, 1 * s1).velocity(0.4)(
            torch.randn(3, DIM, dtype=torch.float64)
        ).sum().backward()
        assert all(s.grad.abs().max() > 0 for s in (s0, s1))
        return
    W.velocity(0.4)(torch.randn(3, DIM, dtype=torch.float64)).square().sum().backward()
    for name, p in W.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0, name


@families
def test_is_a_module(make, tmp_path) -> None:
    W = make()
    expected = dense(W.velocity(0.4))
    close(dense(deepcopy(W).velocity(0.4)), expected)
    W.save_pretrained(tmp_path)
    close(dense(type(W).from_pretrained(tmp_path).velocity(0.4)), expected)
    assert W.float().velocity(0.4)(torch.randn(2, DIM)).dtype == torch.float32


@pytest.mark.parametrize(
    "moments",
    [lambda n: (moment(n), moment(n)), lambda n: (torch.rand(n) + 0.5, torch.rand(n) + 0.1)],
)
def test_solved_carries_one_moment_to_the_other(moments) -> None:
    W = ready(lambda n: rl.flow.SolvedVelocity(*moments(n)))()
    s0, s1 = (s if s.ndim == 2 else torch.diag(s) for s in (W.s0, W.s1))
    B = dense(W.transport(0.0, 1.0))
    close(B @ s0 @ B.mT, s1)
    half = dense(W.transport(0.0, 0.5))
    close(half @ s0 @ half.mT, (s0 + s1) / 4)
    if W.s0.ndim == 1:
        close(B, B.mT)


def test_solved_is_the_least_squares_optimum() -> None:
    """Against a regression on samples whose moments are exactly S0, S1 and zero between the ends."""
    q = torch.linalg.qr(torch.randn(50, 2 * DIM, dtype=torch.float64)).Q * 50**0.5
    z0, z1 = (
        q[:, :DIM] @ torch.randn(DIM, DIM, dtype=torch.float64),
        q[:, DIM:] * torch.arange(1.0, DIM + 1),
    )
    W = rl.flow.SolvedVelocity.from_samples(z0, z1)
    for t in (0.2, 0.7, 1.0):
        zt = (1 - t) * z0 + t * z1
        close(dense(W.endpoint(t)), torch.linalg.lstsq(zt, z1).solution.mT)
        close(dense(W.velocity(t)), torch.linalg.lstsq(zt, z1 - z0).solution.mT)


def test_solved_from_samples() -> None:
    z = torch.randn(4, DIM, dtype=torch.float64)
    W = rl.flow.SolvedVelocity.from_samples(z, 2 * z, diagonal=True)
    close(W.s1, 4 * z.square().mean(0))
    with pytest.raises(SingularOperatorError, match="positive definite"):
        rl.flow.SolvedVelocity.from_samples(z, z).velocity(0.5)  # four samples in six dimensions
    assert (
        dense(rl.flow.SolvedVelocity.from_samples(z, z, shrinkage=0.1).velocity(0.5))
        .isfinite()
        .all()
    )
    with pytest.raises(SingularOperatorError, match="positive definite"):
        rl.flow.SolvedVelocity(torch.zeros(2), torch.ones(2)).velocity(0.0)
    with pytest.raises(ShapeError, match=r"moments.*from_samples\(z0, z1\)"):
        rl.flow.SolvedVelocity(torch.ones(2), torch.ones(3))
    with pytest.raises(ShapeError, match=r"z\.flatten\(1\)"):
        rl.flow.SolvedVelocity.from_samples(torch.ones(4, 2, 3), torch.ones(4, 2, 3))


def test_every_time_feature_moves() -> None:
    features = TimeNetwork(1, width=1, features=32).features(torch.linspace(0, 1, 200))
    assert features.shape == (200, 32)
    assert (features.amax(0) - features.amin(0)).min() > 0.5


def test_chebyshev_and_its_integral() -> None:
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    for degree in (0, 1, 2, 5):
        k = torch.arange(degree + 1)
        close(chebyshev(t, degree), torch.cos(k * torch.acos(2 * t - 1)[:, None]))
        numeric = torch.trapezoid(chebyshev(t[2000:16_001], degree), t[2000:16_001], dim=0)
        close(
            chebyshev_integral(t[2000], t[16_000], degree), numeric, allowed=1e-6
        )  # of the trapezoid rule


def test_spectral_velocity_rotates() -> None:
    W = ready(lambda n: rl.flow.SpectralVelocity(n, pairs=2))()
    with torch.no_grad():
        W.imag[0] = torch.tensor([1.0, 2.0])
    values = torch.linalg.eigvals(dense(W.velocity(0.3)))
    assert ref.same_multiset(
        values, torch.tensor([1j, -1j, 2j, -2j, 0, 0], dtype=torch.complex128), 1e-10
    )
    with pytest.raises(ConfigError, match="pairs"):
        rl.flow.SpectralVelocity(5, pairs=3)
