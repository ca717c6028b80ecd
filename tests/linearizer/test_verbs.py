"""The verbs on Linearizers, each against the matrix between the coordinates."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rectilinear as rl
from makers_data import TOLERANCE, close, rand
from makers_invertible import perturb
from rectilinear.errors import DtypeError

seeds = st.integers(0, 2**16)
quick = settings(max_examples=15, deadline=None)


def network(seed: int, dim: int) -> rl.invertible.Invertible:
    return perturb(rl.invertible.VectorFlow(dim, blocks=3, width=8).double(), seed=seed).eval()


G, H = network(1, 4), network(2, 3)


def wide(seed: int, rank: int = 3) -> rl.Linearizer:
    """From 4 to 3 dimensions, with singular values between 1 and 3."""
    u, v = (torch.linalg.qr(rand(n, 3, seed=seed + n)).Q for n in (3, 4))
    s = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)[:rank]
    return rl.Linearizer(
        G, rl.operators.Dense(weight=u[:, :rank] * s @ v[:, :rank].T, trainable=False), H
    )


def positive(seed: int) -> rl.Linearizer:
    """Of one space, with eigenvalues off the negative axis."""
    m = rand(4, 4, seed=seed) / 4
    return rl.Linearizer(G, rl.operators.Dense(weight=torch.linalg.matrix_exp(m), trainable=False))


def weight(f: rl.Linearizer) -> Tensor:
    return rl.to_dense(f.operator)


@quick
@given(seeds)
def test_svd(seed: int) -> None:
    f = wide(seed)
    u, s, v = system = rl.svd(f)
    assert close(s, torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    whole = u @ rl.Linearizer(u.g_in, rl.operators.Diagonal(s)) @ v.T
    x = rand(2, 4, seed=seed)
    assert close(whole(x), f(x))
    left, right = system.left_points(), system.right_points(2)
    assert (left.shape, right.shape) == ((3, 3), (2, 4))
    assert close(f(right), f.out_space.scale(s[:2], left[:2]))
    assert close(f.out_space.encode(left) @ f.out_space.encode(left).T, torch.eye(3).double())
    assert close(f.in_space.inner(right[:1], right[1:]), torch.zeros(1).double())


@quick
@given(seeds, st.integers(1, 3))
def test_truncate(seed: int, k: int) -> None:
    f, x = wide(seed), rand(2, 4, seed=seed)
    u, s, vh = torch.linalg.svd(weight(f), full_matrices=False)
    assert close(rl.truncate(f, k)(x), H.inverse(G(x) @ (u[:, :k] * s[:k] @ vh[:k]).T))
    assert int(rl.rank(rl.truncate(f, k))) == k


@quick
@given(seeds)
def test_eig(seed: int) -> None:
    f = rl.Linearizer(G, rl.operators.Dense(weight=rand(4, 4, seed=seed)))
    system = rl.eig(f)
    reference = torch.linalg.eigvals(weight(f))
    assert torch.allclose(system.values.abs(), reference.abs().sort(descending=True).values)
    p, q = system.points()
    space, a, b = f.in_space, system.values.real, system.values.imag
    assert close(f(p), space.add(space.scale(a, p), space.scale(-b, q)), 1e-8)
    assert close(f(q), space.add(space.scale(b, p), space.scale(a, q)), 1e-8)
    assert system.points(1)[0].shape == (1, 4)


@quick
@given(seeds, st.integers(1, 3))
def test_pinv_and_least_squares(seed: int, rank: int) -> None:
    f, y = wide(seed, rank), rand(2, 3, seed=seed)
    inverse = torch.linalg.pinv(weight(f), rtol=1e-10)
    assert close(rl.pinv(f)(y), G.inverse(H(y) @ inverse.T))
    assert close(rl.solve(f, y), rl.pinv(f)(y))
    assert close(rl.solve(f, f.out_space(y)).point, rl.pinv(f)(y))
    m, damping = weight(f), 0.3
    ridge = torch.linalg.solve(m.T @ m + damping * torch.eye(4).double(), m.T)
    assert close(rl.solve(f, y, damping=damping), G.inverse(H(y) @ ridge.T))


def test_pinv_cuts_off() -> None:
    f, y = wide(0), rand(2, 3)
    assert close(rl.pinv(f, rtol=0.5)(y), rl.pinv(rl.truncate(f, 2))(y))


@quick
@given(seeds, st.integers(1, 3))
def test_projections(seed: int, rank: int) -> None:
    f, x, y = wide(seed, rank), rand(2, 4, seed=seed), rand(2, 3, seed=seed + 1)
    onto, null = rl.project_range(f), rl.project_null(f)
    m = weight(f)
    inverse = torch.linalg.pinv(m, rtol=1e-10)
    assert close(onto(y), H.inverse(H(y) @ (m @ inverse).T))
    assert close(null(x), G.inverse(G(x) @ (torch.eye(4).double() - inverse @ m).T))
    assert close(onto(onto(y)), onto(y))
    assert close(rl.project(f, y), onto(y))
    assert close(rl.project(f, f.out_space(y)).point, onto(y))
    assert close(rl.project(f.operator, y), y @ (m @ inverse).T)


@quick
@given(seeds, st.floats(-2, 2), st.floats(-2, 2))
def test_powers_and_semigroup(seed: int, s: float, t: float) -> None:
    f, x = positive(seed), rand(2, 4, seed=seed)
    m = torch.linalg.matrix_exp(t * rand(4, 4, seed=seed) / 4)
    assert close((f**t)(x), G.inverse(G(x) @ m.T), 1e-8)
    assert close((f**s @ f**t)(x), (f ** (s + t))(x), 1e-8)
    assert close((f**0.5 @ f**0.5)(x), f(x))
    assert close(rl.power(f, -1)(f(x)), x)
    log = rl.logm(f)
    assert close(rl.expm(log)(x), f(x))
    assert close((rl.expm(log, s) @ rl.expm(log, t))(x), rl.expm(log, s + t)(x), 1e-8)


@quick
@given(seeds, st.integers(1, 3))
def test_numbers(seed: int, rank: int) -> None:
    f = wide(seed, rank)
    assert int(rl.rank(f)) == rank
    assert rl.norm(f).item() == pytest.approx(3.0)
    assert float(rl.norm(f, "frobenius")) == pytest.approx((14.0, 13.0, 9.0)[3 - rank] ** 0.5)
    if rank == 3:
        assert float(rl.cond(f)) == pytest.approx(3.0)
    g = positive(seed)
    assert float(rl.logdet(g)) == pytest.approx(float(torch.linalg.slogdet(weight(g)).logabsdet))


@quick
@given(seeds)
def test_norm_is_the_lipschitz_constant(seed: int) -> None:
    f, x, y = wide(seed), rand(50, 4, seed=seed), rand(50, 4, seed=seed + 1)
    stretch = f.out_space.distance(f(x), f(y)) / f.in_space.distance(x, y)
    assert float(stretch.max()) <= float(rl.norm(f)) * (1 + TOLERANCE)
    top = rl.svd(f).right_points(1)
    assert float(f.out_space.norm(f(top))) == pytest.approx(float(rl.norm(f)))


def test_other_types_are_refused() -> None:
    for verb in (rl.svd, rl.pinv, rl.rank, rl.norm):
        with pytest.raises(DtypeError, match="Linearizer"):
            verb(torch.eye(3))
