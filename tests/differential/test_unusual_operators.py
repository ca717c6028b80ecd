"""Operators used in unusual but plausible ways: the right value, or one clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

import rectilinear as rl
from makers_invertible import BLOCKS, VECTOR_NETWORKS
from makers_operators import OPERATORS, RECTANGULAR
from rectilinear import operators as op
from rectilinear.errors import (
    ConfigError,
    DtypeError,
    InputError,
    NonFiniteError,
    SingularOperatorError,
    StructureError,
)

W = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
X = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
BUILT = {
    "dense": (op.Dense, W),
    "diagonal": (op.Diagonal, X),
    "low-rank": (lambda w: op.LowRank(w, W), W),
    "scalar": (
        lambda w: op.ScalarPlusLowRank(torch.tensor(2.0, dtype=w.dtype), w[:, :1], W[:, :1]),
        W,
    ),
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
        "leaf": torch.stack(
            [torch.autograd.grad(y, leaf, retain_graph=True)[0] for y in build(leaf)(X)]
        ),
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
    for apply in (
        op.Dense(W),
        op.Dense(W).apply_adjoint,
        op.Identity(3),
        rl.invertible.Identity(3),
    ):
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
    for combine in (
        lambda: A @ B,
        lambda: A + B,
        lambda: B - A,
        lambda: A @ op.Diagonal(X.float()),
    ):
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
    for result in (
        rl.project_range(A.half()),
        rl.pinv(op.Product(A, op.Diagonal(X), op.Adjoint(A)).half()),
    ):
        names = [
            name
            for name, _ in result.named_modules()
            if type(result.get_submodule(name)) is op.Orthogonal
        ]
        assert len(names) <= 1
        assert bool(result(X.half()).isfinite().all())


@pytest.mark.parametrize("tolerance", [-1.0, -1e-300, float("nan"), float("inf")])
def test_tolerances_are_not_negative(tolerance: float) -> None:
    A = op.Dense(W)
    scalar = op.ScalarPlusLowRank(X[0], W[:, :1], W[:, :1])
    model = torch.nn.Linear(1, 1)
    x = torch.ones(1, 1)
    for use in (
        lambda: rl.rank(A, rtol=tolerance),
        lambda: rl.pinv(A, tolerance),
        lambda: rl.project_range(A, tolerance),
        lambda: rl.project_null(A, tolerance),
        lambda: rl.solve(A, X, tolerance),
        lambda: op.compress(scalar, tolerance),
        lambda: rl.invertible.check_invertible(
            rl.invertible.Rotation(3), X[None].float(), tol=tolerance
        ),
        lambda: rl.learning.gradient_flow(model, x, x, torch.tensor([0.0, 1.0]), rtol=tolerance),
    ):
        with pytest.raises(ConfigError, match="not negative"):
            use()


@pytest.mark.filterwarnings("ignore::rectilinear.errors.StructureWarning")
@pytest.mark.parametrize("p", [1000, 1001, 10**6, -(10**6)])
def test_powers_of_what_is_applied_factor_by_factor(p: int) -> None:
    turn, shift = (
        op.Orthogonal(3).double(),
        op.Permutation(torch.tensor([[1, 2, 0], [2, 0, 1]]), like=W),
    )
    for A in (turn, shift, op.Adjoint(turn), op.Product(turn, op.Orthogonal(3).double())):
        expected = np.linalg.matrix_power(rl.to_dense(A).detach().numpy(), p)
        power = A**p
        assert np.abs(rl.to_dense(power).detach().numpy() - expected).max() < 1e-8
        assert isinstance(power, op.Product) == (p == 1000)
    with pytest.raises(StructureError, match=r"4096 dimensions.*rl\.power\("):
        op.Orthogonal(5000, 2) ** p if abs(p) > 1000 else op.Orthogonal(5000, 2) ** 10**9


@pytest.mark.parametrize("p", [float("nan"), float("inf"), -float("inf"), 1e300, 2**70])
def test_exponents_are_finite(p: float) -> None:
    for A in (op.Dense(W), op.Diagonal(X), op.LowRank(W, W), op.Identity(3), op.Orthogonal(3)):
        with pytest.raises(ConfigError, match="exponent"):
            A**p
    for wrong in (1j, "2", None):
        with pytest.raises(DtypeError, match="exponent"):
            rl.power(op.Dense(W), wrong)


def test_a_nilpotent_part_has_no_root_and_has_powers() -> None:
    jordan = torch.diag(torch.ones(2, dtype=torch.float64), 1)
    for m in (jordan, torch.block_diag(jordan, W @ W.mT)):
        for A in (op.Dense(m), op.LowRank(m, torch.eye(len(m), dtype=m.dtype))):
            with pytest.raises(SingularOperatorError, match="nilpotent"):
                A**0.5
            with pytest.raises(SingularOperatorError, match=r"power -0\.5"):
                A**-0.5
            assert torch.allclose(rl.to_dense(A**3), m @ m @ m)
    assert rl.to_dense(op.Dense(jordan) ** 3.5).abs().max() < 1e-12


def test_right_hand_sides_and_times_are_numbers() -> None:
    bad = X.clone()
    bad[1] = torch.nan
    for A in (op.Dense(W), op.Diagonal(X), op.Identity(3).double()):
        for damping in (0.0, 0.5):
            with pytest.raises(
                NonFiniteError, match=r"1 NaN or infinite entry in y, first at \(1,\)"
            ):
                rl.solve(A, bad, damping)
            with pytest.raises(DtypeError, match="as_tensor"):
                rl.solve(A, [1.0, 2.0, 3.0], damping)
        for time in (1j, torch.tensor(1j), "1", None):
            with pytest.raises(DtypeError, match=r"\bt\b"):
                rl.expm(A, time)
        with pytest.raises(NonFiniteError, match="t = nan"):
            rl.expm(A, float("nan"))
    turned = rl.to_dense(rl.expm(op.Dense(W.to(torch.complex128)), 1j))
    assert torch.allclose(turned, torch.linalg.matrix_exp(1j * W))
    assert torch.equal(
        rl.to_dense(rl.expm(op.Dense(W), np.float32(0.5))), rl.to_dense(rl.expm(op.Dense(W), 0.5))
    )


def test_verbs_are_not_vectorised_but_batched() -> None:
    stack = torch.stack([W @ W.mT, W @ W.mT + torch.eye(3, dtype=W.dtype)])
    for verb in (rl.pinv, rl.expm, rl.logm, lambda A: A**0.5, lambda A: A**3, rl.project_range):
        with pytest.raises(InputError, match=r"leading axes \(b"):
            torch.vmap(lambda w, verb=verb: rl.to_dense(verb(op.Dense(weight=w))))(stack)
        one_by_one = torch.stack([rl.to_dense(verb(op.Dense(weight=w))) for w in stack])
        assert torch.allclose(rl.to_dense(verb(op.Dense(weight=stack))), one_by_one, atol=1e-6)


@pytest.mark.filterwarnings("ignore::rectilinear.errors.StructureWarning")
def test_weights_are_laid_out_row_by_row() -> None:
    verbs = (
        lambda A: A.T,
        rl.pinv,
        lambda A: rl.svd(A).u,
        lambda A: rl.svd(A).v,
        lambda A: rl.truncate(A, 1),
        rl.expm,
    )
    held = [make() for _, make in (*OPERATORS, *RECTANGULAR, *VECTOR_NETWORKS, *BLOCKS)]
    for A in [A for A in held if isinstance(A, op.Operator)]:
        held += [verb(A) for verb in verbs if A.is_square or verb is not rl.expm]
    for module in held:
        for name, tensor in module.state_dict().items():
            assert tensor.is_contiguous(), (module, name)
    rotation = rl.invertible.Rotation(3, 2)
    assert torch.equal(load(save(rotation.state_dict()))["matrix"], rotation.matrix)
