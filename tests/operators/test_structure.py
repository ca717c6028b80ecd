"""Operators keep their structure, and large ones never become dense without an error."""

from __future__ import annotations

import re
import warnings

import pytest
import torch

import rectilinear.operators as op
from makers_operators import kernel, near_identity, rand
from rectilinear.checks import tolerance
from rectilinear.errors import (
    ConfigError,
    DtypeError,
    InputError,
    NonFiniteError,
    ShapeError,
    SingularOperatorError,
    StructureError,
    StructureWarning,
)

N = 20_000  # a dense matrix of this size has 20,000 times as many numbers as a vector
Z = torch.linspace(-1, 1, 6, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _loud() -> None:
    warnings.simplefilter("error", StructureWarning)


def large(rank: int = 3) -> op.ScalarPlusLowRank:
    return op.ScalarPlusLowRank(
        torch.tensor(0.5), torch.randn(N, rank) / N**0.5, torch.randn(N, rank) / N**0.5
    )


def circular() -> op.Convolution:
    return op.Convolution(
        (1, 100, 200), 0.1 * torch.randn(1, 1, 3, 3) + torch.eye(3)[1].outer(torch.eye(3)[1])
    )


def kronecker() -> op.Kronecker:
    return op.Kronecker(
        op.Dense(weight=near_identity(100).float()), op.Dense(weight=near_identity(200).float())
    )


LARGE = {
    "scalar-low-rank": large,
    "core": lambda: op.Core(
        torch.tensor(0.5), torch.linalg.qr(torch.randn(N, 3)).Q, near_identity(3).float()
    ),
    "diagonal": lambda: op.Diagonal(torch.rand(N) + 0.5),
    "circular": circular,
    "circular-depthwise": lambda: op.Convolution(
        (2, 100, 100), torch.tensor([[1.0, 0.1], [0.1, 0.1]]).repeat(2, 1, 1)
    ),
    "spectral": lambda: op.Spectral(op.Identity(N), torch.rand(N - 10) + 0.5, torch.rand(10)),
    "kronecker": kronecker,
    "projection": lambda: op.Idempotent(N, 3),
    "identity": lambda: op.Identity(N),
    "scaled": lambda: 2 * op.Identity(N),
    "low-rank": lambda: op.LowRank(torch.randn(N, 3), torch.randn(N, 3)),
}
EVERY = {
    "adjoint": lambda A: A.T,
    "svd": lambda A: op.svd(A).u,
    "pinv": op.pinv,
    "range": op.project_range,
    "null": op.project_null,
    "square": lambda A: A @ A,
    "shifted": lambda A: A + 3 * op.Identity(N, like=A.like),
    "truncate": lambda A: op.truncate(A, 2),
}
FUNCTIONS = {"expm": op.expm, "logm": op.logm, "root": lambda A: A**0.5, "inverse": lambda A: A**-1}


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_large_operators_stay_structured(make) -> None:
    torch.manual_seed(0)
    A = make()
    for verb in EVERY.values():
        B = verb(A)
        assert B(torch.randn(B.in_dim)).isfinite().all()
        assert sum(t.numel() for t in [*B.parameters(), *B.buffers()]) < 100 * N
    assert op.rank(A) > 0
    if type(A) not in {op.Idempotent, op.LowRank}:
        assert op.logdet(A).isfinite()
        assert op.cond(A) < 1e5
        if not isinstance(A, op.Kronecker):
            for function in FUNCTIONS.values():
                assert function(A)(torch.randn(N)).isfinite().all()
    assert op.eig(A).values.shape[-1] in {N, N - 10 + 10}


@pytest.mark.parametrize(
    "verb",
    ["svd", "pinv", "expm", "logm", "eig", "rank", "cond", "norm", "logdet", "project_range"],
)
def test_no_silent_dense_matrix(verb: str) -> None:
    with pytest.raises(
        StructureError, match=r"structured form; expected at most 4096 .*Dense\(weight"
    ):
        getattr(op, verb)(op.Sum(circular(), large()))
    small = op.Sum(op.Orthogonal(6), op.Identity(6))
    with pytest.warns(StructureWarning, match="dense 6 x 6"):
        getattr(op, verb)(small)


def test_zero_padding_is_not_diagonal_in_fourier_space() -> None:
    with pytest.warns(StructureWarning):
        op.svd(op.Convolution((1, 6), kernel(1, 3), padding="zeros"))
    with pytest.raises(StructureError):
        op.pinv(
            op.Convolution(
                (1, 100, 100), kernel(1, 3, 3).float().reshape(1, 1, 3, 3)[0], padding="zeros"
            )
        )


def rank_one(scale: float = 1.0, n: int = 60) -> op.ScalarPlusLowRank:
    return op.ScalarPlusLowRank(torch.tensor(scale, dtype=torch.float64), rand(n, 1), rand(n, 1))


def test_what_sums_and_products_are() -> None:
    A, L = rank_one(), op.LowRank(rand(60, 1), rand(60, 1))
    diagonal, dense, one = (
        op.Diagonal(rand(60)),
        op.Dense(weight=rand(60, 60)),
        op.Identity(60, like=Z),
    )
    conv, turn = op.Convolution((1, 60), rand(1, 3)), op.Orthogonal(60).double()
    cases = [
        (A @ A, op.ScalarPlusLowRank),
        (A + L, op.ScalarPlusLowRank),
        (one + L, op.ScalarPlusLowRank),
        (one - 2 * L, op.ScalarPlusLowRank),
        (one - op.Idempotent(60, 2).double(), op.ScalarPlusLowRank),
        (A @ L, op.LowRank),
        (L @ turn, op.LowRank),
        (conv @ L, op.LowRank),
        (L + L, op.LowRank),
        (conv @ conv, op.Convolution),
        (conv + conv.T, op.Convolution),
        (one + conv, op.Convolution),
        (diagonal @ diagonal, op.Diagonal),
        (diagonal - one, op.Diagonal),
        (dense @ A, op.Dense),
        (conv @ dense, op.Dense),
        (dense + diagonal, op.Dense),
        (op.Dense(2, 60) @ op.Dense(60, 2), op.LowRank),
        (diagonal @ A, op.Product),
        (turn + one, op.Sum),
        (2 * turn, op.Scaled),
        (turn.T, op.Adjoint),
        (turn.T.T, op.Orthogonal),
        (A**7, op.ScalarPlusLowRank),
        (op.expm(L), op.ScalarPlusLowRank),
        (op.pinv(A), op.ScalarPlusLowRank),
        (op.pinv(L), op.LowRank),
    ]
    for index, (got, kind) in enumerate(cases):
        assert type(got) is kind, (index, got)
    assert (A**7).u.shape == (60, 1)


def test_idempotent() -> None:
    for oblique in (False, True):
        A = op.Idempotent(6, 2, oblique=oblique).double()
        assert A @ A is A
        assert (A(A(Z)) - A(Z)).abs().max() < 1e-15
        assert int(op.rank(A)) == 2
    nested = [op.truncate(op.Idempotent(6, 4).double(), k) for k in (1, 2, 3)]
    assert [type(P) for P in nested] == 3 * [op.Idempotent]
    basis, cobasis = rand(6, 2), rand(6, 2)
    A = op.Idempotent.from_basis(basis, cobasis)
    exact = basis @ torch.linalg.inv(cobasis.mT @ basis) @ cobasis.mT
    assert torch.allclose(op.to_dense(A), exact)


def test_truncated_projections_are_nested() -> None:
    A = op.Idempotent(6, 4).double()
    small, large_ = op.truncate(A, 1), op.truncate(A, 3)
    assert torch.allclose(large_(small(Z)), small(Z))


def test_products_of_a_hundred_keep_their_accuracy() -> None:
    torch.manual_seed(0)
    B, M = op.Identity(300, like=Z), torch.eye(300, dtype=torch.float64)
    for _ in range(100):
        A = op.ScalarPlusLowRank(
            torch.tensor(0.99).double(), 0.1 * rand(300, 1) / 17, rand(300, 1) / 17
        )
        B, M = A @ B, op.to_dense(A).detach() @ M
    assert isinstance(B, op.ScalarPlusLowRank)
    assert B.u.shape[-1] == 100
    assert (op.to_dense(B) - M).abs().max() < tolerance(M.dtype)
    small, error = op.compress(B, tol=0.05)
    assert small.u.shape[-1] < 100
    assert torch.isclose(torch.linalg.matrix_norm(op.to_dense(small) - M, 2), error)
    assert error <= 0.05
    fixed, error = op.compress(B, max_rank=5)
    assert fixed.u.shape[-1] == 5
    assert torch.isclose(torch.linalg.matrix_norm(op.to_dense(fixed) - M, 2), error)


def test_singular_vectors_share_their_completing_basis() -> None:
    for scale in (0.7, -0.7):
        u, s, v = op.svd(rank_one(scale))
        inner = op.to_dense(u).detach().mT @ op.to_dense(v).detach()
        repeated = (s - 0.7).abs() < 1e-12
        assert repeated.sum() >= 58
        expected = torch.eye(60, dtype=torch.float64)[repeated][:, repeated] * (
            1 if scale > 0 else -1
        )
        assert (inner[repeated][:, repeated] - expected).abs().max() < 1e-12


def test_bad_input_is_a_clear_error() -> None:
    A = rank_one()
    cases = [
        (lambda: A(rand(59)), ShapeError, "last axis of 60"),
        (lambda: A(torch.randn(60)), DtypeError, "one dtype"),
        (lambda: A @ op.Dense(3), ShapeError, "inner dimensions"),
        (lambda: A + op.Dense(3), ShapeError, "one shape"),
        (lambda: op.Sum(A, op.Dense(3)), ShapeError, "one shape"),
        (lambda: op.Product(A, op.Dense(3)), ShapeError, "inner dimensions"),
        (lambda: op.Sum(), ConfigError, "at least one"),
        (lambda: op.Dense(), ConfigError, "neither in_dim nor weight"),
        (lambda: op.Dense(3, 4, weight=rand(3, 3)), ConfigError, "expected 4 x 3"),
        (lambda: op.Dense(weight=rand(3)), ShapeError, "rows, columns"),
        (lambda: op.Dense(weight=torch.ones(2, 2, dtype=torch.int64)), DtypeError, "int64"),
        (lambda: op.Diagonal(torch.tensor(1.0)), ShapeError, "values"),
        (lambda: op.LowRank(rand(3, 1), rand(3, 2)), ShapeError, "columns"),
        (
            lambda: op.ScalarPlusLowRank(torch.tensor(1.0), rand(3, 1), rand(4, 1)),
            ShapeError,
            "rows",
        ),
        (lambda: op.Core(torch.tensor(1.0), rand(3, 1), rand(2, 2)), ShapeError, "core"),
        (lambda: op.Idempotent(3, 4), ConfigError, "rank 4"),
        (lambda: op.Idempotent(3, 2, basis=rand(3, 3)), ShapeError, "basis"),
        (lambda: op.Orthogonal.from_matrix(rand(3, 3)), InputError, "orthogonal"),
        (lambda: op.Orthogonal.from_matrix(rand(3, 2)), InputError, "square"),
        (lambda: op.Convolution((1, 4), rand(2, 3)), ShapeError, "kernel"),
        (lambda: op.Convolution((1, 4), rand(1, 5)), ShapeError, "kernel of size"),
        (lambda: op.Convolution((1, 4), rand(1, 3), padding="same"), ConfigError, "padding"),
        (
            lambda: op.Kronecker(op.Dense(weight=rand(2, 3, 3)), op.Dense(3)),
            ShapeError,
            "single operators",
        ),
        (lambda: op.Spectral(op.Identity(3), rand(3), rand(1)), ShapeError, "imaginary"),
        (lambda: op.solve(A, rand(60), damping=-1.0), ConfigError, "damping"),
        (lambda: op.norm(A, "max"), ConfigError, "norm"),
        (lambda: op.truncate(A, 61), ConfigError, "rank 61"),
        (lambda: op.truncate(op.Idempotent(6, 2), 3), ConfigError, "rank 3"),
        (lambda: op.expm(op.Dense(2, 3)), ShapeError, "square"),
        (lambda: op.Dense(2, 3) ** 2, ShapeError, "square"),
        (lambda: op.eig(op.LowRank(rand(3, 1), rand(4, 1))), ShapeError, "square"),
        (lambda: op.logdet(op.Dense(2, 3)), ShapeError, "square"),
        (lambda: op.to_scipy(op.Dense(weight=rand(2, 3, 3))), ShapeError, "single"),
        (lambda: op.svd(rand(3, 3)), DtypeError, "Dense"),
        (lambda: op.logm(op.LowRank(rand(6, 1), rand(6, 1))), SingularOperatorError, "logarithm"),
        (lambda: op.Dense(weight=torch.zeros(2, 2)) ** -0.5, SingularOperatorError, "singular"),
        (
            lambda: op.Dense(weight=torch.tensor([[0.0, 1.0], [0.0, 0.0]])) ** 0.5,
            SingularOperatorError,
            "singular",
        ),
        (
            lambda: op.Diagonal(torch.tensor([-1.0])) ** 0.5,
            SingularOperatorError,
            "negative eigenvalue -1",
        ),
    ]
    for run, error, words in cases:
        with pytest.raises(error, match=words):
            run()


@pytest.mark.parametrize(
    "verb", ["svd", "pinv", "eig", "expm", "logm", "rank", "truncate", "power"]
)
def test_numbers_that_are_not_finite(verb: str) -> None:
    arguments = {"truncate": (1,), "power": (0.5,)}.get(verb, ())
    for A in (
        op.Dense(weight=torch.full((6, 6), torch.nan)),
        op.LowRank(torch.full((6, 1), torch.inf), torch.ones(6, 1)),
    ):
        with pytest.raises(NonFiniteError, match="NaN or infinite"):
            getattr(op, verb)(A, *arguments)


def test_autocast_may_mix_dtypes() -> None:
    A = op.Dense(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert A(torch.randn(2, 6).bfloat16()).dtype == torch.float32, "its own precision"


def test_function_transforms() -> None:
    A = rank_one(n=6)
    value, tangent = torch.func.jvp(A, (Z,), (Z.flip(0),))
    assert torch.allclose(tangent, A(Z.flip(0)))
    assert torch.allclose(torch.func.vmap(A)(Z.expand(3, 6)), value.expand(3, 6))
    assert torch.allclose(torch.func.jacrev(A)(Z), op.to_dense(A))


def test_numbers_keep_their_precision() -> None:
    """Also when they multiply an operator that has no dtype of its own."""
    shifted = op.Diagonal(Z) - 0.1 * op.Identity(6) / 3 + op.Identity(6) * 0.2
    assert (op.to_dense(shifted) - torch.diag(Z - 0.1 / 3 + 0.2)).abs().max() < 1e-15
    assert (0.1 * op.Identity(6))(Z.float()).dtype == torch.float32
    for result in (
        op.logdet(0.5 * op.Orthogonal(3)),
        op.svd(0.5 * op.Orthogonal(3)).s,
        op.norm(2 * op.Identity(3)),
    ):
        assert result.dtype == torch.float32


def test_small_singular_values_of_large_operators_count() -> None:
    """Rounding grows with what is decomposed, not with the dimension: in float32 1e-3 of the
    largest is no zero.
    """
    small = torch.cat([torch.ones(N - 1), torch.tensor([1e-3])])
    one_direction = torch.eye(N, 1)
    for A in (
        op.Diagonal(small),
        op.ScalarPlusLowRank(torch.tensor(1e-3), one_direction, one_direction),
    ):
        assert int(op.rank(A)) == N
        assert torch.allclose(op.pinv(A)(A(torch.ones(N))), torch.ones(N), atol=1e-3)
        assert op.project_null(A)(torch.ones(N)).abs().max() < 1e-3


def test_exponentials_that_overflow() -> None:
    with pytest.raises(NonFiniteError, match="too large"):
        op.expm(op.Dense(weight=1000 * torch.eye(2)))


class Shift(op.Operator):
    """``z`` moved round by ``steps`` places: an operator that the library does not know."""

    _any_dtype = True

    def __init__(self, dim: int, steps: int) -> None:
        super().__init__()
        self.in_dim = self.out_dim = dim
        self.steps = steps % dim

    def _matvec(self, z: torch.Tensor) -> torch.Tensor:
        return z.roll(self.steps, -1)

    def _rmatvec(self, z: torch.Tensor) -> torch.Tensor:
        return z.roll(-self.steps, -1)


@op.matmul.register(Shift, Shift)
def _(A: Shift, B: Shift) -> op.Operator:
    return Shift(A.in_dim, A.steps + B.steps)


@op.matmul.register(Shift, op.Operator)
def _(A: Shift, B: op.Operator) -> op.Operator:
    return B if A.steps == 0 else NotImplemented


@op.add.register(Shift, Shift)
def _(A: Shift, B: Shift) -> op.Operator:
    return op.Scaled(A, 2.0) if A.steps == B.steps else NotImplemented


@op.adjoint.register(Shift)
def _(A: Shift) -> op.Operator:
    return Shift(A.in_dim, -A.steps)


def test_rules_of_a_users_operator_are_asked_first_and_may_decline() -> None:
    A, D = Shift(6, 2), op.Diagonal(Z)
    assert isinstance(AA := A @ A, Shift)
    assert torch.equal(AA(Z), Z.roll(4))
    assert isinstance(A.T, Shift)
    assert torch.equal((A.T @ A @ D)(Z), Z * Z)
    assert torch.equal((A @ D)(Z), (Z * Z).roll(2))
    assert isinstance(A @ D, op.Product)
    assert torch.equal((A + A)(Z), 2 * Z.roll(2))
    assert isinstance(A + A.T, op.Sum)


def test_rules_see_operands_that_fit() -> None:
    with pytest.raises(ShapeError, match=r"inner dimensions\.$"):
        Shift(6, 1) @ Shift(5, 1)
    with pytest.raises(ShapeError, match=r"one shape\.$"):
        Shift(6, 1) + Shift(5, 1)


@pytest.mark.parametrize(
    ("a", "b", "fits"),
    [
        ((2, 3), (4, 2), "B @ A"),
        ((2, 3), (2, 4), "A.T @ B"),
        ((2, 3), (4, 3), "A @ B.T"),
        ((2, 3), (2, 3), "A.T @ B or A @ B.T"),
    ],
)
def test_operands_that_do_not_fit_name_the_product_or_sum_that_does(
    a: tuple[int, int], b: tuple[int, int], fits: str
) -> None:
    A, B = (op.Dense(torch.rand(*shape)) for shape in (a, b))
    for product in (lambda: A @ B, lambda: op.Product(A, B)):
        with pytest.raises(ShapeError, match=rf"inner dimensions\. Write {re.escape(fits)}\."):
            product()
    fitting = {"B @ A": (B, A), "A.T @ B": (A.T, B), "A @ B.T": (A, B.T)}
    for text in fits.split(" or "):
        left, right = fitting[text]
        assert (left @ right).out_dim == left.out_dim
    for total in (lambda: A + A.T, lambda: op.Sum(A, A.T)):
        with pytest.raises(ShapeError, match=r"one shape\. Write A \+ B\.T\."):
            total()


def test_operators_say_how_rows_sizes_and_bases_are_written() -> None:
    with pytest.raises(ConfigError, match=r"Dense\(torch\.tensor\(rows\)\)"):
        op.Dense([[1.0, 2.0]])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Leave in_dim and out_dim out"):
        op.Dense(3, weight=torch.rand(3, 2))
    basis = torch.rand(2, 6)
    with pytest.raises(ShapeError, match=r"basis of shape \(2, 6\).* Write basis\.T\.$"):
        op.Idempotent(6, 2, basis=basis)
    assert op.Idempotent(6, 2, basis=basis.T).rank == 2
    with pytest.raises(ShapeError, match=r"expected \(6, 2\)\.$"):
        op.Idempotent(6, 2, basis=torch.rand(6, 3))
