"""Every operator, verb, dtype and scale against NumPy: the right value or one clear error."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.torch
import scipy.linalg
import torch
from torch import Tensor

import rectilinear as rl
from makers_data import every
from makers_operators import OPERATORS, RECTANGULAR
from rectilinear import operators as op
from rectilinear.errors import NonFiniteError, RectilinearError, SingularOperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rectilinear.operators import Operator

pytestmark = pytest.mark.filterwarnings("ignore::rectilinear.errors.StructureWarning")
MAKERS = OPERATORS + RECTANGULAR
DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
]
SCALES = [1e-42, 1e-30, 1e-20, 1.0, 1e19, 1e30]


def complex_operator(A: Operator, dtype: torch.dtype) -> Operator:
    """``A`` with imaginary parts wherever its numbers are free."""
    A = A.to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, x in [*A.named_parameters(), *A.named_buffers()]:
            if x.is_complex() and name.split(".")[-1] not in ("matrix", "q"):
                x += 0.2j * torch.randn(x.shape, dtype=torch.float64, generator=generator).to(dtype)
    return A


def made(make: Callable[[], Operator], dtype: torch.dtype) -> Operator:
    A = make()
    return complex_operator(A, dtype) if dtype.is_complex else A.to(dtype)


def exact(A: Operator) -> np.ndarray:
    """The matrix in double precision, from the operator's own numbers where they can be converted."""
    eye = torch.eye(A.in_dim, dtype=A.like.dtype)
    with torch.no_grad():
        m = torch.stack([A(row) for row in eye], -1)
    return m.to(torch.complex128 if m.is_complex() else torch.float64).numpy()


def error(got: Tensor | Operator, want: np.ndarray, size: float = 0.0) -> float:
    value = op.to_dense(got) if isinstance(got, op.Operator) else got
    assert torch.isfinite(value).all(), "never NaN"
    value = (
        value.detach()
        .resolve_conj()
        .to(torch.complex128 if value.is_complex() else torch.float64)
        .numpy()
    )
    size = max(float(np.abs(want).max(initial=0.0)), size) or 1.0
    return float(np.abs(value / size - want / size).max(initial=0.0))


def eps(A: Operator) -> float:
    return float(torch.finfo(A.like.dtype).eps)


