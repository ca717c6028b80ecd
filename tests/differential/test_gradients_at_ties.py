"""Gradients at repeated singular values and eigenvalues: correct or an error, never NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

import rectilinear as rl
from rectilinear import operators as op
from rectilinear.errors import SingularOperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

RNG = torch.Generator().manual_seed(3)
pytestmark = pytest.mark.usefixtures("rewound")


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=RNG)


def orthogonal(n: int) -> Tensor:
    return torch.linalg.qr(rand(n, n)).Q


def with_values(*values: float, rows: int = 4) -> Tensor:
    s = torch.tensor(values, dtype=torch.float64)
    return orthogonal(rows)[:, : len(values)] @ torch.diag(s) @ orthogonal(len(values)).T


MATRICES = {
    "identity": torch.eye(4, dtype=torch.float64),
    "two equal": with_values(3.0, 3.0, 1.0, 0.5),
    "all equal but one": with_values(2.0, 2.0, 2.0, 1.0),
    "nearly equal": with_values(2.0, 2.0 + 1e-12, 1.0, 1.0 + 1e-9),
    "tall": with_values(2.0, 2.0, 2.0, rows=5),
    "wide": with_values(2.0, 2.0, 2.0, rows=5).T.contiguous(),
    "distinct": with_values(4.0, 3.0, 2.0, 1.0),
}
W = rand(5, 5)


def weigh(A: op.Operator) -> Tensor:
    m = op.to_dense(A)
    return (m * W[: m.shape[0], : m.shape[1]]).sum()


def difference(f: Callable[[Tensor], Tensor], m: Tensor, d: Tensor, step: float = 1e-5) -> float:
    return float((f(m + step * d) - f(m - step * d)) / (2 * step))


def directional(f: Callable[[Tensor], Tensor], m: Tensor, d: Tensor) -> float:
    m = m.clone().requires_grad_()
    (grad,) = torch.autograd.grad(f(m), m)
    assert grad.isfinite().all()
    return float((grad * d).sum())


def agree(f: Callable[[Tensor], Tensor], m: Tensor, d: Tensor) -> None:
    assert directional(f, m, d) == pytest.approx(difference(f, m, d), rel=1e-5, abs=1e-6)


VERBS: dict[str, Callable[[Tensor], Tensor]] = {
    "project_range": lambda m: weigh(rl.project_range(op.Dense(1 * m))),
    "project_null": lambda m: weigh(rl.project_null(op.Dense(1 * m))),
    "pinv": lambda m: weigh(rl.pinv(op.Dense(1 * m))),
    "solve": lambda m: rl.solve(op.Dense(1 * m), W[0, : m.shape[0]]).square().sum(),
    "damped": lambda m: rl.solve(op.Dense(1 * m), W[0, : m.shape[0]], damping=0.3).square().sum(),
    "frobenius": lambda m: rl.norm(op.Dense(1 * m), "frobenius"),
    "nuclear": lambda m: rl.norm(op.Dense(1 * m), "nuclear"),
    "truncate all": lambda m: weigh(rl.truncate(op.Dense(1 * m), min(m.shape))),
    "svd values": lambda m: rl.svd(op.Dense(1 * m)).s.square().sum(),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", MATRICES)
def test_against_finite_differences(verb: str, name: str) -> None:
    m = MATRICES[name]
    agree(VERBS[verb], m, rand(*m.shape))


@pytest.mark.parametrize(
    ("name", "k"), [("two equal", 2), ("all equal but one", 3), ("two equal", 3), ("distinct", 2)]
)
def test_truncation_behind_a_tie(name: str, k: int) -> None:
    m = MATRICES[name]
    agree(lambda x: weigh(rl.truncate(op.Dense(1 * x), k)), m, rand(*m.shape))


def test_truncation_of_tall_and_wide() -> None:
    for m in (
        with_values(3.0, 3.0, 1.0, rows=6),
        with_values(3.0, 3.0, 1.0, rows=6).T.contiguous(),
    ):
        W6 = rand(*m.shape)
        agree(
            lambda x, w=W6: (op.to_dense(rl.truncate(op.Dense(1 * x), 2)) * w).sum(),
            m,
            rand(*m.shape),
        )


def test_a_cut_through_a_tie_has_a_finite_gradient() -> None:
    m = torch.eye(4, dtype=torch.float64, requires_grad=True)
    weigh(rl.truncate(op.Dense(1 * m), 2)).backward()
    assert m.grad is not None
    assert m.grad.isfinite().all()


@pytest.mark.parametrize(
    "rank", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_projections_move_with_a_range_of_constant_rank(rank: int) -> None:
    """``m = x y^T`` with repeated singular values, moved within its rank; to second order too."""
    x, y = orthogonal(5)[:, :rank], orthogonal(4)[:, :rank]
    for verb in (rl.project_range, rl.project_null):
        inputs = [t.clone().requires_grad_() for t in (x, y)]
        assert torch.autograd.gradcheck(
            lambda a, b, v=verb: op.to_dense(v(op.Dense(a @ b.T))), inputs
        )
        assert torch.autograd.gradgradcheck(
            lambda a, b, v=verb: op.to_dense(v(op.Dense(a @ b.T))), inputs
        )
        assert torch.autograd.gradcheck(
            lambda a, b, v=verb: op.to_dense(v(op.LowRank(1 * a, 1 * b))), inputs
        )


def test_projections_of_structured_operators() -> None:
    u, v = orthogonal(6)[:, :2], orthogonal(6)[:, :2]
    one = torch.ones((), dtype=torch.float64)
    for s, a, b in ((one, 0 * u, v), (0 * one, u, v), (-one, u, u)):
        inputs = [t.clone().requires_grad_() for t in (s, a, b)]
        P = op.to_dense(rl.project_range(op.ScalarPlusLowRank(*(1 * t for t in inputs))))
        grads = torch.autograd.grad((P * rand(6, 6)).sum(), inputs, allow_unused=True)
        assert all(g is None or g.isfinite().all() for g in grads)


@pytest.mark.parametrize("complex_", [False, True])
def test_eigenvalues_at_ties(complex_: bool) -> None:
    q = orthogonal(4)
    m = q @ torch.diag(torch.tensor([2.0, 2.0, 1.0, -1.0]).double()) @ q.T
    m = m.to(torch.complex128) if complex_ else m
    d = rand(4, 4).to(m)

    def traces(x: Tensor) -> Tensor:
        values = rl.eig(op.Dense(1 * x)).values
        return (values**2).sum().real + (values**3).sum().real

    x = m.clone().requires_grad_()
    (grad,) = torch.autograd.grad(traces(x), x)
    assert float((grad.conj() * d).real.sum()) == pytest.approx(difference(traces, m, d), rel=1e-5)


def test_vectors_of_a_tie_are_refused() -> None:
    for verb in (lambda A: rl.svd(A).u, lambda A: rl.svd(A).v, lambda A: rl.eig(A).vectors):
        m = MATRICES["identity"].clone().requires_grad_()
        loss = op.to_dense(verb(op.Dense(1 * m))).real[0].sum()
        with pytest.raises(SingularOperatorError, match="repeated"):
            loss.backward()


def test_vectors_beside_a_tie_are_right() -> None:
    q, r = orthogonal(4), orthogonal(4)
    m = q @ torch.diag(torch.tensor([3.0, 1.0, 1.0, 0.2]).double()) @ r.T

    def first(x: Tensor) -> Tensor:
        u, s, v = rl.svd(op.Dense(1 * x))
        u, v = op.to_dense(u)[:, :1], op.to_dense(v)[:, :1]
        return (s[0] ** 2 * (u @ v.T) * W[:4, :4]).sum()

    agree(first, m, rand(4, 4))


def test_learning_from_the_identity() -> None:
    """The natural initialisation of a square operator: a step of descent through each verb stays finite, in
    float32 too.
    """
    for dtype in (torch.float32, torch.float64):
        for verb in (
            rl.pinv,
            rl.project_range,
            lambda A: rl.truncate(A, 3),
            lambda A: A**0.5,
            rl.logm,
            rl.expm,
        ):
            A = op.Dense(torch.eye(4, dtype=dtype))
            (op.to_dense(verb(A)) - torch.ones(4, 4, dtype=dtype)).square().sum().backward()
            assert A.weight.grad is not None
            assert A.weight.grad.isfinite().all()
