"""Gradients of the verbs: equal to finite differences, and finite at ties."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, autograd

import rectilinear.operators as op
from makers_operators import near_identity, rand

gradcheck = partial(autograd.gradcheck, fast_mode=True)
gradgradcheck = partial(autograd.gradgradcheck, fast_mode=True)
Z = torch.linspace(-1, 1, 6, dtype=torch.float64)


def scalar_low_rank(scale: Tensor, u: Tensor, v: Tensor) -> op.Operator:
    return op.ScalarPlusLowRank(scale, u, v)


FACTORS = {
    "full": (rand(6, 2) / 2, rand(6, 2) / 2),
    "zero": (torch.zeros(6, 2, dtype=torch.float64), rand(6, 2)),
    "dependent": (rand(6, 1).expand(6, 2).clone() / 3, rand(6, 2) / 3),
    "equal": 2 * (rand(6, 2) / 2,),
    "wide": (rand(6, 4) / 9, rand(6, 4) / 9),
}
VERBS = {
    "pinv": lambda A: op.pinv(A)(Z),
    "solve": lambda A: op.solve(A, Z),
    "damped": lambda A: op.solve(A, Z, damping=0.3),
    "expm": lambda A: op.expm(A, 0.7)(Z),
    "logm": lambda A: op.logm(A)(Z),
    "root": lambda A: (A**0.5)(Z),
    "power": lambda A: (A**-1.7)(Z),
    "logdet": op.logdet,
    "product": lambda A: (A @ A.T + 2 * A)(Z),
    "svdvals": lambda A: op.norm(A, "frobenius"),
}


@pytest.mark.parametrize("factors", FACTORS.values(), ids=FACTORS)
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@pytest.mark.each_value
def test_scalar_plus_low_rank(verb, factors) -> None:
    inputs = (torch.tensor(1.3, dtype=torch.float64), *(x.clone() for x in factors))
    # a graph of its own, so that the factors are not turned into parameters
    assert gradcheck(
        lambda *x: verb(scalar_low_rank(*(1 * y for y in x))), [x.requires_grad_() for x in inputs]
    )


@pytest.mark.parametrize("name", ["pinv", "expm", "logdet", "product"])
def test_second_derivatives(name: str) -> None:
    inputs = [torch.tensor(1.3, dtype=torch.float64), *(x.clone() for x in FACTORS["full"])]
    verb = VERBS[name]
    assert gradgradcheck(
        lambda *x: verb(scalar_low_rank(*(1 * y for y in x))),
        [x.requires_grad_() for x in inputs],
        fast_mode=True,
    )


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_dense_and_convolution(verb) -> None:
    weight = near_identity(6).requires_grad_()
    assert gradcheck(lambda w: verb(op.Dense(weight=1 * w)), (weight,))
    kernel = torch.tensor([[0.1, 1.0, -0.2]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda k: verb(op.Convolution((1, 6), 1 * k)), (kernel,))


def test_low_rank() -> None:
    factors = tuple(x.clone().requires_grad_() for x in (rand(6, 2), rand(6, 2)))
    for verb in ("damped", "expm", "product", "svdvals"):
        assert gradcheck(lambda u, v, f=VERBS[verb]: f(op.LowRank(1 * u, 1 * v)), factors)
    # a pseudo-inverse moves the span too, which only constant rank allows: the factors keep it
    assert gradcheck(lambda u, v: op.pinv(op.LowRank(1 * u, 1 * v))(Z), factors)
    positive = tuple(x.clone().requires_grad_() for x in 2 * (rand(6, 2),))
    assert gradcheck(lambda u, v: (op.LowRank(1 * u, 1 * v) ** 1.5)(Z), positive)


def test_power_of_a_singular_matrix() -> None:
    """``x y^T`` of rank two and positive eigenvalues; moved within that rank."""
    x, q = rand(5, 2), near_identity(2)
    inputs = [x.requires_grad_(), q.requires_grad_()]
    assert gradcheck(lambda x, q: op.to_dense(op.Dense(weight=x @ q @ q.mT @ x.mT) ** 0.5), inputs)


def test_parameters_learn_through_verbs() -> None:
    """A step of descent on ``|A^-1 z - y|^2`` from ``u = 0``, where an orthonormal basis would have
    no gradient.
    """
    A = op.ScalarPlusLowRank(
        torch.ones((), dtype=torch.float64), torch.zeros(6, 1, dtype=torch.float64), rand(6, 1)
    )
    optimizer = torch.optim.SGD(A.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (op.solve(A, Z) - Z.flip(0)).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
    assert losses[-1] < losses[0]
    assert float(A.u.detach().norm()) > 0


def test_results_carry_gradients_and_no_parameters() -> None:
    A = op.Dense(weight=near_identity(6))
    B = op.pinv(2 * A @ A.T)
    assert not list(B.parameters())
    B(Z).sum().backward()
    assert A.weight.grad is not None
    assert A.weight.grad.abs().max() > 0


def test_lazy_results_keep_their_parameters() -> None:
    A = op.Orthogonal(6).double()
    assert next(iter((A + A.T).parameters())) is A.reflectors


def test_orthogonal_stays_orthogonal_while_it_learns() -> None:
    A = op.Orthogonal(6).double()
    optimizer = torch.optim.Adam(A.parameters(), lr=0.1)
    for _ in range(10):
        optimizer.zero_grad()
        (A(Z) - Z.flip(0)).square().sum().backward()
        optimizer.step()
    M = op.to_dense(A).detach()
    assert (M.mT @ M - torch.eye(6)).abs().max() < 1e-13