@every(MAKERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.each_value
def test_adjoints_and_factors(make: Callable[[], Operator], dtype: torch.dtype) -> None:
    try:
        A = made(make, dtype)
        m = exact(A)
    except RectilinearError:
        assert dtype.is_complex
        return
    tol = 1e-9 * (1 + float(np.abs(m).max()))
    for B in (A.T, A.H, op.adjoint(A)):
        assert error(B, m.conj().T) < tol
    generator = torch.Generator().manual_seed(2)
    z, y = (torch.randn(3, n, dtype=dtype, generator=generator) for n in (A.in_dim, A.out_dim))
    left, right = (A(z) * y.conj()).sum(-1), (z * A.apply_adjoint(y).conj()).sum(-1)
    assert float((left - right).detach().abs().max()) < tol * 10
    u, s, v = rl.svd(A)
    assert not s.is_complex()
    U, V = (op.to_dense(x).detach().resolve_conj().numpy() for x in (u, v))
    assert np.abs(U * s.detach().numpy() @ V.conj().T - m).max() < tol
    assert np.abs(U.conj().T @ U - np.eye(len(s))).max() < 1e-9
    assert np.abs(V.conj().T @ V - np.eye(len(s))).max() < 1e-9
    want = np.linalg.svd(m, compute_uv=False)[: len(s)]
    assert error(s, want) < 1e-9
    assert error(op.svdvals(A), want) < 1e-9
    one = np.eye(A.out_dim), np.eye(A.in_dim)
    inverse = np.linalg.pinv(m, rcond=1e-10)
    P, N = rl.project_range(A), rl.project_null(A)
    assert error(P, m @ inverse, 1.0) < 1e-8
    assert error(N, one[1] - inverse @ m, 1.0) < 1e-8
    assert error(P @ P, m @ inverse, 1.0) < 1e-8
    assert error(rl.pinv(A), inverse) < 1e-8
    assert error(rl.pinv(A), np.linalg.pinv(m, rcond=1e-10)) < 1e-8
    damped = np.linalg.solve(m.conj().T @ m + 0.1 * one[1], m.conj().T @ y[0].numpy())
    assert error(rl.solve(A, y[0], damping=0.1), damped) < 1e-8
    assert error(rl.solve(A, y[0]), inverse @ y[0].numpy()) < 1e-8
    k = min(2, len(s))
    full = np.linalg.svd(m)
    if len(full[1]) <= k or full[1][k - 1] - full[1][k] > 1e-6:
        best = full[0][:, :k] * full[1][:k] @ full[2][:k]
        assert error(rl.truncate(A, k), best) < 1e-8
    assert error(A.H @ A, m.conj().T @ m) < 1e-9
    assert error(A @ A.H, m @ m.conj().T) < 1e-9
    assert error(op.Sum(A, A) + A, 3 * m) < 1e-9


@every(MAKERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.each_value
def test_functions(make: Callable[[], Operator], dtype: torch.dtype) -> None:
    try:
        A = made(make, dtype)
        m = exact(A)
    except RectilinearError:
        return
    if not A.is_square:
        return
    values, vectors = rl.eig(A)
    V = op.to_dense(vectors).detach().to(torch.complex128).numpy()
    assert np.abs(m @ V - V * values.detach().numpy()).max() < 1e-8 * (1 + np.abs(m).max())
    assert error(rl.expm(A, 0.5), scipy.linalg.expm(0.5 * m)) < 1e-8
    assert error(A**3, m @ m @ m) < 1e-8
    log = np.linalg.slogdet(m)[1]
    if log > -15:
        assert float(rl.logdet(A).detach()) == pytest.approx(log, abs=1e-8)
    else:
        assert float(rl.logdet(A).detach()) < -15
    for verb, want in ((rl.logm, scipy.linalg.logm), (lambda B: B**0.5, scipy.linalg.sqrtm)):
        try:
            got = verb(A)
        except SingularOperatorError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = np.asarray(want(m))
        assert error(got, reference) < 1e-6


LAWFUL = [
    "dense",
    "diagonal",
    "identity",
    "scalar-low-rank",
    "core",
    "spectral",
    "circular",
    "circular-mixing",
    "kronecker",
    "scaled",
    "low-rank",
    "scalar-zero",
    "projection",
    "orthogonal",
    "dense-tall",
    "dense-wide",
    "product-thin",
    "sum",
]


@pytest.mark.parametrize("name", LAWFUL)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.each_value
def test_scales(name: str, dtype: torch.dtype) -> None:
    """At each scale the value of NumPy in double precision, or an error; an error only near the
    ends of the range.
    """
    make = dict(MAKERS)[name]
    for scale in SCALES:
        try:
            A = made(make, dtype) * scale
            m = exact(A)
        except RectilinearError:
            continue
        if not np.isfinite(m).all() or not np.abs(m).max():
            continue
        s = np.linalg.svd(m, compute_uv=False)
        kept = s[s > 100 * eps(A) * s[0]]
        easy = len(kept) == len(s) and s[-1] > 0.02 * s[0]
        tiny, huge = float(torch.finfo(dtype).tiny) * 1e3, float(torch.finfo(dtype).max) / 1e3
        if s[0] < tiny or s[0] > huge:
            easy = False
        y = torch.ones(A.out_dim, dtype=dtype)
        inverse = np.linalg.pinv(m, rcond=1e-14) if easy else None
        tol = 200 * eps(A) * (s[0] / kept[-1])
        cases: list[tuple[str, Callable[[], Tensor | Operator], np.ndarray | None]] = [
            ("svdvals", lambda A=A: op.svdvals(A), s[: min(m.shape)]),
            (
                "norm",
                lambda A=A: rl.norm(A, "frobenius"),
                np.array(np.sqrt(((m / s[0]) * (m / s[0]).conj()).sum().real) * s[0]),
            ),
            ("pinv", lambda A=A: rl.pinv(A), inverse),
            (
                "solve",
                lambda A=A, y=y: rl.solve(A, y),
                None if inverse is None else inverse @ np.ones(A.out_dim),
            ),
            ("range", lambda A=A: rl.project_range(A), m @ inverse if easy else None),
        ]
        for verb, run, want in cases:
            try:
                got = run()
            except NonFiniteError:
                inside = (
                    want is not None and tiny < np.abs(want).max() < huge and tiny < s[0] < huge
                )
                assert not inside, (verb, scale, "refused within the range")
                continue
            if want is None or s[0] < tiny:
                assert torch.isfinite(
                    op.to_dense(got) if isinstance(got, op.Operator) else got
                ).all()
                continue
            if verb == "svdvals" and isinstance(got, Tensor):
                want = want[: len(got)]
            assert error(got, want) < tol, (verb, scale)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@every(MAKERS)
def test_nan_and_infinity_never_give_a_number(make: Callable[[], Operator], bad: float) -> None:
    A = make()
    held = [x for x in [*A.parameters(), *A.buffers()] if x.is_floating_point() and x.numel()]
    if not held:
        return
    held[-1].data[(0,) * held[-1].ndim] = bad
    verbs: list[Callable[[], object]] = [
        lambda: rl.svd(A),
        lambda: op.svdvals(A),
        lambda: rl.pinv(A),
        lambda: rl.rank(A),
        lambda: rl.cond(A),
        lambda: rl.norm(A),
        lambda: rl.project_range(A),
        lambda: rl.project_null(A),
        lambda: rl.truncate(A, 1),
        lambda: rl.solve(A, torch.ones(A.out_dim).double()),
    ]
    if A.is_square:
        verbs += [
            lambda: rl.logdet(A),
            lambda: rl.eig(A),
            lambda: rl.expm(A),
            lambda: rl.logm(A),
            lambda: A**2,
            lambda: A**0.5,
        ]
    for run in verbs:
        with pytest.raises(RectilinearError):
            run()


def test_overflow_is_an_error() -> None:
    I = op.Identity(3)  # noqa: E741
    runs: list[Callable[[], object]] = [
        lambda: rl.power(2 * I, 2000),
        lambda: rl.power(op.Dense(2 * torch.eye(3)), 2000),
        lambda: rl.pinv(1e-42 * I),
        lambda: rl.power(op.Diagonal(2 * torch.ones(3)), 2000),
        lambda: rl.pinv(op.Dense(1e-42 * torch.eye(3))),
        lambda: rl.pinv(op.Diagonal(torch.full((3,), 1e-42))),
        lambda: rl.expm(1000 * I),
        lambda: rl.expm(op.Diagonal(torch.full((3,), 1000.0))),
        lambda: rl.power(op.Spectral(I, torch.full((2,), 3.0), torch.ones(1)), 900),
        lambda: rl.power(op.Kronecker(2 * I, 2 * I), 2000),
        lambda: rl.logdet(op.Dense(torch.full((2, 2), float("nan")))),
        lambda: rl.power(op.Convolution((1, 3), torch.tensor([[0.0, 2.0, 0.0]])), 2000),
        lambda: rl.pinv(op.Dense((1e-5 * torch.eye(3)).half())),
        lambda: rl.norm(op.Dense(torch.full((40, 40), 6e4).half())),
        lambda: rl.power(
            op.ScalarPlusLowRank(torch.tensor(2.0), torch.ones(3, 1), torch.ones(3, 1)), 2000
        ),
    ]
    for run in runs:
        with pytest.raises(NonFiniteError):
            run()
    assert torch.equal(op.to_dense(rl.power(2 * I, 20)), 2.0**20 * torch.eye(3))
    assert float(rl.cond(op.Dense(torch.zeros(2, 2)))) == float("inf")
    assert float(rl.logdet(op.Dense(torch.zeros(2, 2)))) == -float("inf")
    assert rl.solve(
        op.Diagonal(torch.tensor([1e30])), torch.ones(1), damping=1.0
    ).item() == pytest.approx(1e-30)


def test_a_matrix_is_an_operator() -> None:
    m = torch.randn(3, 5)
    for A in (
        op.Dense(m),
        op.Dense(m.numpy()),
        op.Dense(weight=m.numpy()),
        op.Dense(m, trainable=False),
    ):
        assert (A.out_dim, A.in_dim) == (3, 5)
        assert torch.equal(A(torch.eye(5)).T, m)
    weight = torch.nn.Linear(4, 2).weight
    assert op.Dense(weight).weight is weight
    assert op.Dense(m[None].expand(4, 3, 5)).batch_shape == (4,)
    for wrong in (m[0], [[1.0, 2.0]], 2.5, "3", torch.ones(2, 2, dtype=torch.int64)):
        with pytest.raises(RectilinearError):
            op.Dense(wrong)
    with pytest.raises(RectilinearError, match="3 x 5"):
        op.Dense(2, 3, weight=m)
    with pytest.raises(RectilinearError, match="two matrices"):
        op.Dense(m, weight=m)


def test_a_matrix_is_saved_as_it_is_now(tmp_path) -> None:
    A = op.Dense(torch.randn(3, 5))
    with torch.no_grad():
        A.weight += 1
    A.save_pretrained(tmp_path)
    assert torch.equal(rl.from_pretrained(tmp_path).weight, A.weight)
    assert len(safetensors.torch.load_file(tmp_path / "model.safetensors")) == 1, "written once"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    g = rl.invertible.VectorFlow(4, 2, 8).to(dtype)
    f = rl.Linearizer(g, op.Dense(torch.randn(4, 4, dtype=dtype)))
    S = op.ScalarPlusLowRank(*(torch.rand(n, dtype=dtype) for n in ((), (4, 1), (4, 1))))
    x = torch.randn(3, 4, dtype=dtype)
    runs: list[Callable[[], Tensor]] = [
        lambda: f.operator(x),
        lambda: S(x),
        lambda: (f.operator @ S)(x),
        lambda: (f.operator + S).apply_adjoint(x),
        lambda: op.svdvals(f.operator),
        lambda: rl.pinv(S)(x),
        lambda: rl.expm(S)(x),
        lambda: rl.solve(S, x),
        lambda: (S @ S)(x),
        lambda: op.Kronecker(f.operator, S)(torch.ones(16, dtype=dtype)),
        lambda: op.Scaled(op.Orthogonal(4).to(dtype), 0.3)(x)[:, :0],
    ]
    for run in runs:
        want = run()
        with torch.autocast("cpu", torch.bfloat16):
            got = run()
        assert got.dtype == want.dtype
        assert torch.equal(got, want)
    with torch.autocast("cpu", torch.bfloat16):
        assert f(x).dtype == dtype
        assert f.operator(x.bfloat16()).dtype == dtype
        f(x).sum().backward()
    with pytest.raises(RectilinearError, match="one dtype"):
        f.operator(x.bfloat16())


def test_gradients_pass_through_half_precision() -> None:
    A = op.Dense((torch.eye(3) + 0.1).half())
    rl.solve(A, torch.ones(3).half()).sum().backward()
    B = op.Dense((torch.eye(3) + 0.1).half().float())
    rl.solve(B, torch.ones(3)).sum().backward()
    assert A.weight.grad is not None
    assert A.weight.grad.dtype == torch.float16
    assert torch.allclose(A.weight.grad.float(), B.weight.grad, atol=5e-3)


def test_complex_numbers() -> None:
    A, C = op.Dense(torch.eye(2)), op.Dense(torch.eye(2) + 0j)
    for factor in (1j, torch.tensor(1j)):
        with pytest.raises(RectilinearError, match="complex"):
            A * factor
        assert torch.equal(op.to_dense(factor * C), 1j * torch.eye(2))
        assert torch.equal(op.to_dense((factor * C).H), -1j * torch.eye(2))
    with pytest.raises(RectilinearError):
        op.Spectral(op.Identity(2), torch.ones(1) + 0j, torch.ones(1))
    waves = op.Fourier((1, 4), like=torch.ones((), dtype=torch.complex128))
    m = op.to_dense(waves)
    assert torch.allclose(op.to_dense(waves.H) @ m, torch.eye(4, dtype=torch.complex128))
    assert torch.allclose(op.to_dense(rl.pinv(waves)) @ m, torch.eye(4, dtype=torch.complex128))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 3)])
