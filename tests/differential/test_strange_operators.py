"""Operators built and used in odd but plausible ways: right, or one clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rectilinear as rl
from rectilinear import operators as op
from rectilinear.errors import ConfigError, DtypeError, InputError

W = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
X = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
BUILT = {
    "dense": (op.Dense, W),
    "diagonal": (op.Diagonal, X),
    "low-rank": (lambda w: op.LowRank(w, W), W),
    "scalar": (lambda w: op.ScalarPlusLowRank(torch.tensor(2.0, dtype=w.dtype), w[:, :1], W[:, :1]), W),
    "convolution": (lambda w: op.Convolution((1, 3), w), W[:1]),
    "scaled": (lambda w: op.Scaled(op.Dense(W), w), torch.tensor(0.7, dtype=torch.float64)),
    "exponential": (lambda w: rl.expm(op.Dense(w)), W),
}


@pytest.mark.parametrize("name", BUILT)
def test_derivatives_reach_what_an_operator_is_built_of(name: str) -> None:
    build, at = BUILT[name]
    step = 1e-6
    slopes = []
    for i in range(at.numel()):
        unit = torch.zeros_like(at).flatten()
        unit[i] = step
        unit = unit.reshape(at.shape)
        with torch.no_grad():
            slopes.append((build(at + unit)(X) - build(at - unit)(X)) / (2 * step))
    expected = torch.stack(slopes, -1).reshape(3, *at.shape)
    assert expected.abs().max() > 0.1
    leaf = at.clone().requires_grad_()
    found = {
        "leaf": torch.stack([torch.autograd.grad(y, leaf, retain_graph=True)[0] for y in build(leaf)(X)]),
        "reverse": torch.func.jacrev(lambda w: build(w)(X))(at),
        "forward": torch.func.jacfwd(lambda w: build(w)(X))(at),
    }
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(at, torch.ones_like(at))
        tangent = torch.autograd.forward_ad.unpack_dual(build(dual)(X)).tangent
    assert (tangent - expected.reshape(3, -1).sum(1)).abs().max() < 1e-7
    for way, value in found.items():
        assert (value - expected).abs().max() < 1e-7, way


def test_a_matrix_without_derivatives_is_a_parameter() -> None:
    for A in (op.Dense(W), op.Dense(weight=torch.nn.Parameter(W.clone())), op.Diagonal(X)):
        assert [p.requires_grad for p in A.parameters()] == [True]


@pytest.mark.parametrize("vectors", [np.ones(3), [1.0, 2.0, 3.0], None])
def test_vectors_that_are_no_tensors_are_one_error(vectors: object) -> None:
    for apply in (op.Dense(W), op.Dense(W).apply_adjoint, op.Identity(3), rl.invertible.Identity(3)):
        with pytest.raises(DtypeError, match=r"torch\.as_tensor"):
            apply(vectors)


def test_a_permutation_is_one() -> None:
    for order in ([0, 0, 1], [0, 1, 3], [-1, 0, 1], [[0, 1], [1, 1]]):
        with pytest.raises(InputError, match="no permutation"):
            op.Permutation(torch.tensor(order))
    for bad in ([1, 0, 2], torch.tensor([1.0, 0.0]), torch.tensor(0)):
        with pytest.raises(DtypeError, match="integers"):
            op.Permutation(bad)
    matrix = torch.zeros(3, 3)
    matrix[torch.tensor([2, 0, 1]), torch.arange(3)] = 1
    for dtype in (torch.int64, torch.int32, torch.uint8):
        A = op.Permutation(torch.tensor([2, 0, 1], dtype=dtype))
        assert torch.equal(A(X), matrix.double() @ X)


def test_no_reflections_are_the_identity() -> None:
    A = op.Orthogonal(3, 0).double()
    for z in (X, X.expand(2, 3), X.expand(2, 4, 3), X.expand(0, 3)):
        assert torch.equal(A(z), z)
        assert torch.equal(A.apply_adjoint(z), z)
    B = op.Orthogonal(3).double()
    assert B(X.expand(0, 3)).shape == (0, 3)
    assert torch.allclose(B(X.expand(2, 4, 3)), B(X).expand(2, 4, 3))


def test_operators_of_two_dtypes_are_one_error() -> None:
    A, B = op.Dense(W), op.Dense(W.float())
    for combine in (lambda: A @ B, lambda: A + B, lambda: B - A, lambda: A @ op.Diagonal(X.float())):
        with pytest.raises(DtypeError, match="one dtype"):
            combine()
    assert torch.equal((A @ op.Identity(3))(X), A(X))
    assert (A + op.Identity(3))(X).dtype == torch.float64


def test_ranks_are_whole_numbers() -> None:
    for k in (2.5, 0, 4, "2"):
        with pytest.raises(ConfigError, match="1 to 3"):
            rl.truncate(op.Dense(W), k)
    assert rl.rank(rl.truncate(op.Dense(W), np.int64(2))) == 2


def test_what_is_shared_stays_shared_in_half_precision() -> None:
    A = op.Orthogonal(3)
    for result in (rl.project_range(A.half()), rl.pinv(op.Product(A, op.Diagonal(X), op.Adjoint(A)).half())):
        names = [name for name, _ in result.named_modules() if type(result.get_submodule(name)) is op.Orthogonal]
        assert len(names) <= 1
        assert bool(result(X.half()).isfinite().all())
