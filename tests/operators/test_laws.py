"""Every operator on the list has every property, against its dense twin."""

from __future__ import annotations

import warnings
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rectilinear.operators as op
import references_operators as ref
from makers_data import every
from makers_operators import BATCHED, DIM, IRREGULAR, OPERATORS, RECTANGULAR, REGULAR
from rectilinear.checks import tolerance
from rectilinear.errors import SingularOperatorError, StructureWarning

pytestmark = pytest.mark.filterwarnings("ignore::rectilinear.errors.StructureWarning")
ALLOWED = tolerance(torch.float64, scale=1e3)
reals = st.floats(-3, 3, allow_nan=False)
seeds = st.integers(0, 2**31)
few = settings(deadline=None, max_examples=5)


def close(a: torch.Tensor, b: torch.Tensor, scale: float = 1.0) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() <= ALLOWED * (scale + b.abs().max())


def dense(A: op.Operator) -> torch.Tensor:
    return op.to_dense(A).detach()


OTHERS = [(B, ref.matrix(B)) for B in (make() for _, make in OPERATORS)]
KINDS = list({type(B): (B, M) for B, M in OTHERS}.values())  # one of each class


def vectors(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@every(OPERATORS, RECTANGULAR)
@given(a=reals, b=reals, seed=seeds)
@few
def test_linear_and_adjoint(make, a: float, b: float, seed: int) -> None:
    A = make()
    x, y, w = (
        vectors(seed, 4, A.in_dim),
        vectors(seed + 1, A.in_dim),
        vectors(seed + 2, 4, A.out_dim),
    )
    close(A(a * x + b * y), a * A(x) + b * A(y))
    close((A(x) * w).sum(-1), (x * A.apply_adjoint(w)).sum(-1))
    close(A(x), x @ ref.matrix(A).mT)


@every(OPERATORS, RECTANGULAR, BATCHED)
def test_matrix_and_adjoint_operator(make) -> None:
    A = make()
    close(dense(A), ref.matrix(A))
    close(dense(A.T), ref.matrix(A).mT)
    close(dense(A.T.T), ref.matrix(A))


@every(OPERATORS, RECTANGULAR, BATCHED)
def test_svd(make) -> None:
    A = make()
    M = ref.matrix(A)
    u, s, v = op.svd(A)
    U, V = dense(u), dense(v)
    eye = torch.eye(s.shape[-1], dtype=s.dtype).expand(*A.batch_shape, -1, -1)
    close((U.mT @ U).expand_as(eye), eye)
    close((V.mT @ V).expand_as(eye), eye)
    close(U * s[..., None, :] @ V.mT, M)
    assert (s.diff(dim=-1) <= 0).all()
    exact = torch.linalg.svdvals(M)[..., : s.shape[-1]]
    close(s, exact)
    close(op.svdvals(A), exact)


@every(OPERATORS, RECTANGULAR, BATCHED)
def test_penrose(make) -> None:
    A = make()
    M, X = ref.matrix(A), dense(op.pinv(A))
    for got, expected in ((M @ X @ M, M), (X @ M @ X, X), (M @ X, (M @ X).mT), (X @ M, (X @ M).mT)):
        close(got, expected)


@every(OPERATORS, RECTANGULAR)
def test_measures(make) -> None:
    A = make()
    M = ref.matrix(A)
    s = torch.linalg.svdvals(M)
    assert int(op.rank(A)) == int(torch.linalg.matrix_rank(M))
    close(op.norm(A), s[0])
    close(op.norm(A, "frobenius"), s.norm())
    close(op.norm(A, "nuclear"), s.sum())
    if s[-1] > 1e-8:
        assert torch.isclose(op.cond(A), s[0] / s[-1])
    else:
        assert op.cond(A) > 1e12
    if A.is_square and s[-1] > 1e-8:
        close(op.logdet(A), torch.linalg.slogdet(M).logabsdet)
    elif A.is_square:
        assert op.logdet(A) < -20


@every(OPERATORS, RECTANGULAR)
def test_projections(make) -> None:
    A = make()
    M = ref.matrix(A)
    X = torch.linalg.pinv(M, rtol=1e-10)
    close(dense(op.project_range(A)), M @ X)
    close(dense(op.project_null(A)), torch.eye(A.in_dim, dtype=M.dtype) - X @ M)


@every(OPERATORS, RECTANGULAR)
def test_solve(make) -> None:
    A = make()
    M, y = ref.matrix(A), vectors(3, 5, A.out_dim)
    close(op.solve(A, y), y @ torch.linalg.pinv(M, rtol=1e-10).mT)
    damped = torch.linalg.solve(M.mT @ M + 0.1 * torch.eye(A.in_dim, dtype=M.dtype), M.mT @ y.mT).mT
    close(op.solve(A, y, damping=0.1), damped)


@every(OPERATORS, RECTANGULAR)
def test_truncate_is_the_best_of_its_rank(make) -> None:
    A = make()
    s = torch.linalg.svdvals(ref.matrix(A))
    B = dense(op.truncate(A, 1))
    assert torch.linalg.matrix_rank(B, rtol=1e-10) <= 1
    close(torch.linalg.matrix_norm(ref.matrix(A) - B, 2), s[1])


@every(OPERATORS)
def test_eig(make) -> None:
    A = make()
    values, vectors_ = op.eig(A)
    V = op.to_dense(vectors_).detach().to(torch.complex128)
    M = ref.matrix(A).to(torch.complex128)
    close(M @ V, V * values)
    close(V.norm(dim=0), torch.ones(DIM, dtype=torch.float64))
    exact = torch.linalg.eigvals(ref.matrix(A))
    assert ref.same_multiset(values, exact, 1e-6)


@every(OPERATORS)
@given(s=reals, t=reals)
@few
def test_expm_is_a_semigroup(make, s: float, t: float) -> None:
    A = make() * 0.5
    M = ref.matrix(A)
    close(dense(op.expm(A, t)), ref.expm(t * M))
    left, right = op.expm(A, s), op.expm(A, t)
    close(
        dense(left @ right),
        ref.expm((s + t) * M),
        scale=float(dense(left).norm() * dense(right).norm()),
    )


@every(REGULAR)
def test_logm_is_the_inverse_of_expm(make) -> None:
    A = make()
    close(dense(op.expm(op.logm(A))), ref.matrix(A))
    close(dense(op.logm(A)), ref.logm(ref.matrix(A)))


@every(REGULAR)
@pytest.mark.parametrize("p", [-2, -1, -0.3, 0, 0.5, 1, 1.7, 3])
@pytest.mark.each_value
def test_real_powers(make, p: float) -> None:
    A = make()
    close(dense(A**p), ref.power(ref.matrix(A), p))


@every(REGULAR)
def test_roots_compose(make) -> None:
    A = make()
    close(dense(A**0.5 @ A**0.5), ref.matrix(A))


@every(IRREGULAR)
def test_powers_that_do_not_exist(make) -> None:
    A = make()
    M = ref.matrix(A)
    close(dense(A**3), M @ M @ M)
    values = torch.linalg.eigvals(M)
    scale = values.abs().max()
    if (values.abs() < 1e-10 * scale).any():
        for p in (-1, -0.5):
            with pytest.raises(SingularOperatorError, match=r"singular|negative"):
                A**p
        with pytest.raises(SingularOperatorError):
            op.logm(A)
    if ((values.real < -1e-8) & (values.imag.abs() < 1e-12)).any():
        with pytest.raises(SingularOperatorError, match="negative eigenvalue"):
            A**0.5
    elif "low-rank" not in ref.name_of(make, IRREGULAR):
        close(dense(A**0.5 @ A**0.5), M)


@every(BATCHED)
def test_batched_is_one_by_one(make) -> None:
    A = make()
    M, z = ref.matrix(A), vectors(0, 5, 3, DIM)
    assert A.batch_shape == (3,)
    close(A(z), torch.stack([z[:, i] @ M[i].mT for i in range(3)], 1))
    close(A.apply_adjoint(z), torch.stack([z[:, i] @ M[i] for i in range(3)], 1))
    close(dense(A @ A), M @ M)
    close(dense(A + A), 2 * M)
    close(
        dense(torch.tensor([1.0, 2.0, 3.0]) * A), torch.tensor([1.0, 2.0, 3.0])[:, None, None] * M
    )
    close(
        dense(op.expm(A, torch.tensor([0.1, 0.2, 0.3]))),
        ref.expm(torch.tensor([0.1, 0.2, 0.3])[:, None, None] * M),
    )
    close(
        op.solve(A, z[0], damping=0.1),
        torch.stack([ref.damped(M[i], z[0, i], 0.1) for i in range(3)]),
    )
    close(torch.linalg.matrix_norm(M - dense(op.truncate(A, 2)), 2), torch.linalg.svdvals(M)[:, 2])
    close(
        dense(op.project_range(A)), torch.stack([m @ torch.linalg.pinv(m, rtol=1e-10) for m in M])
    )
    assert op.rank(A).tolist() == torch.linalg.matrix_rank(M).tolist()


@every(OPERATORS)
@pytest.mark.parametrize(
    "others", [KINDS, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["kinds", "all"]
)
def test_sums_and_products_with_all_others(make, others) -> None:
    A = make()
    M = ref.matrix(A)
    for B, N in others:
        close(dense(A @ B), M @ N)
        close(dense(A + B), M + N)
        close(dense(2 * A - B / 4), 2 * M - N / 4)


@every(OPERATORS, RECTANGULAR, BATCHED)
def test_is_a_module(make) -> None:
    A = make()
    z = vectors(1, *A.batch_shape, A.in_dim)
    copy = deepcopy(A)
    close(copy(z), A(z))
    for name, tensor in copy.named_parameters():
        assert (
            not tensor.numel() or tensor.data_ptr() != dict(A.named_parameters())[name].data_ptr()
        )
    with torch.no_grad():
        for tensor in [*copy.parameters(), *copy.buffers()]:
            if tensor.is_floating_point() and not hasattr(copy, "matrix"):
                tensor.mul_(1.5)
    copy.load_state_dict(A.state_dict())
    close(copy(z), A(z))
    small = A.float()(z.float())
    assert small.dtype == torch.float32
    assert (small - copy(z)).abs().max() < 1e-4 * (
        1 + copy(z).abs().max()
    )  # float32 against float64


@every(REGULAR, IRREGULAR)
def test_results_are_modules(make) -> None:
    A = make()
    for B in (op.pinv(A), A.T, 2 * A + A, A @ A, op.expm(A), op.svd(A).u):
        close(deepcopy(B)(vectors(1, B.in_dim)), B(vectors(1, B.in_dim)))
        assert not any(tensor.requires_grad for tensor in deepcopy(B).buffers())


@every(OPERATORS)
def test_to_scipy(make) -> None:
    A = make()
    M = op.to_scipy(A)
    close(torch.from_numpy(M @ torch.eye(DIM, dtype=torch.float64).numpy()), ref.matrix(A))
    close(torch.from_numpy(M.rmatvec(vectors(0, DIM).numpy())), vectors(0, DIM) @ ref.matrix(A))


@every(OPERATORS, RECTANGULAR)
def test_saved_and_built_again(make, tmp_path) -> None:
    A = make()
    A.save_pretrained(tmp_path)
    close(type(A).from_pretrained(tmp_path)(vectors(0, A.in_dim)), A(vectors(0, A.in_dim)))


@pytest.mark.parametrize(
    "name",
    ["circular", "circular-mixing", "kronecker", "spectral", "scalar-low-rank", "core", "identity"],
)
def test_structure_is_kept_without_a_warning(name: str) -> None:
    A = dict(REGULAR)[name](24)
    with warnings.catch_warnings():
        warnings.simplefilter("error", StructureWarning)
        for B in (
            op.pinv(A),
            A**0.5,
            A @ A,
            A.T,
            2 * A,
            op.svd(A).u,
            op.project_range(A),
            op.logm(A),
        ):
            assert not isinstance(B, op.Dense)