def test_layouts_and_small_shapes(shape: tuple[int, int]) -> None:
    """Transposed, strided, expanded and read-only memory: the same numbers."""
    base = torch.randn(2 * shape[0], 2 * shape[1], dtype=torch.float64)
    views = [
        base[::2, ::2],
        base.T[: shape[1], : shape[0]].T,
        torch.randn(1, 1).double().expand(*shape),
    ]
    for view in views:
        A, B = op.Dense(view), op.Dense(view.clone().contiguous())
        for verb in (rl.pinv, rl.project_range, lambda x: rl.truncate(x, 1)):
            assert torch.allclose(op.to_dense(verb(A)), op.to_dense(verb(B)), atol=1e-12)
        assert torch.allclose(op.svdvals(A), op.svdvals(B))


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_no_rows_or_columns(shape: tuple[int, int]) -> None:
    A = op.Dense(torch.zeros(*shape))
    assert A(torch.zeros(2, shape[1])).shape == (2, shape[0])
    runs: list[Callable[[], object]] = [
        lambda: rl.pinv(A),
        lambda: rl.svd(A),
        lambda: rl.project_range(A),
        lambda: rl.rank(A),
        lambda: rl.norm(A),
        lambda: rl.cond(A),
        lambda: rl.truncate(A, 1),
        lambda: rl.solve(A, torch.zeros(shape[0])),
        lambda: rl.logdet(A),
        lambda: rl.eig(A),
        lambda: A**2,
        lambda: rl.expm(A),
        lambda: rl.project_null(A),
        lambda: rl.norm(A, "nuclear"),
    ]
    for run in runs:
        try:
            run()
        except RectilinearError:
            continue


def test_a_wrong_device_is_one_clear_error() -> None:
    A = op.Dense(torch.eye(3))
    with pytest.raises(RectilinearError, match="device"):
        A(torch.ones(3, device="meta"))
    with pytest.raises(RectilinearError, match="device"):
        op.Dense(torch.eye(3, device="meta"))(torch.ones(3))
